"""psm-adapt general: make the general model that ships from its videos, or a laboratory's own from theirs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from psm_stream.cli.common import Parser, put
from psm_stream.errors import ConfigError
from psm_stream.models import FACE_LANDMARKER

STAGES = ("encoder", "polish", "decoders")
"""Training runs, in order; the settings of each are in a file of its name."""
_EPILOG = """\
Stages that are done are not done again, so the same command goes on after Ctrl-C.
Exit codes: 0 done; 1 a stage failed; 2 wrong arguments or settings; 130 interrupted."""


def job(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit code."""
    given = _parser().parse(arguments)
    from psm_adapt.general import settings  # these imports cost time, and the arguments are known to be good by now
    from psm_adapt.general.people import read_people
    from psm_adapt.general.reproduce import Recipe, reproduce

    recipe = Recipe(
        videos=Path(given.videos),
        people=read_people(Path(given.configs) / "people.yaml"),
        landmarker=Path(given.landmarker),
        stages={name: settings.load(Path(given.configs) / f"{name}.yaml", {}) for name in STAGES},
        clips=_number("--clips", given.clips),
        workers=_number("--workers", given.workers),
    )
    return reproduce(recipe, Path(given.out), _say)


def _parser() -> Parser:
    parser = Parser(
        "psm-adapt general",
        "Make the general model: align videos, draw synthetic people, train, keep the result in half precision.",
        epilog=_EPILOG,
    )
    parser.add_argument("videos", metavar="VIDEOS", help="folder that the videos in --people are in")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of all stages; what it holds is kept")
    parser.add_argument(
        "--configs",
        metavar="DIR",
        default="configs/general",
        help="folder of people.yaml and of the stages' settings; default: configs/general",
    )
    parser.add_argument(
        "--landmarker",
        metavar="PATH",
        default=str(FACE_LANDMARKER.path()),
        help="Face Landmarker model; default: what psm-doctor fetched",
    )
    parser.add_argument("--clips", metavar="N", default="900", help="synthetic clips of 27 pictures")
    parser.add_argument("--workers", metavar="N", default="1", help="processes that align and draw")
    return parser


def _number(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigError(f"{option} {text!r}: expected a whole number from 1")
    return int(text)


def _say(line: str) -> None:
    put(line, sys.stderr)
