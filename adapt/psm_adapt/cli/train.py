"""psm-adapt train: learn a model from unlabelled faces, by one of the six published approaches."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psm_adapt import config
from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.config import TrainSettings
from psm_adapt.train.folder import LAST, SETTINGS
from psm_adapt.train.loop import Outcome
from psm_adapt.train.progress import Teller
from psm_stream.cli.common import Parser, put
from psm_stream.errors import ConfigError

_SHORT = {"data": "data.source", "out": "out", "epochs": "run.epochs", "device": "run.device"}
"""Short option, and the setting that it is; the setting's dotted key works, too."""
MAY_CHANGE = frozenset(
    {"out", "data.source", "data.layout", "vgg19", "licence"}
    | {f"run.{name}" for name in ("epochs", "device", "checkpoint_every", "preview_every", "collapse", "tensorboard")}
)
"""Settings that may be others when training goes on: they do not change what is learned."""
_EPILOG = """\
Any setting can be given by its dotted key, as in --optimiser.lr 1e-4; docs/training.md lists them.
On several GPUs or hosts: torchrun --nproc-per-node N -m psm_adapt train ...
Exit codes: 0 done; 1 training failed; 2 wrong arguments or settings; 130 interrupted, and --resume goes on."""


def job(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit code."""
    given = _parser().parse(arguments)
    settings = _settings(given)
    from psm_adapt.data.store import STORE  # after the arguments are known to be good: these imports cost time
    from psm_adapt.train.crops import store_of
    from psm_adapt.train.runs import Around, people_of, plan, train_one
    from psm_adapt.train.start import check_start
    from psm_adapt.train.world import join

    source = settings.data.source
    if source is not None and source.exists() and not (source / STORE).exists():
        check_start(settings)  # before hours of aligning
    with join(settings.run.device) as world, Teller(given.quiet or not world.is_first) as teller:
        store = store_of(settings.data, settings.out.parent, teller, world.size)
        for run in plan(settings, people_of(settings.data.people, store), given.resume):
            outcome = train_one(run, settings, Around(store, world, teller))
            if world.is_first:
                _report(run.folder, outcome, settings.run.epochs)
            if outcome.exit_code:
                return outcome.exit_code
    return 0


def _parser() -> Parser:
    parser = Parser(
        "psm-adapt train",
        "Learn a model from unlabelled faces, by one of the six published approaches (configs/train).",
        usage="psm-adapt train --config FILE [--data STORE_OR_FOLDER] [--out DIR] [options]",
        epilog=_EPILOG,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings, ours or the authors'; flags win")
    for name, metavar, text in (
        ("data", "PATH", "crop store, or a folder of videos to make one of"),
        ("out", "DIR", "folder of the run; if taken, a sub-folder named by the time"),
        ("epochs", "N", "train so many epochs in all"),
        ("device", "NAME", "auto, cpu or cuda"),
    ):
        names = dict.fromkeys((f"--{name}", f"--{_SHORT[name]}"))
        parser.add_argument(*names, dest=_SHORT[name], metavar=metavar, help=text)
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its own settings")
    parser.add_argument("--quiet", action="store_true", help="print errors and the result only")
    for key in config.dotted_keys():
        if key not in _SHORT.values():
            parser.add_argument(f"--{key}", dest=key, help=SUPPRESS)
    return parser


def _settings(given: Namespace) -> TrainSettings:
    overrides = _overrides(given)
    file = Path(given.config) if given.config else None
    if not given.resume:
        if file is None:
            raise ConfigError("--config is missing; configs/train has a file for each published approach")
        return config.load(file, overrides)
    if "out" not in overrides:
        raise ConfigError("--resume needs --out with the folder of the run to go on with")
    saved = Path(overrides["out"]) / SETTINGS
    if not saved.is_file():
        raise ConfigError(f"--resume: there is no {saved}; name the run's own folder with --out")
    now = config.load(saved, (config.set_in(file) if file else {}) | overrides)  # JSON is YAML
    _check_same(config.load(saved, {}), now)
    return now


def _overrides(given: Namespace) -> dict[str, Any]:
    """Dotted keys from the flags that were given."""
    values = {key: vars(given)[key] for key in config.dotted_keys()}
    return {key: value for key, value in values.items() if value is not None}


def _check_same(was: TrainSettings, now: TrainSettings) -> None:
    """Raise ConfigError when something that decides what is learned is not as it was."""
    for key in config.dotted_keys():
        before, after = (_at(settings, key) for settings in (was, now))
        if before != after and key not in MAY_CHANGE:
            raise ConfigError(
                f"--resume: {key} was {before}, now it is {after}; leave it as it was, or start a new run from "
                "--start_from with the run's last checkpoint"
            )


def _at(settings: TrainSettings, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _report(run_folder: Path, outcome: Outcome, epochs: int) -> None:
    if outcome.exit_code:
        put(
            f"stopped after step {outcome.steps}, in epoch {outcome.epochs + 1} of {epochs}; "
            f"go on with: psm-adapt train --resume --out {run_folder}",
            sys.stderr,
        )
        return
    about = open_checkpoint(run_folder / LAST).about
    put(
        f"{run_folder / LAST}: checkpoint {about.model_id} after {outcome.epochs} epochs, {outcome.steps} steps; "
        f"psm-export {run_folder / LAST} --out BUNDLE makes an encoder for psm-stream of it"
    )
