"""Which execution provider runs an encoder: chosen, checked and explained.

ONNX Runtime falls back to the CPU without raising when a GPU provider cannot start. Here a provider that was asked for
and is not there is an error, and `auto` says what it chose and why.
"""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from psm_stream.engines import WRAPPER, EngineSpec, engine_folder, is_whole, key_of, new_draft, prune, seal, used
from psm_stream.errors import BundleError, DeviceError
from psm_stream.gpu import TENSORRT_PACKAGE, has_nvidia_driver, load_tensorrt, read_gpu

Device = Literal["auto", "cpu", "cuda", "tensorrt"]

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_CUDA_OPTIONS = {
    # otherwise ONNX Runtime picks cuDNN's algorithm by timing, and two sessions would not give the same bytes
    "cudnn_conv_algo_search": "DEFAULT",
    # float32 stays float32: TensorFloat-32 keeps 10 bits of a mantissa, which costs more than our tolerance
    "use_tf32": "0",
}
_CUDA_GRAPHS = {
    # all kernels of an inference are recorded once and started together: a small encoder waits for starts, not for sums
    "cuda": {"enable_cuda_graph": "1"},
    "tensorrt": {"trt_cuda_graph_enable": "1"},
}
_PROVIDERS = {"cpu": (CPU,), "cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU)}
_NAMES = {"cpu": "the CPU", "cuda": "CUDA", "tensorrt": "TensorRT"}
_SILENT = 4
_WARNING = 2

BUILDING = "building a TensorRT engine for this GPU: minutes; later starts take it from the cache"
Options: TypeAlias = dict[str, str]


@dataclass(frozen=True, slots=True)
class Use:
    """How a session is going to be used.

    spec: what TensorRT builds an engine for, which is then kept; None: it builds what it needs, and keeps nothing.
    graphs: try CUDA graphs, which take one shape alone and buffers that stay where they are (binding.py).
    tell: told in one line, before something takes long.
    """

    spec: EngineSpec | None = None
    graphs: bool = False
    tell: Callable[[str], object] = lambda _: None


@dataclass(frozen=True, slots=True)
class Running:
    """An ONNX Runtime session, the device that really runs it, why it is that one, and whether it has CUDA graphs."""

    session: Any
    device: str
    why: str
    graphs: bool = False


def open_session(model: bytes, device: Device, threads: int, use: Use | None = None) -> Running:
    """Start a session for an ONNX model. threads: CPU threads inside one inference.

    Raises BundleError: ONNX Runtime refuses the model. Raises DeviceError: the device asked for is not there.
    """
    if device == "cpu":
        return Running(_open(model, "cpu", threads), "cpu", "asked for")
    wanted = "cuda" if device == "auto" else device
    running, trouble = _try_gpu(model, wanted, threads, use or Use())
    if running is not None:
        why = "auto: a GPU that CUDA can use is there" if device == "auto" else "asked for"
        return Running(running.session, wanted, why + running.why, running.graphs)
    if device == "auto":
        return Running(_open(model, "cpu", threads), "cpu", f"auto: {trouble}")
    raise DeviceError(f"--device {device}: {trouble}; {_advice(wanted)}, or use --device cpu")


def _try_gpu(model: bytes, wanted: str, threads: int, use: Use) -> tuple[Running | None, str]:
    """Return (what runs, "") when `wanted` really runs the model, else (None, what stands in the way)."""
    import onnxruntime

    if _PROVIDERS[wanted][0] not in onnxruntime.get_available_providers():
        return None, f"this onnxruntime is built without {_NAMES[wanted]}"
    if not has_nvidia_driver():
        return None, "no NVIDIA driver on this machine"
    _preload_gpu_libraries()
    if wanted == "tensorrt":
        return _try_tensorrt(model, threads, use)
    return _with_or_without_graphs(wanted, use, lambda more: _open(model, wanted, threads, more))


def _try_tensorrt(model: bytes, threads: int, use: Use) -> tuple[Running | None, str]:
    """Take the engine from the cache, or build it and keep it."""
    try:
        version = load_tensorrt()
        if use.spec is None:
            return _with_or_without_graphs("tensorrt", use, lambda more: _open(model, "tensorrt", threads, more))
        key = key_of(model, use.spec, read_gpu(), version)
    except DeviceError as error:
        return None, str(error)
    folder, options = engine_folder(key), use.spec.options()
    if is_whole(folder, key):
        used(folder)
        wrapper = folder / WRAPPER  # opened by its path: the engine's name in it is looked for beside it
        source, kept = (wrapper, {}) if wrapper.is_file() else (model, options | _kept_in(folder))
        return _with_or_without_graphs("tensorrt", use, lambda more: _open(source, "tensorrt", threads, kept | more))
    use.tell(BUILDING)
    draft = new_draft(key)
    try:
        options |= _kept_in(draft)
        made = _with_or_without_graphs("tensorrt", use, lambda more: _open(model, "tensorrt", threads, options | more))
        if made[0] is not None and any(draft.glob("*.engine")):  # timings alone are none
            seal(draft, key)
            prune()
        return made
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _kept_in(folder: Path) -> Options:
    """Options by which TensorRT's engine, and the timings that it was chosen by, are written to and read from there."""
    path = str(folder)
    engine = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": path}
    return engine | {"trt_timing_cache_enable": "1", "trt_timing_cache_path": path}


def _with_or_without_graphs(wanted: str, use: Use, start: Callable[[Options], Any]) -> tuple[Running | None, str]:
    """Start a session, with CUDA graphs if they are wanted and work; `why` says if not. start: takes more options."""
    without = ""
    for more in (_CUDA_GRAPHS[wanted], {}) if use.graphs else ({},):
        try:
            session, trouble = start(more), ""
        except BundleError as error:
            session, trouble = None, f"{_NAMES[wanted]} refused the model ({error})"
        trouble = trouble or _trouble_of(session, wanted)
        if not trouble:
            return Running(session, wanted, without, bool(more)), ""
        without = f"; without CUDA graphs: {trouble}"
    return None, trouble


def _trouble_of(session: Any, wanted: str) -> str:
    """Say why a session does not run where it should; "" if it does."""
    provider = _PROVIDERS[wanted][0]
    if session.get_providers()[0] != provider:
        return f"{_NAMES[wanted]} could not start although a driver is there"
    if not _runs_nodes(session, provider):
        return f"{_NAMES[wanted]} cannot run any part of this model"
    return ""


def _open(model: bytes | Path, device: str, threads: int, more: Options | None = None) -> Any:
    """Start a session on a device. model: its content, or its file. more: options of the device's provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT  # what it would print is raised here or told by `why`
    options.use_deterministic_compute = True
    # a thread that spins for its next task takes the core that alignment needs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # ONNX Runtime would take its own format, too, which `check_self_contained` cannot read
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if device != "cpu":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    given = model if isinstance(model, bytes) else str(model)
    try:
        with _quiet(onnxruntime):
            providers = _provider_options(device, more or {})
            return onnxruntime.InferenceSession(given, options, providers=providers, enable_fallback=0)
    except Exception as error:  # its exceptions share no base but Exception, and all of them mean this
        message = " ".join(str(error).split())[:200]
        raise BundleError(f"ONNX Runtime cannot run encoder.onnx: {message}") from error


def _provider_options(device: str, more: Options) -> list[tuple[str, Options]]:
    """Return the providers of a device in order, with their options; those given are of the first."""
    usual: dict[str, Options] = {CUDA: _CUDA_OPTIONS}
    first = _PROVIDERS[device][0]
    return [(name, usual.get(name, {}) | (more if name == first else {})) for name in _PROVIDERS[device]]


def _runs_nodes(session: Any, provider: str) -> bool:
    """Whether a provider has any node of the graph: TensorRT may be registered and yet have none.

    onnxruntime before 1.24 cannot tell; there, being registered is taken for running.
    """
    assignment = getattr(session, "get_provider_graph_assignment_info", None)
    return assignment is None or any(part.ep_name == provider for part in assignment())


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
        return f"pip install '{TENSORRT_PACKAGE}' beside onnxruntime-gpu and an NVIDIA driver"
    return "install an NVIDIA driver and pip install 'onnxruntime-gpu[cuda,cudnn]'"
