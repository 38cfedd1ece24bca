"""TensorRT engines, against a stand-in of TensorRT's Python API that keeps to what its bindings say of themselves."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from psm_export import engine
from psm_stream import engines
from psm_stream.engines import EngineSpec
from psm_stream.errors import BundleError, DeviceError
from psm_stream.gpu import TENSORRT_PACKAGE, Gpu

SPEC = EngineSpec("int8", 64)


class FakeTensorRT:
    """Records what is asked of it, and reports progress as the real one does: phases within phases, out of order."""

    class IProgressMonitor:
        pass

    class Logger:
        ERROR = 1

        def __init__(self, level: int) -> None:
            assert level == self.ERROR

    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(TF32="tf32")

    def __init__(self, plan: bytes | None = b"plan", errors: tuple[str, ...] = ()) -> None:
        self.seen: dict[str, Any] = {}
        self.plan, self.errors = plan, errors

    def OnnxParser(self, network: str, logger: object) -> SimpleNamespace:
        assert (network, type(logger)) == ("network", self.Logger)

        def parse(content: bytes) -> bool:
            self.seen["parsed"] = content
            return not self.errors

        wrong = [SimpleNamespace(desc=lambda text=text: text) for text in self.errors]
        return SimpleNamespace(parse=parse, num_errors=len(wrong), get_error=lambda place: wrong[place])

    def Builder(self, logger: object) -> SimpleNamespace:
        del logger
        profile = SimpleNamespace(set_shape=lambda *shape: self.seen.update(shape=shape))
        config = SimpleNamespace(
            clear_flag=lambda flag: self.seen.update(cleared=flag),
            add_optimization_profile=lambda one: self.seen.update(profile=one is profile),
            progress_monitor=None,
        )

        def create_network(flags: int) -> str:
            self.seen["flags"] = flags
            return "network"

        def build(network: str, config: SimpleNamespace) -> bytes | None:
            assert network == "network"
            monitor = config.progress_monitor
            monitor.phase_start("building", None, 2)
            monitor.phase_start("tactics", "building", 900)
            assert monitor.step_complete("tactics", 0)
            assert monitor.step_complete("building", 0)
            monitor.phase_finish("tactics")
            assert monitor.step_complete("building", 1)
            monitor.phase_finish("building")
            return self.plan

        return SimpleNamespace(
            create_network=create_network,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: profile,
            build_serialized_network=build,
        )


def test_a_plan_is_built_in_the_graphs_own_precision_for_one_to_many_crops() -> None:
    fake, heard = FakeTensorRT(), []
    plan = engine.build_plan(b"the graph", SPEC, lambda *told: heard.append(told), fake)
    assert plan == b"plan"
    most = (engines.MAX_BATCH, 64, 64, 3)
    assert fake.seen == {
        "parsed": b"the graph",
        "flags": 1 << 1,
        "cleared": "tf32",
        "shape": ("crops", (1, 64, 64, 3), (1, 64, 64, 3), most),
        "profile": True,
    }
    assert [told[:2] for told in heard] == [(0, 2), (1, 2), (2, 2)]
    assert {told[2] for told in heard} == {engine.BUILDING}


def test_a_graph_that_tensorrt_cannot_read_is_one_line() -> None:
    fake = FakeTensorRT(errors=("no such\noperator", "at node 7"))
    with pytest.raises(BundleError, match="TensorRT cannot read the graph: no such operator; at node 7"):
        engine.build_plan(b"", SPEC, lambda *_: None, fake)


def test_a_build_that_gives_nothing_is_an_error() -> None:
    with pytest.raises(BundleError, match="built no engine"):
        engine.build_plan(b"", SPEC, lambda *_: None, FakeTensorRT(plan=None))


def test_the_wrapper_names_the_engine_beside_it() -> None:
    content = engine.wrapper(64, 256)
    model = onnx.ModelProto.FromString(content)
    (node,) = model.graph.node
    said = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert (node.op_type, node.domain) == ("EPContext", "com.microsoft")
    assert (said["main_context"], said["embed_mode"], said["ep_cache_context"]) == (1, 0, b"engine.plan")
    assert [end.name for end in (*model.graph.input, *model.graph.output)] == ["crops", "embedding"]
    assert engine.wrapper(64, 256) == content
    onnx.checker.check_model(model)


def test_what_was_built_is_found_again_and_belongs_to_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSM_CACHE", str(tmp_path))
    gpu = Gpu("a GPU", "9.0", "0" * 32, "580.1")
    key = engines.key_of(b"the graph", SPEC, gpu, "10.16.1")
    place = engine._keep(key, b"plan", engine.wrapper(64, 256))
    assert engines.is_whole(place, key)
    assert sorted(path.name for path in place.iterdir()) == ["engine.json", "engine.onnx", "engine.plan"]
    for other in (
        engines.key_of(b"the graph", SPEC, gpu, "10.16.2"),
        engines.key_of(b"another", SPEC, gpu, "10.16.1"),
        engines.key_of(b"the graph", SPEC, Gpu("a GPU", "9.0", "0" * 32, "580.2"), "10.16.1"),
    ):
        assert not engines.is_whole(engines.engine_folder(other), other)
    (place / "engine.plan").write_bytes(b"plam")
    assert not engines.is_whole(place, key)


def test_without_tensorrt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise DeviceError("TensorRT's libnvinfer.so.10 cannot be loaded (no such file)")

    monkeypatch.setattr(engine, "read_gpu", lambda: None)
    monkeypatch.setattr(engine, "load_tensorrt", missing)
    with pytest.raises(DeviceError) as caught:
        engine.check_builder()
    assert "--to tensorrt: TensorRT's libnvinfer.so.10 cannot be loaded" in str(caught.value)
    assert f"pip install '{TENSORRT_PACKAGE}'" in str(caught.value)
