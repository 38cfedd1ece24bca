"""psm-adapt finetune: make a person's own model of videos, images, sessions, snapshots or crop stores."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from argparse import SUPPRESS, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import psutil

from psm_adapt.adaptation import recipes
from psm_adapt.adaptation.collecting import Collected, Taken, check_there, collect
from psm_adapt.adaptation.report import PAGE, Story, write_report
from psm_adapt.adaptation.snapshot import save_snapshot
from psm_adapt.adaptation.work import Outcome, WorkJob, open_base, run
from psm_adapt.data.gather import Outcome as Gathered
from psm_adapt.data.layouts import RecordingSource
from psm_adapt.train.folder import free_folder
from psm_adapt.train.progress import Teller, duration_in_words
from psm_stream import people, people_keep
from psm_stream.adaptation.layout import BUNDLE
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.cli.common import Parser, nearest, put
from psm_stream.errors import AdaptationError, ConfigError, PsmError
from psm_stream.models import FACE_LANDMARKER

SNAPSHOT = "snapshot.npz"
FACES, BUDGET_S = 1000, 3600.0
"""Where nobody waits, more faces and more time than beside a live stream."""

_SHORT = {"faces": "run.faces", "budget": "run.budget_s"}
"""Short option, and the recipe's key that it is; the dotted key works, too."""
_OWNER = ".finetune.json"
"""In a draft: the process that makes it, and its computer."""
_DRAFT = re.compile(r"\..+-[a-z0-9_]{8}")
_DEVICES = ("auto", "cpu", "cuda")
_PHASES = {
    "reading": ("screening the faces", 0.0),
    "training": ("", 0.02),
    "checking": ("comparing with the parent", 0.95),
    "exporting": ("writing the model", 0.97),
}
"""What is said of each, and the share of the bar at which it begins."""
_EPILOG = """\
INPUT is a video, a folder of images, a session recorded by psm-stream, a snapshot (.npz) or a crop store; several are
joined in this order, and the last fifth of the faces is held out. Any setting of the recipe can be given by its dotted
key, as in --run.epochs 3; docs/adaptation.md lists them.
Exit codes: 0 accepted; 1 rejected (the report says why) or failed; 2 wrong arguments; 130 interrupted."""


def job(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit code."""
    given = _parser().parse(arguments)
    overrides = _check(given)
    out = free_folder(Path(given.out) if given.out else Path("runs", "finetune", given.person))
    try:
        with Teller(given.quiet) as teller, _draft(out) as draft:
            outcome = _adapt(given, overrides, draft, teller)
            _hand_over(draft / "model", out)
    except KeyboardInterrupt:
        put("stopped; nothing was kept", sys.stderr)
        raise
    about = outcome.adaptation
    put(f"report: {out / PAGE}", sys.stderr)
    if not about.accepted:
        put(f"rejected: {about.reason}", sys.stderr)
        return 1
    folder = out / BUNDLE if given.no_keep else _keep(given.person, out)
    how = f"--model {folder}" if given.no_keep else f"--person {given.person}"
    put(f"model {about.model_id} in {folder}: {about.reason}; use it with: psm-stream {how}")
    return 0


def _hand_over(model: Path, out: Path) -> None:
    """Have the result appear, for its owner alone where the disk knows modes: it shows the person's face."""
    with suppress(OSError):
        model.chmod(0o700)
    model.rename(out)


def _keep(person: str, out: Path) -> Path:
    """Keep the model in `out`. Raises AdaptationError, which says how to do so later."""
    try:
        return people_keep.keep(person, out)
    except PsmError as error:
        raise AdaptationError(
            f"the model is whole in {out}, but it was not kept: {error}; when that is mended: psm-adapt people import "
            f"{out} --person {person}"
        ) from None


def _parser() -> Parser:
    parser = Parser(
        "psm-adapt finetune",
        "Make a person's own model, and a report of how it compares with the one that it was made from.",
        usage="psm-adapt finetune --person NAME INPUT... [options]",
        epilog=_EPILOG,
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="what shows the person")
    parser.add_argument("--person", metavar="NAME", required=True, help="who it is")
    parser.add_argument(
        "--from",
        dest="base",
        metavar="BASE",
        default=people.GENERAL,
        help="what to start from: general, person:NAME, person:NAME/NNN, or a model's or checkpoint's folder",
    )
    parser.add_argument("--config", metavar="RECIPE", default=recipes.AUTO, help="recipe: auto, a name or a YAML file")
    parser.add_argument("--out", metavar="DIR", help="folder for model and report; if taken, a sub-folder of it")
    for name, metavar, text in (
        ("faces", "N", f"at most so many faces, evenly spread; default {FACES}"),
        ("budget", "S", f"end training after so many seconds; default {BUDGET_S:.0f}"),
    ):
        parser.add_argument(f"--{name}", f"--{_SHORT[name]}", dest=_SHORT[name], metavar=metavar, help=text)
    parser.add_argument("--seed", metavar="N", default="0", help="of everything random; default 0")
    parser.add_argument("--device", metavar="NAME", default="auto", help=f"{', '.join(_DEVICES)}; default: auto")
    parser.add_argument(
        "--landmarker",
        metavar="FILE",
        nargs="?",
        const=str(FACE_LANDMARKER.path()),
        help="blendshapes, too, by the Face Landmarker, and a probe with them; default: what psm-doctor fetched",
    )
    parser.add_argument("--no-keep", action="store_true", help="do not keep the model as the person's newest")
    parser.add_argument("--quiet", action="store_true", help="print the result and what went wrong only")
    for key in recipes.dotted_keys():
        if key not in _SHORT.values():
            parser.add_argument(f"--{key}", dest=key, help=SUPPRESS)
    return parser


def _check(given: Namespace) -> dict[str, str]:
    """Refuse what cannot work, before anything that takes long. Returns the recipe's keys and their values."""
    place = people.folder_of(given.person)
    if given.device not in _DEVICES:
        raise ConfigError(f"--device {given.device!r}{nearest(given.device, _DEVICES)}")
    if not (given.seed.isascii() and given.seed.isdigit()):
        raise ConfigError(f"--seed {given.seed!r}: expected a whole number from 0")
    values: dict[str, Any] = {key: vars(given)[key] for key in recipes.dotted_keys()}
    overrides = {_SHORT["faces"]: str(FACES), _SHORT["budget"]: str(BUDGET_S)}
    overrides |= {key: value for key, value in values.items() if value is not None}
    recipes.find(given.config, "cpu", overrides)
    _check_base(given.base)
    check_there([Path(one) for one in given.inputs])
    if not given.no_keep:
        _check_room(place)
    return overrides


def _check_room(place: Path) -> None:
    """Raise AdaptationError when the model could not be kept in the end."""
    try:
        people_keep.check_writable(place)
    except AdaptationError as error:
        raise AdaptationError(f"{error}, and --no-keep leaves the model in --out") from None


def _check_base(base: str) -> None:
    if not base.startswith(people.PREFIX) and base != people.GENERAL and not Path(base).is_dir():
        known = [people.GENERAL, *(people.PREFIX + person for person in people.everyone() if people.numbers(person))]
        raise ConfigError(f"--from {base!r} is no folder and no base{nearest(base, known)}")
    open_base(base)


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """Give a folder beside `out`, which is gone at the end. Those of processes that were killed are removed first."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out.parent)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        (draft / _OWNER).write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}), encoding="utf-8")
    except OSError as error:
        raise AdaptationError(
            f"cannot write into {out.parent}: {error.strerror or error}; give another --out"
        ) from None
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove the drafts of processes of this computer that ended without doing so: they hold faces."""
    for draft in place.iterdir():
        if _DRAFT.fullmatch(draft.name) and not draft.is_symlink() and _is_left(draft / _OWNER):
            shutil.rmtree(draft, ignore_errors=True)


def _is_left(owner: Path) -> bool:
    """Whether no process has the number of the one that made a draft. What does not say whose it is, is left alone."""
    try:
        said = json.loads(owner.read_text(encoding="utf-8"))
        pid, host = int(said["pid"]), said["host"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    # a container may give every run the same number, and this process has no draft yet
    return bool(host == platform.node() and (pid == os.getpid() or not psutil.pid_exists(pid)))


def _adapt(given: Namespace, overrides: Mapping[str, str], draft: Path, teller: Teller) -> Outcome:
    """Do all of it; what comes of it is in `draft/model`."""
    began = time.monotonic()
    collected = _collect(given, int(overrides[_SHORT["faces"]]), draft, teller)
    passed = {"finding faces": time.monotonic() - began}
    snapshot = draft / SNAPSHOT
    save_snapshot(snapshot, collected.snapshot)
    device = cast("Literal['auto', 'cpu', 'cuda']", given.device)
    work = WorkJob(
        snapshot, given.base, given.config, draft / "model", int(given.seed), given.person, device, None, overrides
    )
    outcome = run(work, _Events(teller))
    teller.step("writing the report", 1.0)
    story = Story(
        inputs=[_in_words(one) for one in collected.taken],
        lineage=_lineage(outcome.adaptation.parent),
        seconds_before=passed,
        blendshapes=None if collected.blendshapes is None else collected.blendshapes[_rows_of(outcome, collected)],
    )
    write_report(work.out, outcome, story)
    snapshot.rename(work.out / SNAPSHOT)
    return outcome


def _collect(given: Namespace, most: int, draft: Path, teller: Teller) -> Collected:
    workspace = draft / "work"
    workspace.mkdir()
    landmarker = None if given.landmarker is None else Path(given.landmarker)
    places = [Path(place) for place in given.inputs]
    collected = collect(places, given.person, most, workspace, landmarker=landmarker, watcher=_Watcher(teller))
    shutil.rmtree(workspace, ignore_errors=True)
    for one in collected.taken:
        teller.say(_in_words(one))
    return collected


def _in_words(one: Taken) -> str:
    return (
        f"{one.name}: {one.taken} of {one.found} faces" if one.taken < one.found else f"{one.name}: {one.found} faces"
    )


def _rows_of(outcome: Outcome, collected: Collected) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return where the faces that were kept are among those collected; frame numbers differ and grow."""
    return np.searchsorted(collected.snapshot.frame_index, outcome.snapshot.frame_index).astype(np.int64)


def _lineage(parent: str) -> list[str]:
    """Return the models that this one comes from, its parent first, as far as they are here."""
    try:
        known = {model.manifest.model_id: model for model in people.readable()[0]}
    except PsmError:  # a home that cannot be read takes names from the report, and nothing more
        known = {}
    general = open_bundle(general_bundle()).manifest.model_id
    line: list[str] = []
    one: str | None = parent
    while one is not None and len(line) <= len(known):
        model = known.get(one)
        name = f" ({people.GENERAL})" if one == general else f" ({model.name})" if model else ""
        line.append(one + name)
        one = None if one == general or model is None else model.manifest.parent
    return line


class _Watcher:
    """Shows how looking at videos and images goes."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._looked_at: dict[str, int] = {}
        self._expected: dict[str, int] = {}

    def begin(self, sources: Sequence[RecordingSource], kept: int) -> None:
        """Say what there is to do."""
        del kept
        self._teller.say(f"finding faces in {len(sources)} {'recording' if len(sources) == 1 else 'recordings'}")

    def progress(self, source: RecordingSource, looked_at: int, expected: int | None) -> None:
        """Move the bar."""
        self._looked_at[source.name] = looked_at
        self._expected[source.name] = max(expected or 0, looked_at)
        done, total = sum(self._looked_at.values()), sum(self._expected.values())
        self._teller.step(f"finding faces: {done} of {total} frames", done / max(total, 1))

    def finish(self, source: RecordingSource, outcome: Gathered) -> None:
        """Tell what went wrong with a recording."""
        if outcome.trouble:
            self._teller.warn(f"{source.name}: {outcome.trouble}")

    def write(self) -> None:
        """Say nothing."""


class _Events:
    """Shows what `work.run` tells."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._epoch: dict[str, Any] | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        if event["event"] == "started":
            self._teller.say(
                f"learning from {event['frames'] - event['held_out']} faces of {event['person']}, {event['held_out']} "
                f"held out: recipe {event['recipe']}, {event['epochs']} epochs, {event['steps']} steps, on "
                f"{event['device']}"
            )
        elif event["event"] == "progress":
            self._progress(dict(event))

    def _progress(self, event: dict[str, Any]) -> None:
        last = self._epoch
        if last is not None and (event["phase"], event["epoch"]) != ("training", last["epoch"]):
            line = f"epoch {last['epoch']} of {last['epochs']}: loss {last['loss']:.4g}"
            self._teller.epoch(line, is_last=event["phase"] != "training")
            self._epoch = None
        status, share = _PHASES[event["phase"]]
        if event["phase"] == "training":
            self._epoch = event
            share += (_PHASES["checking"][1] - share) * event["step"] / max(event["steps"], 1)
            status = f"epoch {event['epoch']} of {event['epochs']}, loss {event['loss']:.4g}"
            if event["left_s"] is not None:
                status += f", {duration_in_words(event['left_s'])} left"
        self._teller.step(status, share)
