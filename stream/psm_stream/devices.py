"""Which execution provider runs an encoder: chosen, checked and explained.

ONNX Runtime falls back to the CPU without raising when a GPU provider cannot start. Here a provider that was asked for
and is not there is an error, and `auto` says what it chose and why.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from psm_stream.errors import BundleError, DeviceError

Device = Literal["auto", "cpu", "cuda", "tensorrt"]

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
# ONNX Runtime picks cuDNN's algorithm by timing unless told otherwise, so two sessions would not give the same bytes
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"}
_PROVIDERS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "cpu": [(CPU, {})],
    "cuda": [(CUDA, _CUDA_OPTIONS), (CPU, {})],
    "tensorrt": [(TENSORRT, {}), (CUDA, _CUDA_OPTIONS), (CPU, {})],
}
_NAMES = {"cpu": "the CPU", "cuda": "CUDA", "tensorrt": "TensorRT"}
_SILENT = 4
_WARNING = 2


@dataclass(frozen=True, slots=True)
class Running:
    """An ONNX Runtime session, the device that really runs it, and why it is that one."""

    session: Any
    device: str
    why: str


def open_session(model: bytes, device: Device, threads: int) -> Running:
    """Start a session for an ONNX model. threads: CPU threads inside one inference.

    Raises BundleError: ONNX Runtime refuses the model. Raises DeviceError: the device asked for is not there.
    """
    if device == "cpu":
        return Running(_open(model, "cpu", threads), "cpu", "asked for")
    wanted = "cuda" if device == "auto" else device
    session, trouble = _try_gpu(model, wanted, threads)
    if session is not None:
        return Running(session, wanted, "auto: a GPU that CUDA can use is there" if device == "auto" else "asked for")
    if device == "auto":
        return Running(_open(model, "cpu", threads), "cpu", f"auto: {trouble}")
    raise DeviceError(f"--device {device}: {trouble}; {_advice(wanted)}, or use --device cpu")


def _try_gpu(model: bytes, wanted: str, threads: int) -> tuple[Any, str]:
    """Return (session, "") when `wanted` really runs the model, else (None, what stands in the way)."""
    import onnxruntime

    provider = _PROVIDERS[wanted][0][0]
    if provider not in onnxruntime.get_available_providers():
        return None, f"this onnxruntime is built without {_NAMES[wanted]}"
    if not has_nvidia_driver():
        return None, "no NVIDIA driver on this machine"
    _preload_gpu_libraries()
    try:
        session = _open(model, wanted, threads)
    except BundleError as error:
        return None, f"{_NAMES[wanted]} refused the model ({error})"
    if session.get_providers()[0] != provider:
        return None, f"{_NAMES[wanted]} could not start although a driver is there"
    if not _runs_nodes(session, provider):
        return None, f"{_NAMES[wanted]} cannot run any part of this model"
    return session, ""


def _open(model: bytes, device: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT  # what it would print is raised here or told by `why`
    options.use_deterministic_compute = True
    # a thread that spins for its next task takes the core that alignment needs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if device != "cpu":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        with _quiet(onnxruntime):
            return onnxruntime.InferenceSession(model, options, providers=_PROVIDERS[device], enable_fallback=0)
    except Exception as error:  # its exceptions share no base but Exception, and all of them mean this
        message = " ".join(str(error).split())[:200]
        raise BundleError(f"ONNX Runtime cannot run encoder.onnx: {message}") from error


def _runs_nodes(session: Any, provider: str) -> bool:
    """Whether a provider has any node of the graph: TensorRT may be registered and yet have none.

    onnxruntime before 1.24 cannot tell; there, being registered is taken for running.
    """
    assignment = getattr(session, "get_provider_graph_assignment_info", None)
    return assignment is None or any(part.ep_name == provider for part in assignment())


def has_nvidia_driver() -> bool:
    """Whether the driver's library can be loaded; without it no GPU provider can start."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


@functools.cache
def _preload_gpu_libraries() -> None:
    """Let ONNX Runtime find CUDA and cuDNN where pip or torch put them, once a process; it prints what it misses."""
    import onnxruntime

    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()


@contextlib.contextmanager
def _quiet(onnxruntime: Any) -> Iterator[None]:
    onnxruntime.set_default_logger_severity(_SILENT)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


def _advice(wanted: str) -> str:
    if wanted == "tensorrt":
        return "install TensorRT 10 beside onnxruntime-gpu"
    return "install an NVIDIA driver and pip install 'onnxruntime-gpu[cuda,cudnn]'"
