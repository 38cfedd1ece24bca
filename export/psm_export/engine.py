"""TensorRT engines by TensorRT's own Python API, built into the cache that the live path reads (psm_stream.engines).

The engine is built from the bundle's own encoder.onnx, strongly typed, so that it computes in the precision that the
graph says, and wrapped in a model of one EPContext node, by which ONNX Runtime's TensorRT provider loads it. It is used
only after it passed the gate. Needs a GPU, and `tensorrt` beside onnxruntime-gpu.

Not run on a GPU so far: the calls are checked against a stand-in of the API, names against TensorRT 10.16's bindings.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from onnx import TensorProto, helper

from psm_export.graph import IR_VERSION, OPSET
from psm_export.making import Candidate, make_bundle
from psm_export.parity.gate import Yardstick, judge, refuse
from psm_export.parity.verifying import encode_all
from psm_stream import engines
from psm_stream.bundle import open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import BundleError, DeviceError
from psm_stream.gpu import TENSORRT_PACKAGE, load_tensorrt, read_gpu

Tell: TypeAlias = Callable[[int, int, str], None]
_SOURCE = "TensorrtExecutionProvider"
BUILDING = "TensorRT builds an engine for this GPU; minutes, once"


def check_builder() -> None:
    """Raise DeviceError where no engine can be built: without a GPU, TensorRT's libraries or its Python package."""
    advice = f"pip install '{TENSORRT_PACKAGE}' on a machine with an NVIDIA GPU, or leave --to tensorrt away"
    try:
        read_gpu()
        load_tensorrt()
        _tensorrt()
    except DeviceError as error:
        raise DeviceError(f"--to tensorrt: {error}; {advice}") from None


def build_engine(to: Yardstick, candidate: Candidate, tell: Tell) -> Path:
    """Build a candidate's engine into the cache unless it is there, and hold it to the limits of its precision.

    Returns its folder. Raises DeviceError: no GPU or TensorRT. BundleError: TensorRT refuses the graph. ParityFailed:
    the engine computes something else; it is taken away again.
    """
    model = to.model
    content = candidate.graph.SerializeToString(deterministic=True)
    spec = engines.EngineSpec(candidate.precision, model.pixels.size_px)
    key = engines.key_here(content, spec)
    place = engines.engine_folder(key)
    if not engines.is_whole(place, key):
        plan = build_plan(content, spec, tell, _tensorrt())
        place = _keep(key, plan, wrapper(model.pixels.size_px, model.dimension))
    try:
        _hold(to, candidate)
    except BundleError:
        shutil.rmtree(place, ignore_errors=True)
        raise
    engines.prune()
    return place


def build_plan(content: bytes, spec: engines.EngineSpec, tell: Tell, tensorrt: Any) -> bytes:
    """Build an engine for 1 to MAX_BATCH crops, best for one; `tell` hears how far it is, for minutes maybe.

    content: encoder.onnx. tensorrt: the package. Raises BundleError: TensorRT refuses the graph, with its reason.
    """
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    # the graph's own types hold: no precision that was not measured by the gate
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(content):
        reasons = [str(parser.get_error(place).desc()) for place in range(parser.num_errors)]
        raise BundleError(f"TensorRT cannot read the graph: {' '.join('; '.join(reasons).split())[:300]}")
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)  # ten bits of mantissa, which float32's limits do not allow
    profile = builder.create_optimization_profile()
    shapes = [(count, spec.size_px, spec.size_px, 3) for count in (1, 1, engines.MAX_BATCH)]
    profile.set_shape("crops", *shapes)
    config.add_optimization_profile(profile)
    config.progress_monitor = monitor = _monitor(tensorrt, tell)
    plan = builder.build_serialized_network(network, config)
    del monitor
    if plan is None:
        raise BundleError("TensorRT built no engine of this graph; its log on stderr says why")
    return bytes(plan)


def wrapper(size_px: int, dimension: int) -> bytes:
    """Return the ONNX file of one node by which ONNX Runtime's TensorRT provider loads the engine beside it.

    Source: EPContext, as in ONNX Runtime's "EP Context Design".
    """
    node = helper.make_node(
        "EPContext",
        ["crops"],
        ["embedding"],
        name="engine",
        domain="com.microsoft",
        main_context=1,
        embed_mode=0,
        ep_cache_context=engines.PLAN,
        source=_SOURCE,
    )
    crops = helper.make_tensor_value_info("crops", TensorProto.UINT8, ["N", size_px, size_px, 3])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", dimension])
    graph = helper.make_graph([node], "tensorrt-engine", [crops], [embedding])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="psm-export")
    model.ir_version = IR_VERSION
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _keep(key: engines.EngineKey, plan: bytes, wrapped: bytes) -> Path:
    draft = engines.new_draft(key)
    try:
        (draft / engines.PLAN).write_bytes(plan)
        (draft / engines.WRAPPER).write_bytes(wrapped)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise DeviceError(f"cannot keep the engine in {draft.parent}: {error.strerror or error}") from None
    return engines.seal(draft, key)


def _hold(to: Yardstick, candidate: Candidate) -> None:
    """Run the engine through the live path's own encoder, and hold it. Raises ParityFailed: it breaks a limit."""
    with tempfile.TemporaryDirectory(prefix="psm-export-") as folder:
        make_bundle(Path(folder) / "bundle", to.model, candidate, to.model.about.name)
        encoder = open_encoder(open_bundle(Path(folder) / "bundle"), "tensorrt", 1)
        given = encode_all(encoder, to.crops)
    words = (to.model.reference.described, to.of, encoder.provider)
    held = judge(to.embeddings, given, candidate.precision, words)
    if held.failures:
        graph = "the same graph passes on the CPU, so the engine departs from it"
        raise refuse(to.model.about.name, f"{candidate.precision} by TensorRT", held, graph)


def _monitor(tensorrt: Any, tell: Tell) -> Any:
    """Return what TensorRT reports its progress to. Phases lie within phases; the outermost say how far it is."""

    class Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps
                tell(0, num_steps, BUILDING)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                tell(min(step + 1, self.steps[phase_name]), self.steps[phase_name], BUILDING)
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()


def _tensorrt() -> Any:
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        raise DeviceError(f"TensorRT's Python package is not there ({' '.join(str(error).split())[:120]})") from None
