"""What the driver and TensorRT say of themselves, asked of libraries that are played here."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from psm_stream import gpu
from psm_stream.errors import DeviceError
from psm_stream.gpu import Gpu, has_nvidia_driver, load_tensorrt, read_gpu


class Driver:
    """Answers as libcuda and NVML do. failing: the function that fails."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.asked.append(name)
            if name == self.failing:
                return 100
            if name == "cuDeviceGetName":
                arguments[0].value = b"A GPU"
            elif name == "cuDeviceGetUuid":
                ctypes.memmove(arguments[0]._obj, bytes(range(16)), 16)
            elif name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {75: 9, 76: 0}[arguments[1]]
            elif name == "nvmlSystemGetDriverVersion":
                arguments[0].value = b"580.82.07"
            return 0

        return call


def absent(_: str) -> Any:
    raise OSError("cannot open shared object file")


def test_the_driver_is_asked() -> None:
    driver = Driver()
    assert read_gpu(lambda _: driver) == Gpu("A GPU", "9.0", bytes(range(16)).hex(), "580.82.07")
    assert driver.asked[-1] == "nvmlShutdown"
    assert has_nvidia_driver(lambda _: driver)


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceGet", "cuDeviceGetUuid", "nvmlInit_v2"])
def test_what_the_driver_refuses_is_one_line(failing: str) -> None:
    with pytest.raises(DeviceError, match=r"answers \w+ with error 100") as caught:
        read_gpu(lambda _: Driver(failing))
    assert "\n" not in str(caught.value)


def test_no_driver_is_said() -> None:
    assert not has_nvidia_driver(absent)
    with pytest.raises(DeviceError, match="no NVIDIA driver on this machine"):
        read_gpu(absent)


class Infer:
    def getInferLibVersion(self) -> int:
        return 101303


def test_tensorrt_is_loaded_from_where_pip_puts_it(tmp_path: Path) -> None:
    (tmp_path / gpu.TENSORRT_LIBRARIES[0]).write_bytes(b"")
    loaded: list[str] = []

    def load(path: str) -> Infer:
        loaded.append(path)
        return Infer()

    assert load_tensorrt(load, tmp_path) == "10.13.3"
    assert loaded == [str(tmp_path / gpu.TENSORRT_LIBRARIES[0]), *gpu.TENSORRT_LIBRARIES[1:]]


def test_the_missing_library_is_named() -> None:
    def load(path: str) -> Infer:
        if "parser" in path:
            raise OSError(f"{path}: cannot open\nshared object file")
        return Infer()

    with pytest.raises(DeviceError, match=f"TensorRT's {gpu.TENSORRT_LIBRARIES[2]} cannot be loaded") as caught:
        load_tensorrt(load)
    assert "\n" not in str(caught.value)
