"""What psm-doctor says of the GPU: the driver, CUDA, TensorRT, and the engines that are kept."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from psm_stream import engines
from psm_stream.errors import DeviceError
from psm_stream.gpu import TENSORRT_PACKAGE, has_nvidia_driver, load_tensorrt, read_gpu


def gpu_lines() -> Iterator[tuple[str, bool, str]]:
    """Yield (subject, whether it is as it could be, one line) for each."""
    yield "gpu", *_gpu()
    yield "tensorrt", *_tensorrt()
    yield "engine cache", *_cache()


def _gpu() -> tuple[bool, str]:
    import onnxruntime

    if not has_nvidia_driver():
        return False, "no NVIDIA driver on this machine (optional): encoders run on the CPU"
    try:
        gpu = read_gpu()
    except DeviceError as error:
        return False, f"{error}; encoders run on the CPU"
    text = f"{gpu.name}, compute capability {gpu.compute_capability}, driver {gpu.driver}"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return False, f"{text}; this onnxruntime has no CUDA: pip install 'onnxruntime-gpu[cuda,cudnn]' instead of it"
    return True, f"{text}; what really runs stands with the encoder"


def _tensorrt() -> tuple[bool, str]:
    """TensorRT's libraries are what runs; its Python package is what psm-export builds engines with."""
    try:
        version = load_tensorrt()
    except DeviceError as error:
        return False, f"{error} (optional, for --device tensorrt); pip install '{TENSORRT_PACKAGE}'"
    if importlib.util.find_spec("tensorrt") is None:
        return True, f"{version}; its Python package is missing, which psm-export needs to build engines"
    return True, f"{version}, with its Python package"


def _cache() -> tuple[bool, str]:
    kept = engines.cached()
    size_mb = sum(size for _, size in kept) / 1e6
    many = (
        "no TensorRT engines" if not kept else f"{len(kept)} TensorRT engine{'s'[: len(kept) > 1]}, {size_mb:.1f} MB,"
    )
    return True, f"{many} in {engines.cache_home() / 'engines'} (PSM_CACHE overrides)"
