"""The recent faces: a preallocated ring of aligned crops, and snapshots of it for training."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from psm_stream.align.template import EYES_LEVEL, Template
from psm_stream.config import FacesSettings
from psm_stream.errors import SessionError
from psm_stream.values import AlignedFace, Image

SPARE = 64
"""Slots beyond the capacity, so that a snapshot can be copied while new faces come in."""
_BLOCK = 32
"""Faces that are copied or written in one go: 1.5 MB of crops."""

_FIELDS = {
    "frame_index": np.int64,
    "face_id": np.int32,
    "t_capture": np.float64,
    "t_source": np.float64,
    "confidence": np.float32,
}


class RecentFaces:
    """Keeps the newest `capacity` faces that pass the gate. `offer` is for one thread; `snapshot` may run beside it.

    The gate: confidence at least `min_confidence` (an aligner that gives none passes) and a mean absolute difference of
    at least `min_change` grey levels to the last one kept of this face id, so that a frozen camera does not fill it.
    """

    def __init__(self, settings: FacesSettings, size_px: int, template: Template = EYES_LEVEL) -> None:
        self._settings = settings
        self._template = template
        slots = settings.capacity + SPARE
        self._crops = np.zeros((slots, size_px, size_px, 3), dtype=np.uint8)
        self._columns = {name: np.zeros(slots, dtype=kind) for name, kind in _FIELDS.items()}
        self._landmarks = np.zeros((slots, 478, 2), dtype=np.float32)
        self._to_crop = np.zeros((slots, 2, 3), dtype=np.float32)
        self._last_small: dict[int, NDArray[np.int16]] = {}  # by face id
        self.written = 0
        self.refused = {"confidence": 0, "repeat": 0}

    def __len__(self) -> int:
        return min(self.written, self._settings.capacity)

    def offer(self, face: AlignedFace) -> bool:
        """Keep the face if it passes the gate."""
        if face.confidence < self._settings.min_confidence:
            self.refused["confidence"] += 1
            return False
        small = _small(face.crop)
        last = self._last_small.get(face.face_id)
        if last is not None and np.abs(small - last).mean() < self._settings.min_change:
            self.refused["repeat"] += 1
            return False
        self._last_small[face.face_id] = small
        slot = self.written % len(self._crops)
        self._crops[slot] = face.crop
        self._landmarks[slot] = face.landmarks
        self._to_crop[slot] = face.to_crop
        row = (face.frame.index, face.face_id, face.frame.t_capture, face.frame.t_source, face.confidence)
        for name, value in zip(_FIELDS, row, strict=True):
            self._columns[name][slot] = value
        self.written += 1  # last: a snapshot that runs meanwhile sees whole faces only
        return True

    def copy(self) -> dict[str, NDArray[Any]]:
        """Return copies in order of age: crops [n, S, S, 3] uint8, landmarks [n, 478, 2] px, to_crop [n, 2, 3] (the map
        from source to crop pixels), and one array per field; template [2] float64, where the crops' eyes lie
        (eye_distance, eye_line_y), unless that is our own.

        May run in another thread than `offer`: it copies again in the rare case that the ring passed the spare slots.
        """
        while True:
            written = self.written
            slots = np.arange(max(0, written - self._settings.capacity), written) % len(self._crops)
            copies: dict[str, NDArray[Any]] = {name: column[slots] for name, column in self._columns.items()}
            copies["crops"] = _copy_in_blocks(self._crops, slots)
            copies["landmarks"] = self._landmarks[slots]
            copies["to_crop"] = self._to_crop[slots]
            if not self._template.is_same(EYES_LEVEL):
                copies["template"] = np.array([self._template.eye_distance, self._template.eye_line_y])
            if self.written - written < SPARE:
                return copies

    def snapshot(self, path: Path) -> Future[Path]:
        """Write the ring to an .npz file in a thread of its own. The future gives the path, or raises SessionError.

        A folder that is made for it is its owner's alone.
        """
        done: Future[Path] = Future()
        threading.Thread(target=self._write, args=(path, done), name="snapshot", daemon=True).start()
        return done

    def _write(self, path: Path, done: Future[Path]) -> None:
        partial = path.with_name(path.name + ".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # they are pictures of somebody
            with partial.open("wb") as file:
                _write_npz(file, self.copy())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)  # whoever waits for the file never sees half of it
        except OSError as error:
            done.set_exception(SessionError(f"cannot write the snapshot {path}: {error.strerror or error}"))
        except BaseException as error:  # handed to whoever waits
            done.set_exception(error)
        else:
            done.set_result(path)


def read_snapshot(path: Path) -> dict[str, NDArray[Any]]:
    """Read a snapshot; one of an older version lacks `to_crop`; `template` is there where it is another than ours.

    Never unpickles.

    Raises SessionError: missing, truncated or not a snapshot.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            snapshot = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise SessionError(f"{path} is not a readable snapshot: {error}") from None
    missing = {"crops", "landmarks", *_FIELDS} - snapshot.keys()
    if missing:
        raise SessionError(f"{path} is not a snapshot of faces: it lacks {', '.join(sorted(missing))}")
    return snapshot


def _copy_in_blocks(crops: NDArray[np.uint8], slots: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return crops[slots]. numpy lets no other thread run while it copies, so it copies no more than 2 ms at a time."""
    copy = np.empty((len(slots), *crops.shape[1:]), crops.dtype)
    for start in range(0, len(slots), _BLOCK):
        block = slice(start, start + _BLOCK)
        np.take(crops, slots[block], axis=0, out=copy[block], mode="clip")  # clip: without another copy
    return copy


def _write_npz(file: BinaryIO, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write what np.savez writes, which would copy 16 MB at a time, and hold up the stream meanwhile."""
    with ZipFile(file, "w", ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = npy.header_data_from_array_1_0(array)  # type: ignore[no-untyped-call]
                npy.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
                for start in range(0, len(array), _BLOCK):
                    member.write(np.ascontiguousarray(array[start : start + _BLOCK]).data)


def _small(crop: Image) -> NDArray[np.int16]:
    """Every fourth pixel: enough to tell a repeated frame, at a sixteenth of the cost."""
    return crop[::4, ::4].astype(np.int16)
