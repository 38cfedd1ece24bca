"""What GPU and which TensorRT this machine has, asked of their own libraries: no torch, no nvidia-smi.

The first device of the CUDA driver is the one that ONNX Runtime takes, also under CUDA_VISIBLE_DEVICES; NVML, which
numbers them otherwise, is asked for the driver's version alone.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from psm_stream.errors import DeviceError

Load: TypeAlias = Callable[[str], Any]
"""Opens a shared library by name or path. Raises OSError: it is not there, or lacks another."""

TENSORRT_PACKAGE = "tensorrt-cu13>=10.13,<11"
"""What ONNX Runtime 1.31 is built against: CUDA 13 and libnvinfer.so.10. TensorRT 11 has another library name."""
TENSORRT_LIBRARIES = (
    ("nvinfer_10.dll", "nvinfer_plugin_10.dll", "nvonnxparser_10.dll")
    if sys.platform == "win32"
    else ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
)
_CUDA = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NVML = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_MAJOR, _MINOR = 75, 76
"""CUDA's numbers of a device's compute capability."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that runs encoders. compute_capability: "9.0". uuid: 32 hex digits. driver: "580.82.07"."""

    name: str
    compute_capability: str
    uuid: str
    driver: str


def has_nvidia_driver(load: Load = ctypes.CDLL) -> bool:
    """Whether the driver's library can be loaded; without it no GPU provider can start."""
    try:
        load(_CUDA)
    except OSError:
        return False
    return True


def read_gpu(load: Load = ctypes.CDLL) -> Gpu:
    """Ask the driver for its first device. Raises DeviceError: no driver, or it has none."""
    cuda = _opened(load, _CUDA)
    device, part = ctypes.c_int(), ctypes.c_int()
    name, uuid = ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()
    _ask(cuda.cuInit(0), "cuInit")
    _ask(cuda.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    _ask(cuda.cuDeviceGetName(name, len(name), device), "cuDeviceGetName")
    _ask(cuda.cuDeviceGetUuid(ctypes.byref(uuid), device), "cuDeviceGetUuid")
    capability = []
    for attribute in (_MAJOR, _MINOR):
        _ask(cuda.cuDeviceGetAttribute(ctypes.byref(part), attribute, device), "cuDeviceGetAttribute")
        capability.append(part.value)
    return Gpu(_text(name.value), f"{capability[0]}.{capability[1]}", bytes(uuid).hex(), _driver_version(load))


def load_tensorrt(load: Load | None = None, folder: Path | None = None) -> str:
    """Load TensorRT's libraries, so that ONNX Runtime finds them, and return their version, "10.13.3".

    They are looked for where pip puts them and then where the system does. folder: another place than pip's.
    Raises DeviceError: one is missing; it says which, and what to install.
    """
    load = load or _globally
    place = folder or _pip_folder()
    libraries = []
    for name in TENSORRT_LIBRARIES:
        inside = place / name if place is not None else None
        path = str(inside) if inside is not None and inside.is_file() else name
        try:
            libraries.append(load(path))
        except OSError as error:
            why = " ".join(str(error).split())[:120]
            raise DeviceError(f"TensorRT's {name} cannot be loaded ({why})") from None
    number = int(libraries[0].getInferLibVersion())
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


def _driver_version(load: Load) -> str:
    nvml = _opened(load, _NVML)
    version = ctypes.create_string_buffer(96)
    _ask(nvml.nvmlInit_v2(), "nvmlInit")
    try:
        _ask(nvml.nvmlSystemGetDriverVersion(version, len(version)), "nvmlSystemGetDriverVersion")
    finally:
        nvml.nvmlShutdown()
    return _text(version.value)


def _opened(load: Load, name: str) -> Any:
    try:
        return load(name)
    except OSError:
        raise DeviceError(f"no NVIDIA driver on this machine: {name} cannot be loaded") from None


def _ask(code: int, what: str) -> None:
    if code != 0:
        raise DeviceError(f"the NVIDIA driver answers {what} with error {code}; nvidia-smi may say more")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _globally(path: str) -> Any:
    """Load a library so that others find its symbols, which ONNX Runtime's provider does by the library's name."""
    return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)


def _pip_folder() -> Path | None:
    """Folder of the package that holds TensorRT's libraries, without importing it; None where it is not installed."""
    found = importlib.util.find_spec("tensorrt_libs")
    places = [] if found is None else list(found.submodule_search_locations or [])
    return Path(places[0]) if places else None
