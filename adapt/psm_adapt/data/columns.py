"""The arrays of a crop store: one table of their names, types and shapes, and their .npy files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CROP_PX = 128
"""Side of a stored crop: the live path's own."""
LANDMARKS = 478
BLENDSHAPES = 52
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a store, [N, *shape]. is_optional: a store may lack it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_optional: bool = False

    def file(self, folder: Path) -> Path:
        """Return where it is kept."""
        return folder / f"{self.name}.npy"

    def empty(self, count: int) -> NDArray[Any]:
        """Return [count, *shape] of what stands for missing: NaN for floats, else 0."""
        fill = np.nan if np.dtype(self.dtype).kind == "f" else 0
        return np.full((count, *self.shape), fill, self.dtype)


COLUMNS = {
    column.name: column
    for column in (
        Column("crops", "|u1", (CROP_PX, CROP_PX, 3)),
        Column("t", "<f8", ()),
        Column("recording", "<i4", ()),
        Column("segment", "<i4", ()),
        Column("frame_index", "<i8", ()),
        Column("landmarks", "<f4", (LANDMARKS, 2)),
        Column("confidence", "<f4", ()),
        Column("blendshapes", "<f4", (BLENDSHAPES,), is_optional=True),
    )
}
"""By name, in the order in which they are written; psm_adapt.data.store says what each holds."""


def write_column(column: Column, folder: Path, count: int, pieces: Iterable[NDArray[Any]]) -> str:
    """Write a column of `count` rows, given piece by piece, as a .npy file. Returns the file's sha256, in hex.

    Rows are copied a few hundred at a time, so that pieces may be memory maps larger than the memory. Raises OSError.
    """
    digest = hashlib.sha256()
    with column.file(folder).open("wb") as file:
        header = {"descr": column.dtype, "fortran_order": False, "shape": (count, *column.shape)}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
        file.flush()
        digest.update(column.file(folder).read_bytes())
        for piece in pieces:
            for start in range(0, len(piece), _ROWS_AT_ONCE):
                rows = np.ascontiguousarray(piece[start : start + _ROWS_AT_ONCE], column.dtype).data.cast("B")
                digest.update(rows)
                file.write(rows)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def map_column(column: Column, folder: Path, count: int) -> NDArray[Any]:
    """Return a column as a read-only memory map. Raises OSError; ValueError: not its type, its shape or its length."""
    path = column.file(folder)
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype != np.dtype(column.dtype) or array.shape != (count, *column.shape):
        raise ValueError(f"it is {array.dtype} {list(array.shape)}, not {column.dtype} {[count, *column.shape]}")
    if path.stat().st_size - array.offset != array.nbytes:  # type: ignore[attr-defined]  # of np.memmap
        raise ValueError(f"it has {path.stat().st_size} bytes, which are not its {count} rows")
    return array


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
