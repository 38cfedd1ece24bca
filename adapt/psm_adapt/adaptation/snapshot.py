"""The snapshot that a person-specific model is trained on: the recent faces of a stream, in order of time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psm_adapt.config import TrainSettings
from psm_adapt.data.augment import plain
from psm_stream.errors import AdaptationError, SessionError
from psm_stream.faces import read_snapshot

Rows = NDArray[np.int64]

_PLAIN_AT_ONCE = 64


@dataclass(frozen=True)
class Snapshot:
    """N aligned faces in order of time.

    crops: uint8 [N, S, S, 3] RGB. landmarks: float32 [N, 478, 2], px of the source frame. to_crop: float32 [N, 2, 3],
    source px to crop px; None in snapshots that were written without. frame_index, face_id: [N]. t_capture: [N] s on
    the recording process's clock. t_source: [N] s in the source's own time, NaN if none. confidence: [N], 0..1.
    """

    crops: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    frame_index: NDArray[np.int64]
    face_id: NDArray[np.int32]
    t_capture: NDArray[np.float64]
    t_source: NDArray[np.float64]
    confidence: NDArray[np.float32]
    to_crop: NDArray[np.float32] | None = field(default=None)

    def __len__(self) -> int:
        return len(self.crops)

    @cached_property
    def sha256(self) -> str:
        """Over all arrays, in order of name: equal for equal content, however the file was written."""
        digest = hashlib.sha256()
        for name in sorted(_ARRAYS):
            values = getattr(self, name)
            if values is not None:
                digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def only(self, rows: Rows) -> Snapshot:
        """Return the faces at some positions."""
        chosen: dict[str, Any] = {}
        for name in _ARRAYS:
            values = getattr(self, name)
            chosen[name] = None if values is None else values[rows]
        return Snapshot(**chosen)

    def images(self) -> Tensor:
        """Return the faces as the networks take them: float32 [N, 3, 64, 64], ImageNet-normalised."""
        crops = torch.from_numpy(np.ascontiguousarray(self.crops))
        return torch.cat([plain(some) for some in torch.split(crops, _PLAIN_AT_ONCE)])


_ARRAYS = tuple(column.name for column in fields(Snapshot))


def load_snapshot(path: Path) -> Snapshot:
    """Read the file that `SNAPSHOT` or the live path writes.

    Raises AdaptationError: it is missing, cut off, or its arrays do not fit each other.
    """
    try:
        stored = read_snapshot(path)
    except SessionError as error:
        raise AdaptationError(str(error)) from None
    arrays: dict[str, Any] = {name: stored.get(name) for name in _ARRAYS}
    crops, count = arrays["crops"], len(arrays["crops"])
    if crops.ndim != 4 or crops.dtype != np.uint8 or crops.shape[1] != crops.shape[2] or crops.shape[3] != 3:
        raise AdaptationError(f"{path}: crops are {crops.dtype} {list(crops.shape)}, expected uint8 [N, S, S, 3]")
    if "template" in stored:
        raise AdaptationError(f"{path}: its crops are not by our own template, which is learned; run another --model")
    if crops.shape[1] not in (64, 128):
        raise AdaptationError(f"{path}: crops are {crops.shape[1]} px wide; set aligner.size_px 128, which is learned")
    shapes = {"landmarks": (478, 2), "to_crop": (2, 3)}
    for name, values in arrays.items():
        if values is not None and values.shape[1:] != shapes.get(name, values.shape[1:] if name == "crops" else ()):
            raise AdaptationError(f"{path}: {name} are {list(values.shape)}; the file was changed")
        if values is not None and len(values) != count:
            raise AdaptationError(f"{path}: {count} crops but {len(values)} of {name}; the file was changed")
    return Snapshot(**arrays).only(np.argsort(arrays["frame_index"], kind="stable"))


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot as the live path does. Raises AdaptationError: the disk refuses."""
    arrays = {name: getattr(snapshot, name) for name in _ARRAYS}
    try:
        with path.open("wb") as file:
            np.savez(file, **{name: values for name, values in arrays.items() if values is not None})
    except OSError as error:
        raise AdaptationError(f"cannot write {path}: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True)
class Split:
    """Which faces are for what; positions in the snapshot.

    train: learned from. choose: the best epoch is the one that does best on these. judge: the gate's, seen by nobody
    before. The parts follow each other in time, with a margin between them.
    """

    train: Rows
    choose: Rows
    judge: Rows


def split(snapshot: Snapshot, held_out: float = 0.2, margin_s: float = 1.0) -> Split:
    """Hold out the last part in time, half to choose the best epoch by and half to judge.

    held_out: share of the faces. margin_s: s left out at each seam, since neighbours in time are nearly the same
    picture; less where that would take more than a tenth of the part that it precedes.

    Raises AdaptationError: too few faces for three parts.
    """
    count = len(snapshot)
    last = max(2, round(count * held_out / 2))
    first_choose, first_judge = count - 2 * last, count - last
    if first_choose < 4:
        raise AdaptationError(f"{count} faces are too few to learn from some and hold out others")
    return Split(
        train=_before(snapshot, 0, first_choose, margin_s),
        choose=_before(snapshot, first_choose, first_judge, margin_s),
        judge=np.arange(first_judge, count),
    )


def _before(snapshot: Snapshot, start: int, stop: int, margin_s: float) -> Rows:
    """Rows from start to stop, less those within the margin of `stop`."""
    near = snapshot.t_capture[start:stop] > snapshot.t_capture[stop] - margin_s
    most = (stop - start) // 10
    return np.arange(start, stop - min(int(near.sum()), most))


class SnapshotFaces:
    """A snapshot as something to train on (`train.cycle.FaceSource`): one track, held on the device."""

    def __init__(self, snapshot: Snapshot, rows: Rows, person: str, device: torch.device) -> None:
        self.people = (person,)
        self.source_id = snapshot.sha256[:12]
        self._rows = rows
        self._crops = torch.from_numpy(np.ascontiguousarray(snapshot.crops)).to(device)

    def tracks(self, settings: TrainSettings) -> list[Rows]:
        """All rows that are learned from, in order of time."""
        del settings
        return [self._rows]

    def images(self, rows: Rows, device: torch.device) -> Tensor:
        """Return crops; they are on the device already."""
        del device
        return self._crops[torch.from_numpy(rows).to(self._crops.device)]
