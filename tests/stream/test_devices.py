"""Which provider runs: what was asked for, or an error; `auto` says what it chose and why."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from psm_stream import devices
from psm_stream.bundle import general_bundle
from psm_stream.devices import Use
from psm_stream.engines import EngineSpec, cached, engine_folder, is_whole, key_of, new_draft, seal
from psm_stream.errors import BundleError, DeviceError
from psm_stream.gpu import Gpu

GENERAL = (general_bundle() / "encoder.onnx").read_bytes()
GPU = Gpu("a GPU", "9.0", "0" * 32, "580.1")
SPEC = EngineSpec("int8", 64)
KEY = key_of(GENERAL, SPEC, GPU, "10.13.3")
ALL = [devices.TENSORRT, devices.CUDA, devices.CPU]


@dataclass
class Part:
    """A part of a graph, as ONNX Runtime tells who runs it."""

    ep_name: str


@dataclass
class FakeRuntime:
    """Stands in for ONNX Runtime's session maker on a machine with a GPU. starts: which providers really do.

    engine: what TensorRT writes where it is told to keep engines; "" writes nothing.
    """

    starts: list[str] = field(default_factory=lambda: list(ALL))
    runs: str = ""
    fails_on: str = ""
    captures: bool = True
    engine: str = ""
    made: list[list[str]] = field(default_factory=list)
    given: list[tuple[object, dict[str, str]]] = field(default_factory=list)

    def __call__(self, model: object, _options: object, providers: list[tuple[str, dict]], **_: object) -> Any:
        names = [name for name, _ in providers]
        options = providers[0][1]
        self.made.append(names)
        self.given.append((model, options))
        if names[0] == self.fails_on:
            raise RuntimeError("CUDA failure 2: out of memory\nat line 5")
        if not self.captures and {"enable_cuda_graph", "trt_cuda_graph_enable"} & options.keys():
            raise RuntimeError("This session cannot use the graph capture feature: nodes on the CPU")
        if self.engine and isinstance(model, bytes) and "trt_engine_cache_path" in options:
            (Path(options["trt_engine_cache_path"]) / self.engine).write_bytes(b"native code")
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
    monkeypatch.setattr(devices, "load_tensorrt", lambda: "10.13.3")
    monkeypatch.setattr(devices, "read_gpu", lambda: GPU)
    return runtime


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said before something takes long, with an empty cache of engines."""
    monkeypatch.setenv("PSM_CACHE", str(tmp_path / "cache"))
    return []


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


def test_numbers_do_not_depend_on_timing_or_on_short_mantissas(gpu: FakeRuntime) -> None:
    devices.open_session(GENERAL, "cuda", 1)
    assert gpu.given == [(GENERAL, {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"})]


@pytest.mark.parametrize(("device", "option"), [("cuda", "enable_cuda_graph"), ("tensorrt", "trt_cuda_graph_enable")])
def test_cuda_graphs_are_taken_where_shapes_are_fixed(gpu: FakeRuntime, device: devices.Device, option: str) -> None:
    running = devices.open_session(GENERAL, device, 1, Use(graphs=True))
    assert (running.graphs, running.why) == (True, "asked for")
    assert gpu.given[0][1][option] == "1"
    assert not devices.open_session(GENERAL, device, 1).graphs
    assert option not in gpu.given[1][1]


@pytest.mark.parametrize("device", ["auto", "cuda", "tensorrt"])
def test_a_graph_that_cannot_be_captured_runs_without(gpu: FakeRuntime, device: devices.Device) -> None:
    gpu.captures = False
    running = devices.open_session(GENERAL, device, 1, Use(graphs=True))
    assert not running.graphs
    assert "; without CUDA graphs: " in running.why
    assert "nodes on the CPU" in running.why
    assert len(gpu.made) == 2
    assert not {"enable_cuda_graph", "trt_cuda_graph_enable"} & gpu.given[1][1].keys()


def test_the_cpu_knows_no_cuda_graphs(gpu: FakeRuntime) -> None:
    assert not devices.open_session(GENERAL, "cpu", 1, Use(graphs=True)).graphs
    assert gpu.given == [(GENERAL, {})]


def test_without_tensorrt_it_is_said_what_to_install(gpu: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> str:
        raise DeviceError("TensorRT's libnvinfer.so.10 cannot be loaded (no such file)")

    monkeypatch.setattr(devices, "load_tensorrt", absent)
    with pytest.raises(DeviceError, match=r"--device tensorrt: TensorRT's libnvinfer\.so\.10 cannot be") as caught:
        devices.open_session(GENERAL, "tensorrt", 1)
    assert "pip install 'tensorrt-cu13>=10.13,<11'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert gpu.made == []


def test_an_engine_is_built_once_and_kept(gpu: FakeRuntime, told: list[str]) -> None:
    gpu.engine = "TensorrtExecutionProvider_TRTKernel.engine"
    use = Use(SPEC, tell=told.append)
    assert devices.open_session(GENERAL, "tensorrt", 1, use).device == "tensorrt"
    assert told == [devices.BUILDING]
    folder = engine_folder(KEY)
    assert is_whole(folder, KEY)
    devices.open_session(GENERAL, "tensorrt", 1, use)
    assert told == [devices.BUILDING]
    (_, first), (model, second) = gpu.given
    assert model == GENERAL
    kept = {key: second[key] for key in ("trt_engine_cache_enable", "trt_engine_cache_path", "trt_timing_cache_path")}
    assert kept == {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_path": str(folder),
    }
    assert first["trt_engine_cache_path"] != second["trt_engine_cache_path"]
    assert SPEC.options().items() <= first.items() & second.items()


def test_an_engine_that_psm_export_built_is_opened_by_its_wrapper(gpu: FakeRuntime, told: list[str]) -> None:
    draft = new_draft(KEY)
    for name in ("engine.plan", "engine.onnx"):
        (draft / name).write_bytes(b"")
    folder = seal(draft, KEY)
    devices.open_session(GENERAL, "tensorrt", 1, Use(SPEC, graphs=True, tell=told.append))
    assert gpu.given == [(str(folder / "engine.onnx"), {"trt_cuda_graph_enable": "1"})]
    assert told == []


def test_an_engine_that_was_changed_is_built_again(gpu: FakeRuntime, told: list[str]) -> None:
    gpu.engine = "one.engine"
    use = Use(SPEC, tell=told.append)
    devices.open_session(GENERAL, "tensorrt", 1, use)
    (engine_folder(KEY) / "one.engine").write_bytes(b"somebody else's code")
    devices.open_session(GENERAL, "tensorrt", 1, use)
    assert told == [devices.BUILDING] * 2
    assert (engine_folder(KEY) / "one.engine").read_bytes() == b"native code"
    assert is_whole(engine_folder(KEY), KEY)


def test_timings_alone_are_no_engine(gpu: FakeRuntime, told: list[str], tmp_path: Path) -> None:
    gpu.engine = "TensorrtExecutionProvider_cache_sm90.timing"
    for _ in range(2):
        devices.open_session(GENERAL, "tensorrt", 1, Use(SPEC, tell=told.append))
    assert told == [devices.BUILDING] * 2
    assert list((tmp_path / "cache" / "engines").iterdir()) == []


def test_another_model_or_driver_is_another_engine(
    gpu: FakeRuntime, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.engine = "one.engine"
    use = Use(SPEC, tell=told.append)
    devices.open_session(GENERAL, "tensorrt", 1, use)
    devices.open_session(GENERAL + b" ", "tensorrt", 1, use)
    monkeypatch.setattr(devices, "read_gpu", lambda: Gpu("a GPU", "9.0", "0" * 32, "590.0"))
    devices.open_session(GENERAL, "tensorrt", 1, use)
    assert (len(told), len(cached())) == (3, 3)


def test_a_build_that_fails_leaves_nothing(gpu: FakeRuntime, told: list[str], tmp_path: Path) -> None:
    gpu.fails_on = devices.TENSORRT
    with pytest.raises(DeviceError, match="TensorRT refused the model"):
        devices.open_session(GENERAL, "tensorrt", 1, Use(SPEC, tell=told.append))
    assert list((tmp_path / "cache" / "engines").iterdir()) == []


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
