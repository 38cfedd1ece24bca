"""Which software made a recording."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import psm_stream

_DISTRIBUTIONS = (
    "mediapipe",
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
    "opencv-contrib-python",
    "av",
    "mcap",
    "pyzmq",
    "hdbscan",
    "scikit-learn",
)


@cache
def versions() -> dict[str, str]:
    """Return the versions of everything that a result may depend on."""
    found = {"psm-stream": psm_stream.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
