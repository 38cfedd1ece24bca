"""Fakes for tests of what is recorded: faces of known content, and an encoder that needs no ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import IndexType, Writer
from numpy.typing import NDArray

from psm_stream.adaptation.layout import ADAPTATION, BUNDLE, CHECKPOINT, CHECKPOINT_ABOUT, OUT, SNAPSHOT
from psm_stream.bundle import (
    ENCODER,
    MANIFEST,
    Alignment,
    EncoderBundle,
    InputSpec,
    Manifest,
    OutputSpec,
    Parity,
    open_bundle,
)
from psm_stream.config import RecordSettings
from psm_stream.pipeline import Pipeline
from psm_stream.record.framing import Entry, entries, survey
from psm_stream.record.log import PROFILE
from psm_stream.record.outside import Outside
from psm_stream.record.session import LOG
from psm_stream.record.writer import Opening, Recorder
from psm_stream.values import NAN, AlignedFace, Faces, Image, Input, Stamp
from psm_stream.wire.messages import MessageBuilder

RUN = "ab" * 16
BEGAN = 99.5
"""When a recorded run began, s; frame 0 is half a second later."""


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
        pose=_a_pose(draw) if rich else None,
    )


def _a_pose(draw: np.random.Generator) -> NDArray[np.float32]:
    """Return some [4, 4] rotation and translation."""
    pose = np.eye(4, dtype=np.float32)
    turn, _ = np.linalg.qr(draw.normal(size=(3, 3)))
    pose[:3, :3] = turn * np.sign(np.linalg.det(turn))
    pose[:3, 3] = draw.normal(0, 20, 3)
    return pose


def some_faces(index: int, face_ids: tuple[int, ...] = (0,), size_px: int = 32, rich: bool = False) -> Faces:
    """Return the faces of frame `index`."""
    stamp = a_stamp(index)
    return Faces(stamp, tuple(a_face(stamp, face_id, size_px, rich) for face_id in face_ids))


class FakeEncoder:
    """Weighs the mean colour of a crop by its model_id, so that other models and other crops give other vectors."""

    provider = "CPUExecutionProvider"
    trained = False

    def __init__(self, bundle: EncoderBundle) -> None:
        self.bundle = bundle
        self.model_id = bundle.manifest.model_id
        self.dimension = bundle.manifest.output.dimension
        self._weights = np.random.default_rng(int(self.model_id, 16)).integers(-99, 100, (self.dimension, 3))

    def encode(self, crop: Image) -> NDArray[np.float32]:
        """Return [dimension] float32, by whole numbers but for one division: the same bytes on every machine."""
        sums = crop.reshape(-1, 3).sum(axis=0, dtype=np.int64)
        vector: NDArray[np.float32] = ((self._weights @ sums) / crop.size).astype(np.float32)
        return vector


def fake_encoder(parent: Path, model_id: str) -> Any:
    """Make a bundle under parent, true but for its graph, and return a FakeEncoder of it."""
    folder = parent / f"bundle-{model_id}"
    folder.mkdir(parents=True)
    graph = model_id.encode()
    manifest = Manifest(
        schema=1,
        name="fake",
        model_id=model_id,
        trained=False,
        note="a fake",
        architecture="mean colour",
        precision="fp32",
        input=InputSpec(size_px=16),
        output=OutputSpec(dimension=8),
        alignment=Alignment(template="any", crop_px=16),
        files={ENCODER: hashlib.sha256(graph).hexdigest()},
        parity=Parity(reference="itself", crops=0, max_abs=0, mean_abs=0, cosine=1, tolerance=0.5),
        licence="MIT",
        created_by="psm_stream.record.testing",
    )
    (folder / ENCODER).write_bytes(graph)
    (folder / MANIFEST).write_text(manifest.model_dump_json(by_alias=True), encoding="utf-8")
    return open_fake(folder)


def open_fake(folder: Path) -> Any:
    """Open a bundle that `fake_encoder` made, or a copy of it."""
    return FakeEncoder(open_bundle(folder))


def a_training(folder: Path, bundle: EncoderBundle | None, crops_px: int = 32, **outcome: Any) -> Path:
    """Write what a training leaves: a snapshot of ten faces and the worker's verdict, with a model if it is accepted.

    bundle: what is handed back as the new model; None: rejected. outcome: fields of adaptation.json.
    """
    out = folder / OUT
    out.mkdir(parents=True)
    faces = [some_faces(index, size_px=crops_px).faces[0] for index in range(10)]
    np.savez(folder / SNAPSHOT, crops=np.stack([face.crop for face in faces]), **_columns(faces))
    about: dict[str, Any] = {
        "schema": 1,
        "accepted": bundle is not None,
        "reason": "better" if bundle is not None else "no better than its parent",
        "model_id": None if bundle is None else bundle.manifest.model_id,
        "checkpoint_id": None,
        "parent": "0" * 12,
        "parent_checkpoint": "0" * 12,
        "person": None,
        "seed": 3,
        "device": "cpu",
        "recipe": {"run": {"epochs": 2}},
        "recipe_name": "fast",
        "frames": 10,
        "held_out": 2,
        "epochs": 2,
        "epochs_done": 2,
        "seconds": 1.5,
        "loss_before": 2.0,
        "loss_after": 1.0,
        "figures": {},
        "snapshot_sha256": hashlib.sha256((folder / SNAPSHOT).read_bytes()).hexdigest(),
        "versions": {},
    }
    if bundle is not None:
        shutil.copytree(bundle.folder, out / BUNDLE, ignore=shutil.ignore_patterns(CHECKPOINT))
        about["checkpoint_id"] = a_checkpoint(out / CHECKPOINT, seed=int(bundle.manifest.model_id, 16))
    (out / ADAPTATION).write_text(json.dumps(about | outcome), encoding="utf-8")
    return folder


def a_checkpoint(folder: Path, seed: int) -> str:
    """Write a checkpoint of one small network with weights drawn from seed, and return its id."""
    weights = np.random.default_rng(seed).normal(size=(4, 3)).astype("<f2")
    header = json.dumps({"w": {"dtype": "F16", "shape": [4, 3], "data_offsets": [0, weights.nbytes]}}).encode()
    content = len(header).to_bytes(8, "little") + header + weights.tobytes()
    digest = hashlib.sha256(content).hexdigest()
    about = {"schema": 1, "model_id": digest[:12], "files": {"encoder.safetensors": digest}}
    folder.mkdir(parents=True)
    (folder / "encoder.safetensors").write_bytes(content)
    (folder / CHECKPOINT_ABOUT).write_text(json.dumps(about), encoding="utf-8")
    return digest[:12]


def _columns(faces: list[AlignedFace]) -> dict[str, NDArray[Any]]:
    return {
        "landmarks": np.stack([face.landmarks for face in faces]),
        "to_crop": np.stack([face.to_crop for face in faces]),
        "frame_index": np.array([face.frame.index for face in faces], np.int64),
        "face_id": np.array([face.face_id for face in faces], np.int32),
        "t_capture": np.array([face.frame.t_capture for face in faces]),
        "t_source": np.array([face.frame.t_source for face in faces]),
        "confidence": np.array([face.confidence for face in faces], np.float32),
    }


def record_run(root: Path, encoder: Any, items: Iterable[Input], **opening: Any) -> Path:
    """Record what a live run over these inputs would be, begun at BEGAN, and return the session's folder.

    opening: fields of `Opening`; `header` chooses msgpack or json.
    """
    header = opening.pop("header", "msgpack")
    epoch, waiting = opening.get("model_epoch", 0), opening.get("waiting")
    config = {"wire": {"header": header}, "encoder": {"threads": 1}}
    settings = RecordSettings(root=root, min_free_gb=0)
    recorder = Recorder.start(
        settings,
        Opening(RUN, config, "fake", encoder, **opening),
        notify=lambda _: None,
        outside=Outside(clock=lambda: BEGAN),
    )
    builder = MessageBuilder(RUN, header, clock=lambda: 0.0)
    pipeline = Pipeline(encoder, model_epoch=epoch)
    if waiting is not None:
        pipeline.step(waiting)
    for item in items:
        recorder.input(item)
        for result in pipeline.step(item):
            for message in builder.build(result):
                recorder.message(message)
    recorder.stop()
    if not recorder.join(60):
        raise TimeoutError("the recorder does not end")
    return recorder.folder


def rewrite(folder: Path, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """Change the log of a session as somebody would who knows the format: every checksum fits afterwards."""
    path = folder / LOG
    with path.open("rb") as file:
        extent = survey(file)
        changed = change(list(entries(file, extent)))
    with path.open("wb") as file:
        writer = Writer(file, index_types=IndexType.NONE, enable_data_crcs=True)
        writer.start(profile=PROFILE)
        channels: dict[str, int] = {}
        for number, entry in enumerate(changed):
            if entry.channel not in channels:
                channels[entry.channel] = writer.register_channel(entry.channel, entry.encoding, 0)
            writer.add_message(channels[entry.channel], entry.log_ns, entry.body, entry.log_ns, number)
        if extent.is_whole:
            writer.finish()
        else:
            writer.flush()


def same_face(one: AlignedFace, other: AlignedFace) -> bool:
    """Tell whether two faces are equal to the bit."""

    def bits(face: AlignedFace) -> tuple[object, ...]:
        arrays = (face.crop, face.landmarks, face.to_crop, face.blendshapes, face.pose)
        return (
            *((None if array is None else (array.dtype.str, array.shape, array.tobytes())) for array in arrays),
            (face.face_id, np.float64(face.confidence).tobytes(), same_stamp_bits(face.frame), face.eye_distance),
        )

    return bits(one) == bits(other)


def same_stamp_bits(stamp: Stamp) -> tuple[object, ...]:
    """Return a stamp as something that compares equal, NaN included."""
    times = np.array([stamp.t_capture, stamp.t_source if stamp.t_source == stamp.t_source else NAN]).tobytes()
    return (stamp.index, times, stamp.label, dict(stamp.dropped))
