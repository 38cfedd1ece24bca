"""psm-adapt compare-clusters: what clusters two models make of the same people, as published."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from psm_adapt.cli.evaluate_progress import Show
from psm_adapt.cli.inputs import stores_of
from psm_adapt.clusters.comparison import FRAMES, Plan, compare_clusters
from psm_adapt.clusters.report import as_json, as_text
from psm_adapt.clusters.sweep import EPS, MIN_SAMPLES, SCALINGS, Setting, settings_of
from psm_adapt.data.ingest import IngestOptions
from psm_adapt.data.layouts import LAYOUTS
from psm_adapt.evaluate.clips import clips_of
from psm_adapt.evaluate.features import BASELINES, GENERAL, Model, open_model
from psm_adapt.evaluate.labels import BLENDSHAPES, read_labels
from psm_stream.cli.common import Parser, nearest, put
from psm_stream.errors import AdaptationError, ConfigError
from psm_stream.models import FACE_LANDMARKER

MOST_FRAMES = 10_000
"""Their distances take 0.8 GB."""
_EPILOG = f"""\
Models: {GENERAL} (the encoder that ships), a bundle or checkpoint folder, an authors' .tar, or one of
{", ".join(BASELINES)}; NAME=MODEL gives it a name in tables.
Labels: {BLENDSHAPES} (proxies), DISFA's ActionUnit_Labels folder, or OpenFace's .csv or a folder of them.
Exit codes: 0 done; 1 it failed; 2 wrong arguments; 130 interrupted."""

_Number = TypeVar("_Number", float, int)


def job(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit code."""
    given = _parser().parse(arguments)
    settings, frames = _settings(given), _frames(given.frames)
    if given.scaling not in SCALINGS:
        raise ConfigError(f"--scaling {given.scaling!r}{nearest(given.scaling, list(SCALINGS))}")
    models = _models(given.models)
    options = IngestOptions(landmarker=_landmarker(given))
    with Show(given.quiet) as show, stores_of(given.inputs, given.layout, options, None, show) as stores:
        coding = read_labels(given.labels, clips_of(stores))
        result = compare_clusters(Plan(models, coding, settings, frames, given.scaling), show)
    if given.plot is not None:
        from psm_adapt.clusters.plots import draw  # brings matplotlib

        try:
            draw(result, Path(given.plot))
        except (OSError, ValueError) as error:
            raise AdaptationError(f"cannot draw {given.plot}: {error}; name a file such as clusters.png") from None
    put(json.dumps(as_json(result), indent=2, allow_nan=False) if given.json else as_text(result))
    return 0


def _parser() -> Parser:
    parser = Parser(
        "psm-adapt compare-clusters", "Compare the clusters that two models make of people's faces.", epilog=_EPILOG
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="crop store, or videos, images, sessions")
    parser.add_argument("--models", metavar=("A", "B"), nargs=2, required=True, help="the two models, such as a b")
    parser.add_argument("--labels", metavar="FILE", required=True, help=f"DISFA's, OpenFace's, or {BLENDSHAPES}")
    parser.add_argument("--eps", metavar="E,...", help="radii; default: 3,4,5,6,7,8,9,10, as published")
    parser.add_argument("--min-samples", metavar="N,...", help="neighbours; default: 4,5,6,7,8, as published")
    parser.add_argument("--frames", metavar="N", default=str(FRAMES), help=f"of each person; default: {FRAMES}")
    parser.add_argument("--scaling", default="standard", help=f"of vectors: {', '.join(SCALINGS)}; default: standard")
    parser.add_argument("--layout", default="folder", help=f"of videos: {', '.join(LAYOUTS)}; default: folder")
    parser.add_argument("--landmarker", metavar="PATH", help="model for blendshapes; default: what psm-doctor fetched")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of tables")
    parser.add_argument("--plot", metavar="FILE", help="draw counts, clusters and likeness, .png, .pdf or .svg")
    parser.add_argument("--quiet", action="store_true", help="print the result alone")
    return parser


def _settings(given: Namespace) -> tuple[Setting, ...]:
    """Read the grid. Raises ConfigError: what is given is no list of numbers that DBSCAN takes."""
    eps = EPS if given.eps is None else _numbers("--eps", given.eps, float)
    samples = MIN_SAMPLES if given.min_samples is None else _numbers("--min-samples", given.min_samples, int)
    if not all(math.isfinite(radius) and radius > 0 for radius in eps):
        raise ConfigError(f"--eps {given.eps!r}: expected radii above 0, such as 3,4.5")
    if min(samples) < 1:
        raise ConfigError(f"--min-samples {given.min_samples!r}: expected whole numbers from 1, such as 4,5")
    return settings_of(eps, samples)


def _numbers(option: str, text: str, kind: Callable[[str], _Number]) -> list[_Number]:
    """Read numbers between commas, each once. Raises ConfigError: some are none."""
    try:
        return list(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(f"{option} {text!r}: expected numbers with commas between them, such as 4,5") from None


def _frames(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MOST_FRAMES):
        raise ConfigError(f"--frames {text!r}: expected a whole number from 1 to {MOST_FRAMES}")
    return int(text)


def _models(given: Sequence[str]) -> tuple[Model, Model]:
    first, second = (open_model(what) for what in given)
    if first.name == second.name:
        raise ConfigError(f"two models are called {first.name!r}; tell them apart with --models NAME=A NAME=B")
    return first, second


def _landmarker(given: Namespace) -> Path | None:
    """Return the Face Landmarker's model, where blendshapes are asked for."""
    if given.landmarker is not None:
        return Path(given.landmarker)
    needs = BLENDSHAPES in (given.labels, *(what.rpartition("=")[2] for what in given.models))
    return FACE_LANDMARKER.path() if needs else None
