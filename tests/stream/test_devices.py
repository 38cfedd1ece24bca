"""Which provider runs: what was asked for, or an error; `auto` says what it chose and why."""

from dataclasses import dataclass, field
from typing import Any

import onnxruntime
import pytest

from psm_stream import devices
from psm_stream.bundle import general_bundle
from psm_stream.errors import BundleError, DeviceError

GENERAL = (general_bundle() / "encoder.onnx").read_bytes()
ALL = [devices.TENSORRT, devices.CUDA, devices.CPU]


@dataclass
class Part:
    """A part of a graph, as ONNX Runtime tells who runs it."""

    ep_name: str


@dataclass
class FakeRuntime:
    """Stands in for ONNX Runtime's session maker on a machine with a GPU. starts: which providers really do."""

    starts: list[str] = field(default_factory=lambda: list(ALL))
    runs: str = ""
    fails_on: str = ""
    made: list[list[str]] = field(default_factory=list)

    def __call__(self, _model: bytes, _options: object, providers: list[tuple[str, dict]], **_: object) -> Any:
        names = [name for name, _ in providers]
        self.made.append(names)
        if names[0] == self.fails_on:
            raise RuntimeError("CUDA failure 2: out of memory\nat line 5")
        return FakeSession([name for name in names if name in self.starts], self.runs or names[0])


@dataclass
class FakeSession:
    names: list[str]
    runs: str

    def get_providers(self) -> list[str]:
        return self.names

    def get_provider_graph_assignment_info(self) -> list[Part]:
        return [Part(self.runs), Part(devices.CPU)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """A machine whose onnxruntime has every provider and whose driver loads."""
    runtime = FakeRuntime()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL)
    monkeypatch.setattr(onnxruntime, "InferenceSession", runtime)
    monkeypatch.setattr(devices, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(devices, "_preload_gpu_libraries", lambda: None)
    return runtime


def test_the_cpu_is_never_looked_for_elsewhere(gpu: FakeRuntime) -> None:
    running = devices.open_session(GENERAL, "cpu", 1)
    assert (running.device, running.why) == ("cpu", "asked for")
    assert gpu.made == [[devices.CPU]]


def test_auto_takes_a_gpu_that_works(gpu: FakeRuntime) -> None:
    running = devices.open_session(GENERAL, "auto", 1)
    assert running.device == "cuda"
    assert running.why.startswith("auto: a GPU")
    assert gpu.made == [[devices.CUDA, devices.CPU]]


def test_auto_says_why_a_gpu_that_is_there_is_not_used(gpu: FakeRuntime) -> None:
    gpu.starts = [devices.CPU]
    running = devices.open_session(GENERAL, "auto", 1)
    assert running.device == "cpu"
    assert running.why == "auto: CUDA could not start although a driver is there"
    assert running.session.get_providers() == [devices.CPU]


def test_a_silent_fall_back_is_an_error_when_the_device_was_asked_for(gpu: FakeRuntime) -> None:
    gpu.starts = [devices.CPU]
    with pytest.raises(DeviceError, match="--device cuda: CUDA could not start") as caught:
        devices.open_session(GENERAL, "cuda", 1)
    assert "onnxruntime-gpu[cuda,cudnn]" in str(caught.value)


def test_a_provider_that_runs_no_node_is_not_running(gpu: FakeRuntime) -> None:
    gpu.runs = devices.CUDA
    with pytest.raises(DeviceError, match="TensorRT cannot run any part of this model"):
        devices.open_session(GENERAL, "tensorrt", 1)
    gpu.runs = devices.TENSORRT
    assert devices.open_session(GENERAL, "tensorrt", 1).device == "tensorrt"


def test_a_gpu_that_refuses_the_model_is_told_in_one_line(gpu: FakeRuntime) -> None:
    gpu.fails_on = devices.CUDA
    with pytest.raises(DeviceError, match="out of memory") as caught:
        devices.open_session(GENERAL, "cuda", 1)
    assert "\n" not in str(caught.value)
    running = devices.open_session(GENERAL, "auto", 1)
    assert running.device == "cpu"
    assert "out of memory" in running.why


def test_without_a_driver_nothing_is_tried(gpu: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_nvidia_driver", lambda: False)
    assert devices.open_session(GENERAL, "auto", 1).why == "auto: no NVIDIA driver on this machine"
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        devices.open_session(GENERAL, "cuda", 1)
    assert gpu.made == [[devices.CPU]]


def test_an_onnxruntime_without_cuda_is_named(gpu: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [devices.CPU])
    assert devices.open_session(GENERAL, "auto", 1).why == "auto: this onnxruntime is built without CUDA"
    with pytest.raises(DeviceError, match="built without TensorRT"):
        devices.open_session(GENERAL, "tensorrt", 1)
    assert gpu.made == [[devices.CPU]]


def test_what_onnxruntime_cannot_read_is_refused_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BundleError, match="ONNX Runtime cannot run") as caught:
        devices.open_session(b"not a model", "cpu", 1)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_opening_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    devices.open_session(GENERAL, "auto", 1)
    assert capfd.readouterr() == ("", "")


def test_looking_for_gpu_libraries_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    looked = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: (looked.append(1), print("Failed to load libcudart")))
    devices._preload_gpu_libraries.cache_clear()
    devices._preload_gpu_libraries()
    devices._preload_gpu_libraries()
    devices._preload_gpu_libraries.cache_clear()
    assert looked == [1]
    assert capfd.readouterr() == ("", "")
