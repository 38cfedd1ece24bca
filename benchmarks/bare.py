"""The yardsticks: what the same machine does with MediaPipe, ONNX Runtime and ZeroMQ alone, without psm-stream.

    python benchmarks/bare.py VIDEO --port N [--seconds S]     publish live, as a short script of one's own would

`mesh_fps` is a bare FaceMesh loop for throughput.py. The command above is the peer of latency.py: it plays a video at
its own rate, runs FaceMesh and the shipped encoder on a plain crop, and publishes index, capture time and vector.
"""

from __future__ import annotations

import argparse
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from psm_stream.align.quiet import quiet

CHUNK = 300
"""Frames decoded ahead of time at once; all of a long video would not fit in memory."""
STAMP = struct.Struct("<qd")
"""Frame index, and t_capture in s monotonic."""
ENCODER_PX = 64


@contextmanager
def mesh() -> Iterator[Any]:
    """FaceMesh as most programs use it, with irises, for one face; warm."""
    with quiet():
        from mediapipe.python.solutions.face_mesh import FaceMesh

        found = FaceMesh(refine_landmarks=True, max_num_faces=1)
        found.process(np.zeros((256, 256, 3), np.uint8))  # the first call is the slow one
    with found:
        yield found


def mesh_fps(video: Path, decoding: bool) -> float:
    """Run FaceMesh over all frames of a video. decoding: count the time that decoding takes, too."""
    frames, seconds = decoded(video), 0.0
    done = 0
    with mesh() as run:
        while True:
            started = time.perf_counter()
            chunk = list(islice(frames, CHUNK))
            seconds += time.perf_counter() - started if decoding else 0.0
            if not chunk:
                return done / seconds
            started = time.perf_counter()
            for frame in chunk:
                run.process(frame)
            seconds += time.perf_counter() - started
            done += len(chunk)


def decoded(video: Path) -> Iterator[NDArray[np.uint8]]:
    """Decode a video with OpenCV; [H, W, 3] RGB each."""
    capture = cv2.VideoCapture(str(video))
    while True:
        is_there, image = capture.read()
        if not is_there:
            return
        yield np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def publish_live(video: Path, port: int, seconds: float, fps: float = 30.0) -> None:
    """Play a video at its rate; one message per frame with a face."""
    import zmq

    encode = _encoder()
    socket: Any = zmq.Context.instance().socket(zmq.PUB)
    socket.bind(f"tcp://127.0.0.1:{port}")
    with mesh() as run:
        t_first = time.monotonic()
        for index, image in enumerate(decoded(video)):
            due = t_first + index / fps
            if due > t_first + seconds:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            found = run.process(image).multi_face_landmarks
            if found:
                crop = _crop(image, found[0].landmark)
                socket.send(STAMP.pack(index, due) + encode(crop).tobytes())


def _encoder() -> Any:
    import onnxruntime

    from psm_stream.bundle import ENCODER, general_bundle

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(general_bundle() / ENCODER, options, providers=["CPUExecutionProvider"])
    return lambda crop: session.run(None, {"crops": crop[None]})[0][0]


def _crop(image: NDArray[np.uint8], landmarks: Any) -> NDArray[np.uint8]:
    """The box around the landmarks, scaled."""
    points = np.array([(point.x, point.y) for point in landmarks]) * image.shape[1::-1]
    (left, top), (right, bottom) = points.min(axis=0).clip(0).astype(int), points.max(axis=0).astype(int)
    face = image[top : bottom + 1, left : right + 1]
    return np.asarray(cv2.resize(face, (ENCODER_PX, ENCODER_PX), interpolation=cv2.INTER_AREA), np.uint8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="publish embeddings live without psm-stream")
    parser.add_argument("video", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    publish_live(given.video, given.port, given.seconds)
