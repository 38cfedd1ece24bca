"""OpenFace's tables as labels: one .csv per recording, with a row per frame.

Columns that matter: `frame` (from 1), `confidence`, `success`, `AU01_r` (intensity 0..5), `AU01_c` (0 or 1). Older
versions put a blank after each comma. An action unit is on when its intensity exceeds 1, as for DISFA's; where a table
has no intensity of it (AU28), when its presence is 1. Rows without success, or of a confidence below 0.8, are no
labels.

Source: Baltrusaitis et al., OpenFace 2.0, FG 2018.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from psm_adapt.evaluate.clips import Clip
from psm_adapt.evaluate.frame_table import ABOVE, FrameTable
from psm_stream.errors import AdaptationError

SURE = 0.8
"""Confidence from which a row counts."""

_UNIT = re.compile(r"AU(\d+)_([rc])")


def is_openface(place: Path) -> bool:
    """Tell whether this is a .csv file, or a folder with some."""
    return place.suffix.lower() == ".csv" if place.is_file() else bool(_tables_in(place))


def openface_tables(place: Path, clips: Sequence[Clip]) -> tuple[tuple[str, ...], list[FrameTable]]:
    """Read the table of each recording. Returns the action units, and a table for each clip.

    A single file is for a single recording. In a folder, a file has the name of the recording or of its last part
    (`SN001/face_only_aligned` or `face_only_aligned`), or of the person, if there is one recording of them.
    Raises AdaptationError: a recording has no table, tables have other columns, or one is not as it should be.
    """
    paths = [place] if place.is_file() else [_path_of(place, clip, clips) for clip in clips]
    if len(paths) != len(clips):
        raise AdaptationError(
            f"labels: {place} is one table, there are {len(clips)} recordings; give a folder with a .csv for each"
        )
    read = [_read(path) for path in paths]
    units = read[0][0]
    for path, (others, _) in zip(paths, read, strict=True):
        if others != units:
            raise AdaptationError(f"{path} has columns for {', '.join(others)}, {paths[0]} for {', '.join(units)}")
    return units, [table for _, table in read]


def _path_of(folder: Path, clip: Clip, clips: Sequence[Clip]) -> Path:
    tables = _tables_in(folder)
    is_alone = sum(other.person == clip.person for other in clips) == 1
    names = [
        clip.name,
        clip.name.replace("/", "_"),
        PurePosixPath(clip.name).name,
        *([clip.person] if is_alone else []),
    ]
    for name in names:
        if name in tables:
            return tables[name]
    raise AdaptationError(f"labels: {folder} has no table for recording {clip.name!r}; expected {names[-1]}.csv in it")


def _tables_in(folder: Path) -> dict[str, Path]:
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".csv")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def _read(path: Path) -> tuple[tuple[str, ...], FrameTable]:
    """Return the action units of a table, and what it says."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise AdaptationError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    header = rows[0] if rows else []
    found = [(match, column) for column, name in enumerate(header) if (match := _UNIT.fullmatch(name))]
    if "frame" not in header or not found:
        raise AdaptationError(f"{path} is no table of OpenFace: expected columns frame, AU01_r, ...; run it with -aus")
    values = _numbers(path, rows[1:], header)
    numbers = values[:, header.index("frame")].astype(np.int64)
    if (np.diff(numbers) <= 0).any():
        raise AdaptationError(f"{path}: the frame numbers do not increase; a table of one face is expected")
    units, labels = _units(found, values)
    return units, FrameTable(str(path), numbers, labels, _sure(header, values))


def _numbers(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str]) -> NDArray[np.float64]:
    if not rows:
        raise AdaptationError(f"{path} has a header and no rows")
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise AdaptationError(
                f"{path}, line {line}: {len(row)} values, the header names {len(header)}; is it cut off?"
            )
    try:
        values = np.array(rows, np.float64)
    except ValueError as error:
        raise AdaptationError(f"{path}: {error}; expected numbers alone below the header") from None
    if not np.isfinite(values[:, header.index("frame")]).all():
        raise AdaptationError(f"{path}: a frame has no number")
    return values


def _units(
    found: Sequence[tuple[re.Match[str], int]], values: NDArray[np.float64]
) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Return the action units in order, and whether they are on: by intensity, or by presence alone."""
    intensities = {int(match[1]): column for match, column in found if match[2] == "r"}
    presences = {int(match[1]): column for match, column in found if match[2] == "c"}
    units = sorted(intensities.keys() | presences.keys())
    columns = [
        values[:, intensities[unit]] > ABOVE if unit in intensities else values[:, presences[unit]] > 0.5
        for unit in units
    ]
    return tuple(f"AU{unit}" for unit in units), np.stack(columns, axis=1)


def _sure(header: Sequence[str], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    is_sure = np.ones(len(values), np.bool_)
    for name, least in (("success", 0.5), ("confidence", SURE)):
        if name in header:
            is_sure &= values[:, header.index(name)] >= least
    return is_sure
