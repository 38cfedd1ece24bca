"""Fakes for tests of what is recorded: faces of known content, and an encoder whose bundle is one text file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psm_stream.values import NAN, AlignedFace, Faces, Image, Stamp


def a_stamp(index: int, fps: float = 30.0) -> Stamp:
    """Return the stamp of frame `index` of a stream that began at 100 s."""
    return Stamp(index, t_capture=100.0 + index / fps, t_source=index / fps, dropped={"slot": 1} if index % 7 else {})


def a_face(stamp: Stamp, face_id: int = 0, size_px: int = 32, rich: bool = False) -> AlignedFace:
    """Return a face whose every array is drawn from its frame and id. rich: with blendshapes and pose."""
    draw = np.random.default_rng([stamp.index, face_id])
    return AlignedFace(
        frame=stamp,
        face_id=face_id,
        crop=draw.integers(0, 256, (size_px, size_px, 3), np.uint8),
        landmarks=draw.normal(200, 50, (478, 2)).astype(np.float32),
        to_crop=draw.normal(0, 1, (2, 3)).astype(np.float32),
        confidence=float(draw.random()),
        blendshapes=draw.random(52).astype(np.float32) if rich else None,
        pose=draw.normal(0, 1, (4, 4)).astype(np.float32) if rich else None,
    )


def some_faces(index: int, face_ids: tuple[int, ...] = (0,), size_px: int = 32, rich: bool = False) -> Faces:
    """Return the faces of frame `index`."""
    stamp = a_stamp(index)
    return Faces(stamp, tuple(a_face(stamp, face_id, size_px, rich) for face_id in face_ids))


@dataclass(frozen=True, slots=True)
class FakeBundle:
    """Where a fake encoder comes from."""

    folder: Path


@dataclass(frozen=True, slots=True)
class FakeEncoder:
    """Weighs the mean colour of a crop by its model_id, so that other models and other crops give other vectors."""

    bundle: FakeBundle
    model_id: str
    dimension: int = 8
    provider: str = "CPUExecutionProvider"
    trained: bool = False

    def encode(self, crop: Image) -> NDArray[np.float32]:
        """Return [dimension] float32."""
        colour = crop.reshape(-1, 3).mean(axis=0, dtype=np.float64)
        weights = np.random.default_rng(int(self.model_id, 16)).normal(size=(self.dimension, 3))
        vector: NDArray[np.float32] = (weights @ colour).astype(np.float32)
        return vector


def fake_encoder(parent: Path, model_id: str) -> FakeEncoder:
    """Make a bundle under parent and return its encoder."""
    folder = parent / f"bundle-{model_id}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"model_id": model_id}), encoding="utf-8")
    return open_fake(folder)


def open_fake(folder: Path) -> FakeEncoder:
    """Open a bundle that `fake_encoder` made, or a copy of it."""
    model_id = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["model_id"]
    return FakeEncoder(FakeBundle(folder), model_id)


def same_face(one: AlignedFace, other: AlignedFace) -> bool:
    """Tell whether two faces are equal to the bit."""

    def bits(face: AlignedFace) -> tuple[object, ...]:
        arrays = (face.crop, face.landmarks, face.to_crop, face.blendshapes, face.pose)
        return (
            *((None if array is None else (array.dtype.str, array.shape, array.tobytes())) for array in arrays),
            (face.face_id, np.float64(face.confidence).tobytes(), same_stamp_bits(face.frame)),
        )

    return bits(one) == bits(other)


def same_stamp_bits(stamp: Stamp) -> tuple[object, ...]:
    """Return a stamp as something that compares equal, NaN included."""
    times = np.array([stamp.t_capture, stamp.t_source if stamp.t_source == stamp.t_source else NAN]).tobytes()
    return (stamp.index, times, stamp.label, dict(stamp.dropped))
