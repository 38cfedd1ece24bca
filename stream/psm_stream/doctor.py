"""What psm-doctor looks at: versions, models, devices, cameras, ports, and one face run through the main job.

Each check is a function that returns a `Finding`. What it raises becomes one, so that there is always a whole report.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import Enum

import psutil

from psm_stream import people, people_keep
from psm_stream.config import AlignerSettings, SourceSettings, WireSettings
from psm_stream.doctor_gpu import gpu_lines
from psm_stream.errors import PsmError

PACKAGES = (
    "psm-stream",
    "mediapipe",
    "onnxruntime-gpu",
    "onnxruntime",
    "tensorrt-cu13",
    "opencv-contrib-python",
    "av",
    "numpy",
    "pyzmq",
    "msgpack",
    "mcap",
    "pyarrow",
    "scikit-image",
    "hdbscan",
    "scikit-learn",
)
OTHER_OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python-headless")
CAMERAS_TRIED = 4
TRAINING_GIB = 2.0
"""What an adaptation on the CPU takes, imports included, with some room."""


class Verdict(Enum):
    """ok; note: good to know, the main job runs; bad: the main job cannot run."""

    OK = "ok"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    subject: str
    verdict: Verdict
    text: str


def examine(wire: WireSettings) -> Iterator[Finding]:
    """Yield every finding, the quick ones first."""
    yield _python()
    yield from _packages()
    yield _guarded("opencv", _opencv)
    yield _guarded("user folder", _folders, Verdict.NOTE)
    yield _guarded("ports", lambda: _ports(wire))
    yield _guarded("general encoder", _general_encoder)
    yield _guarded("onnxruntime", _providers, Verdict.NOTE)
    yield from _gpu()
    yield _guarded("adaptation", _adaptation, Verdict.NOTE)
    yield _guarded("face alignment", _main_job)
    yield _guarded("face landmarker", _landmarker, Verdict.NOTE)
    yield _guarded("cameras", _cameras, Verdict.NOTE)


def _guarded(subject: str, check: Callable[[], Finding], otherwise: Verdict = Verdict.BAD) -> Finding:
    """Run a check. otherwise: what it means when it raises; bad where the main job needs what it looks at."""
    try:
        return check()
    except PsmError as error:
        return Finding(subject, otherwise, str(error))
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Finding(subject, otherwise, text + _advice(error))


def _advice(error: Exception) -> str:
    """OpenCV's wheels for Linux expect these libraries of the system, which slim containers and servers lack."""
    lacks_library = isinstance(error, ImportError) and re.search(r"lib(GL|gthread|glib)\b", str(error))
    return "; apt-get install libgl1 libglib2.0-0" if lacks_library else ""


def _python() -> Finding:
    fits = (3, 10) <= sys.version_info[:2] <= (3, 12)
    text = f"{platform.python_version()} on {platform.platform()}"
    return Finding("python", Verdict.OK if fits else Verdict.BAD, text + ("" if fits else "; 3.10 to 3.12 is needed"))


def _packages() -> Iterator[Finding]:
    versions = {name: version for name in PACKAGES if (version := _version(name))}
    yield Finding("packages", Verdict.OK, ", ".join(f"{name} {version}" for name, version in versions.items()))
    if {"onnxruntime", "onnxruntime-gpu"} <= versions.keys():
        text = "onnxruntime and onnxruntime-gpu overwrite each other; uninstall both, then reinstall one"
        yield Finding("onnxruntime", Verdict.NOTE, text)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _opencv() -> Finding:
    import cv2

    others = [name for name in OTHER_OPENCVS if _version(name)]
    if others:
        text = f"{', '.join(others)} overwrites mediapipe's opencv-contrib-python; uninstall it, reinstall that one"
        return Finding("opencv", Verdict.NOTE, text)
    return Finding("opencv", Verdict.OK, f"{cv2.__version__} loads")


def _folders() -> Finding:
    people_keep.check_writable(people.home())
    return Finding("user folder", Verdict.OK, f"{people.home()} (PSM_HOME overrides)")


def _ports(wire: WireSettings) -> Finding:
    from psm_stream.wire.ports import open_sockets

    with closing(open_sockets(wire)) as sockets:
        ports = sockets.ports
    return Finding("ports", Verdict.OK, f"{ports.control} to {ports.markers} on {wire.bind} are free")


def _general_encoder() -> Finding:
    from psm_stream.bundle import general_bundle, open_bundle
    from psm_stream.encoder import open_encoder

    encoder = open_encoder(open_bundle(general_bundle()), "auto", 1)
    encoder.warm_up()
    text = f"{encoder.model_id}, {encoder.dimension} dimensions, runs on {encoder.provider} ({encoder.why})"
    if encoder.trained:
        return Finding("general encoder", Verdict.OK, text)
    return Finding("general encoder", Verdict.NOTE, text + "; UNTRAINED: its embeddings mean nothing yet")


def _providers() -> Finding:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    text = f"built with {', '.join(name.removesuffix('ExecutionProvider') for name in available)}"
    return Finding("onnxruntime", Verdict.OK, text + " (what really runs stands with the encoder)")


def _gpu() -> list[Finding]:
    """GPU, TensorRT and the engines kept; one finding where looking fails altogether, so that the report is whole."""
    try:
        return [
            Finding(subject, Verdict.OK if is_well else Verdict.NOTE, text) for subject, is_well, text in gpu_lines()
        ]
    except Exception as error:
        return [Finding("gpu", Verdict.NOTE, f"{type(error).__name__}: {' '.join(str(error).split())}")]


def _adaptation() -> Finding:
    """Whether a model of the person can be trained here. torch is not imported: that takes seconds."""
    from psm_stream.adaptation.plan import missing

    lacking = missing()
    if lacking:
        text = f"{', '.join(lacking)} missing (optional: models of a person); pip install 'psm-stream[adapt]'"
        return Finding("adaptation", Verdict.NOTE, text)
    cores, memory = psutil.cpu_count(), psutil.virtual_memory().available / 2**30
    text = f"can run: torch {_version('torch')}, {cores} CPU cores, {memory:.1f} GiB of memory free"
    if memory < TRAINING_GIB:
        return Finding("adaptation", Verdict.NOTE, f"{text}; {TRAINING_GIB:g} GiB are wanted")
    return Finding("adaptation", Verdict.OK, text)


def _main_job() -> Finding:
    """Align one frame of the demo."""
    from psm_stream.align import open_aligner
    from psm_stream.sources import SOURCES, Picture
    from psm_stream.values import Faces, Frame, Stamp

    source = SOURCES["demo"](SourceSettings(), lambda: 0.0)
    source.open()
    picture = source.read()
    source.close()
    aligner = open_aligner(AlignerSettings())
    assert isinstance(picture, Picture)
    sighting = aligner(Frame(Stamp(0, 0.0), picture.image))
    aligner.close()
    if isinstance(sighting, Faces):
        confidence = sighting.faces[0].confidence
        return Finding("face alignment", Verdict.OK, f"finds the demo's face with confidence {confidence:.2f}")
    return Finding("face alignment", Verdict.BAD, "does not find the demo's face; reinstall mediapipe 0.10.21")


def _landmarker() -> Finding:
    from psm_stream.models import FACE_LANDMARKER, is_intact

    path = FACE_LANDMARKER.path()
    if is_intact(path, FACE_LANDMARKER):
        return Finding("face landmarker", Verdict.OK, f"{path}: use it with --aligner.model {path}")
    return Finding(
        "face landmarker", Verdict.NOTE, "not there (optional: blendshapes, pose); psm-doctor --fetch-models"
    )


def _cameras() -> Finding:
    import cv2

    cv2.setLogLevel(0)  # it would complain about every number without a camera
    found = []
    for number in range(CAMERAS_TRIED):
        camera = cv2.VideoCapture(number)
        if camera.isOpened():
            width, height = camera.get(cv2.CAP_PROP_FRAME_WIDTH), camera.get(cv2.CAP_PROP_FRAME_HEIGHT)
            found.append(f"--camera {number}: {width:.0f}x{height:.0f} by {camera.getBackendName()}")
        camera.release()
    if found:
        return Finding("cameras", Verdict.OK, "; ".join(found))
    return Finding(
        "cameras", Verdict.NOTE, f"none among numbers 0 to {CAMERAS_TRIED - 1}; files, RTSP and the demo work"
    )
