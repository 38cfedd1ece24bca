"""psm-adapt evaluate: probe models by the published protocols and the honest ones."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from psm_adapt.cli.evaluate_progress import Show
from psm_adapt.cli.inputs import stores_of
from psm_adapt.data.ingest import IngestOptions
from psm_adapt.data.layouts import LAYOUTS
from psm_adapt.evaluate.clips import Clip, clips_of, people_in
from psm_adapt.evaluate.evaluation import Evaluation, Plan, evaluate
from psm_adapt.evaluate.features import BASELINES, GENERAL, Model, open_model
from psm_adapt.evaluate.labels import BLENDSHAPES, read_labels
from psm_adapt.evaluate.plots import draw
from psm_adapt.evaluate.protocols import GROUPS, PROTOCOLS
from psm_adapt.evaluate.report import as_json, as_text
from psm_stream.cli.common import Parser, nearest, put
from psm_stream.errors import AdaptationError, ConfigError
from psm_stream.models import FACE_LANDMARKER

RESULTS = "results.json"
_DEFAULT = "probe"
_EPILOG = f"""\
Models: {GENERAL} (the encoder that ships), a bundle or checkpoint folder, an authors' .tar, or one of
{", ".join(BASELINES)}; NAME=MODEL gives it a name in tables. Several are compared in pairs over people.
Labels: {BLENDSHAPES} (proxies), DISFA's ActionUnit_Labels folder, or OpenFace's .csv or a folder of them.
Protocols: {"; ".join(f"{name} ({protocol.does})" for name, protocol in PROTOCOLS.items())};
{"; ".join(f"{name} ({', '.join(names)})" for name, names in GROUPS.items() if name != "all")}; all.
Exit codes: 0 done; 1 it failed, or nothing could be measured; 2 wrong arguments; 130 interrupted."""


def job(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit code."""
    given = _parser().parse(arguments)
    protocols = _protocols(given.protocol)
    if given.labels is None and any(PROTOCOLS[name].needs_labels for name in protocols):
        raise ConfigError(f"protocol {given.protocol} needs --labels FILE, DIR or {BLENDSHAPES}")
    models = _models(given.model)
    out = None if given.out is None else Path(given.out)
    options = IngestOptions(landmarker=_landmarker(given))
    with Show(given.quiet) as show, stores_of(given.inputs, given.layout, options, out, show) as stores:
        clips = clips_of(stores)
        coding = None if given.labels is None else read_labels(given.labels, clips)
        tested = _tested(given.tested, clips)
        plan = Plan(models, tuple(clips), coding, protocols, tested, os.cpu_count() or 1)
        done = evaluate(plan, show)
        put(as_text(done))
        if out is not None:
            _write(done, out)
    return 0


def _parser() -> Parser:
    parser = Parser("psm-adapt evaluate", "Probe models on people's faces, and compare them.", epilog=_EPILOG)
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="crop store, or videos, images, sessions")
    parser.add_argument(
        "--model", metavar="M", action="append", required=True, help="what to evaluate; may be repeated"
    )
    parser.add_argument("--labels", metavar="FILE", help=f"DISFA's or OpenFace's labels, or {BLENDSHAPES}")
    parser.add_argument("--protocol", metavar="P,...", default=_DEFAULT, help=f"which; default: {_DEFAULT}")
    parser.add_argument("--out", metavar="DIR", help=f"keep {RESULTS} and plots; default: print the table alone")
    parser.add_argument("--tested", metavar="NAME,...", help="people whose results count; others train probes alone")
    parser.add_argument("--layout", default="folder", help=f"of videos: {', '.join(LAYOUTS)}; default: folder")
    parser.add_argument("--landmarker", metavar="PATH", help="model for blendshapes; default: what psm-doctor fetched")
    parser.add_argument("--quiet", action="store_true", help="print the result alone")
    return parser


def _protocols(text: str) -> tuple[str, ...]:
    """Return the protocols that were asked for, in the order of the table."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PROTOCOLS and name not in GROUPS:
            raise ConfigError(f"--protocol {name!r}{nearest(name, [*PROTOCOLS, *GROUPS])}")
    if not names:
        raise ConfigError(f"--protocol: name one or more of {', '.join(PROTOCOLS)}")
    wanted = {single for name in names for single in GROUPS.get(name, (name,))}
    return tuple(name for name in PROTOCOLS if name in wanted)


def _models(given: Sequence[str]) -> tuple[Model, ...]:
    models = tuple(open_model(what) for what in given)
    names = [model.name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two models are called {twice!r}; tell them apart with --model NAME=MODEL")
    return models


def _tested(text: str | None, clips: Sequence[Clip]) -> tuple[str, ...]:
    people = people_in(clips)
    if text is None:
        return people
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in people:
            raise ConfigError(f"--tested: there is no {name!r}{nearest(name, people)}")
    return tuple(person for person in people if person in wanted)


def _landmarker(given: Namespace) -> Path | None:
    """Return the Face Landmarker's model, where blendshapes are asked for."""
    if given.landmarker is not None:
        return Path(given.landmarker)
    needs = given.labels == BLENDSHAPES or any(what.rpartition("=")[2] == BLENDSHAPES for what in given.model)
    return FACE_LANDMARKER.path() if needs else None


def _write(done: Evaluation, out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / RESULTS).write_text(json.dumps(as_json(done), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        files = draw(done, out)
    except OSError as error:
        raise AdaptationError(
            f"cannot write into {out}: {error.strerror or error}; make room or name another folder"
        ) from None
    put(f"\n{out / RESULTS} and {len(files)} pictures", sys.stderr)
