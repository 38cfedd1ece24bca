"""DISFA's labels: a folder per person, a text file per action unit, lines of `frame,intensity`.

    ActionUnit_Labels/SN001/SN001_au1.txt       frames count from 1, intensities are 0..5

Source: Mavadati et al., IEEE Transactions on Affective Computing 2013.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psm_adapt.evaluate.clips import Clip
from psm_adapt.evaluate.frame_table import ABOVE, FrameTable
from psm_stream.errors import AdaptationError

STRONGEST = 5

_FILE = re.compile(r"(?P<person>.+)_au(?P<unit>\d+)\.txt", re.IGNORECASE)


def is_disfa(place: Path) -> bool:
    """Tell whether a folder holds DISFA's label files: its own, or those in the folders below it."""
    return bool(_files_of_people(place))


def disfa_tables(place: Path, clips: Sequence[Clip]) -> tuple[tuple[str, ...], list[FrameTable]]:
    """Read the labels of each recording's person. Returns the action units, and a table for each clip.

    Raises AdaptationError: a person has no labels, people have other action units, or a file is not as it should be.
    """
    files = _files_of_people(place)
    missing = sorted({clip.person for clip in clips} - files.keys())
    if missing:
        raise AdaptationError(
            f"labels: {place} has none for {', '.join(missing)}; there are labels for {', '.join(sorted(files))}"
        )
    wanted = {clip.person: files[clip.person] for clip in clips}
    numbers = {person: sorted(units) for person, units in wanted.items()}
    first = next(iter(numbers))
    odd = next((person for person in numbers if numbers[person] != numbers[first]), None)
    if odd is not None:
        raise AdaptationError(f"labels: {odd} has action units {numbers[odd]}, {first} has {numbers[first]}")
    tables = {person: _table(wanted[person], numbers[person]) for person in wanted}
    return tuple(f"AU{unit}" for unit in numbers[first]), [tables[clip.person] for clip in clips]


def _files_of_people(place: Path) -> dict[str, dict[int, Path]]:
    """Find the file of each action unit of each person."""
    found: dict[str, dict[int, Path]] = {}
    for pattern in ("*.txt", "*/*.txt", "ActionUnit_Labels/*/*.txt") if place.is_dir() else ():
        for path in sorted(place.glob(pattern)):
            match = _FILE.fullmatch(path.name)
            if match:
                found.setdefault(match["person"], {})[int(match["unit"])] = path
    return found


def _table(files: dict[int, Path], units: Sequence[int]) -> FrameTable:
    columns = [_read(files[unit]) for unit in units]
    numbers = columns[0][0]
    for unit, (others, _) in zip(units, columns, strict=True):
        if not np.array_equal(others, numbers):
            raise AdaptationError(
                f"{files[unit]} labels {len(others)} frames, {files[units[0]]} labels {len(numbers)}, or other ones; "
                "the files of a person must agree"
            )
    labels = np.stack([intensity > ABOVE for _, intensity in columns], axis=1)
    source = str(files[units[0]].parent)
    return FrameTable(source, numbers, labels, np.ones(len(numbers), np.bool_))


def _read(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the frame numbers and intensities of a file."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise AdaptationError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise AdaptationError(f"{path} is empty; expected lines of 'frame,intensity'")
    numbers, intensities = np.array(rows, np.int64).T
    if (np.diff(numbers) <= 0).any():
        raise AdaptationError(f"{path}: the frame numbers do not increase")
    return numbers, intensities


def _row(path: Path, number: int, line: str) -> tuple[int, int]:
    frame, _, intensity = (part.strip() for part in line.partition(","))
    if not (frame.isdecimal() and intensity.isdecimal() and int(intensity) <= STRONGEST):
        raise AdaptationError(
            f"{path}, line {number}: expected 'frame,intensity' as in 12,3, got {line.strip()[:40]!r}"
        )
    return int(frame), int(intensity)
