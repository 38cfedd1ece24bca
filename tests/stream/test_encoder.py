"""The encoder: the same crop gives the same bytes, and a graph that is not what its manifest says never starts."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.stream.tiny_bundles import tiny

from psm_export.graph import Graph
from psm_export.write import Description, write_bundle
from psm_stream import binding
from psm_stream import encoder as encoders
from psm_stream.binding import DeviceBuffers
from psm_stream.bundle import EncoderBundle, Parity, general_bundle, open_bundle
from psm_stream.devices import Device, Running, Use
from psm_stream.encoder import Encoder, open_encoder
from psm_stream.errors import BundleError, DigestMismatch, ShapeMismatch
from psm_stream.testing import edit_manifest

Change = Callable[[onnx.ModelProto], object]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return open_encoder(open_bundle(general_bundle()), "cpu")


@pytest.fixture
def crop(rng: np.random.Generator) -> np.ndarray:
    coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (128, 128), interpolation=cv2.INTER_CUBIC)


def mean_colour(factor: float = 1.0) -> onnx.ModelProto:
    """crops [N, 16, 16, 3] -> mean colour times a factor [N, 3]."""
    graph = Graph()
    x = graph.node("float", "Cast", ["crops"], {"to": TensorProto.FLOAT})
    x = graph.node("mean", "ReduceMean", [x, graph.integers("axes", [1, 2])], {"keepdims": 0})
    graph.node("embedding", "Mul", [x, graph.constant("factor", np.array([factor], np.float32))])
    return graph.model("mean-colour", 16, "embedding", 3)


def bundle_of(folder: Path, change: Change = lambda _: None, factor: float = 1.0) -> EncoderBundle:
    """A tiny bundle whose manifest is right for `mean_colour`, and whose graph is then changed behind its back."""
    exact = Parity(reference="itself", crops=1, max_abs=0.0, mean_abs=0.0, cosine=1.0, tolerance=1e-4)
    about = Description("mean", "a test", "mean", "none", "fp32", True, "MIT", "a test", {})
    model = mean_colour(factor)
    write_bundle(folder, model, about, exact)
    change(model)
    content = model.SerializeToString()
    (folder / "encoder.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit_manifest(folder, lambda tree: tree["files"].update({"encoder.onnx": digest}))
    return open_bundle(folder)


def test_a_crop_becomes_a_vector(encoder: Encoder, crop: np.ndarray) -> None:
    vector = encoder.encode(crop)
    assert vector.shape == (encoder.dimension,) == (256,)
    assert vector.dtype == np.float32
    assert not vector.flags.writeable
    assert 0 < np.abs(vector).max() < 1
    assert np.abs(encoder.encode(255 - crop) - vector).max() > 1e-3


def test_it_says_what_it_is(encoder: Encoder) -> None:
    manifest = open_bundle(general_bundle()).manifest
    assert (encoder.model_id, encoder.trained) == (manifest.model_id, manifest.trained)
    assert (encoder.device, encoder.why) == ("cpu", "asked for")
    assert encoder.providers == ("CPUExecutionProvider",)
    assert encoder.provider == "CPUExecutionProvider"


def test_the_crop_is_scaled_by_area(encoder: Encoder, crop: np.ndarray) -> None:
    by_hand = (crop.reshape(64, 2, 64, 2, 3).astype(np.int64).sum(axis=(1, 3)) + 2) // 4
    assert encoder.encode(crop).tobytes() == encoder.encode(by_hand.astype(np.uint8)).tobytes()


def test_a_crop_that_is_a_view_gives_the_same_bytes(encoder: Encoder, crop: np.ndarray) -> None:
    wide = np.zeros((128, 300, 3), np.uint8)
    wide[:, 20:148] = crop
    assert encoder.encode(wide[:, 20:148]).tobytes() == encoder.encode(crop).tobytes()
    small = np.ascontiguousarray(crop[:64, :64])
    assert encoder.encode(crop[:64, :64]).tobytes() == encoder.encode(small).tobytes()


def test_a_vector_stays_when_the_next_face_comes(encoder: Encoder, crop: np.ndarray) -> None:
    first = encoder.encode(crop)
    before = first.tobytes()
    encoder.encode(255 - crop)
    assert first.tobytes() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_sessions_and_threads_give_the_same_bytes(encoder: Encoder, crop: np.ndarray, threads: int) -> None:
    other = open_encoder(open_bundle(general_bundle()), "cpu", threads)
    assert other.encode(crop).tobytes() == encoder.encode(crop).tobytes()


def test_processes_give_the_same_bytes(encoder: Encoder, crop: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "crop.npy", crop)
    program = (
        "import sys, numpy as np\n"
        "from psm_stream.bundle import general_bundle, open_bundle\n"
        "from psm_stream.encoder import open_encoder\n"
        "crop = np.load(sys.argv[1])\n"
        "print(open_encoder(open_bundle(general_bundle()), 'cpu').encode(crop).tobytes().hex())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "crop.npy")]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == encoder.encode(crop).tobytes().hex()
    assert told.stderr == ""


@pytest.mark.parametrize("side", [64, 128, 200])
def test_bound_buffers_give_the_bytes_of_a_plain_run(encoder: Encoder, rng: np.random.Generator, side: int) -> None:
    plain = onnxruntime.InferenceSession((general_bundle() / "encoder.onnx").read_bytes())
    for _ in range(5):
        crop = rng.integers(0, 256, (side, side, 3), np.uint8)
        small = cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA)
        expected = plain.run(None, {"crops": small[None]})[0][0]
        assert encoder.encode(crop).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("size_px", "dimension"), [(8, 1), (112, 512), (512, 2048)])
def test_any_size_and_dimension_runs(tmp_path: Path, rng: np.random.Generator, size_px: int, dimension: int) -> None:
    bundle = tiny(tmp_path / "bundle", size_px, dimension)
    small, large = (rng.integers(0, 256, (side, side, 3), np.uint8) for side in (size_px, 2 * size_px))
    squares = small.reshape(8, size_px // 8, 8, size_px // 8, 3).mean(axis=(1, 3)) / 255
    matrix = np.random.default_rng(size_px).normal(0, 1, (192, dimension))
    encoder = open_encoder(bundle, "cpu")
    vector = encoder.encode(small)
    np.testing.assert_allclose(vector, squares.transpose(2, 0, 1).ravel() @ matrix, atol=1e-3)
    assert encoder.encode(large).shape == (dimension,)


def test_threads_do_not_see_each_others_faces(encoder: Encoder, rng: np.random.Generator) -> None:
    crops = rng.integers(0, 256, (40, 128, 128, 3), np.uint8)
    alone = [encoder.encode(crop).tobytes() for crop in crops]
    with ThreadPoolExecutor(4) as threads:
        assert [vector.tobytes() for vector in threads.map(encoder.encode, crops)] == alone


def test_buffers_come_back_after_a_failure(encoder: Encoder, crop: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    before = encoder.encode(crop).tobytes()
    with monkeypatch.context() as broken:
        broken.setattr(cv2, "resize", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encoder.encode(crop)
    assert encoder.encode(crop).tobytes() == before


def open_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, starts: Callable[[Use], Running]) -> None:
    """Let sessions of the CPU pass for those of a GPU, whose buffers then lie in this process's memory."""
    real = encoders.open_session

    def opened(model: bytes, device: Device, threads: int, use: Use | None = None) -> Running:
        return real(model, "cpu", threads) if device == "cpu" else starts(use or Use())

    monkeypatch.setattr(encoders, "open_session", opened)
    monkeypatch.setattr(binding, "DeviceBuffers", lambda *ends: DeviceBuffers(*ends, device="cpu"))


def on_gpu(graphs: bool, fails: str = "") -> Running:
    session = onnxruntime.InferenceSession((general_bundle() / "encoder.onnx").read_bytes())
    return Running(Failing(session, fails) if fails else session, "cuda", "asked for", graphs)


class Failing:
    """A session that starts, and fails when it runs."""

    def __init__(self, session: onnxruntime.InferenceSession, why: str) -> None:
        self._session, self._why = session, why

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def run_with_iobinding(self, _: object) -> None:
        raise RuntimeError(self._why)


def test_buffers_of_a_gpu_give_the_same_bytes_and_one_thread_at_a_time(
    encoder: Encoder, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_as_on_a_gpu(monkeypatch, lambda use: on_gpu(use.graphs))
    other = open_encoder(open_bundle(general_bundle()), "cuda")
    assert (other.device, other.graphs) == ("cuda", True)
    crops = rng.integers(0, 256, (20, 128, 128, 3), np.uint8)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(other.encode, crops))
    assert [vector.tobytes() for vector in found] == [encoder.encode(crop).tobytes() for crop in crops]


def test_a_cuda_graph_that_fails_when_it_runs_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    open_as_on_a_gpu(monkeypatch, lambda use: on_gpu(use.graphs, "capture failed" if use.graphs else ""))
    other = open_encoder(open_bundle(general_bundle()), "cuda")
    assert (other.device, other.graphs) == ("cuda", False)
    assert "without CUDA graphs" in other.why
    assert "capture failed" in other.why


def test_auto_goes_to_the_cpu_when_the_gpu_fails_and_cuda_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    open_as_on_a_gpu(monkeypatch, lambda use: on_gpu(use.graphs, "out of\nmemory"))
    other = open_encoder(open_bundle(general_bundle()), "auto")
    assert other.device == "cpu"
    assert other.why.startswith("auto: ")
    assert "out of memory" in other.why
    with pytest.raises(BundleError, match="makes the graph fail: out of memory"):
        open_encoder(open_bundle(general_bundle()), "cuda")


def test_two_encoders_live_side_by_side(tmp_path: Path) -> None:
    one = open_encoder(bundle_of(tmp_path / "one"), "cpu")
    two = open_encoder(bundle_of(tmp_path / "two", factor=2.0), "cpu")
    grey = np.full((16, 16, 3), 50, np.uint8)
    assert (one.encode(grey)[0], two.encode(grey)[0], one.encode(grey)[0]) == (50, 100, 50)
    assert one.model_id != two.model_id


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((128, 128), np.uint8), r"uint8 \[128, 128\]"),
        (np.zeros((128, 100, 3), np.uint8), r"\[128, 100, 3\]"),
        (np.zeros((128, 128, 4), np.uint8), r"\[128, 128, 4\]"),
        (np.zeros((1, 64, 64, 3), np.uint8), r"\[1, 64, 64, 3\]"),
        (np.zeros((128, 128, 3), np.float32), "float32"),
        (np.zeros((0, 0, 3), np.uint8), "0 px is smaller"),
        (np.zeros((32, 32, 3), np.uint8), "set aligner.size_px to 64 or more"),
    ],
)
def test_a_wrong_crop_is_refused(encoder: Encoder, wrong: np.ndarray, said: str) -> None:
    with pytest.raises(ShapeMismatch, match=said):
        encoder.encode(wrong)


def rename(kind: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            ends = node.input if kind == "input" else node.output
            ends[:] = ["other" if name in {"crops", "embedding"} else name for name in ends]
        getattr(model.graph, kind)[0].name = "other"

    return change


def resize(end: str, axis: int, size: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        getattr(model.graph, end)[0].type.tensor_type.shape.dim[axis].dim_value = size

    return change


def second_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["N", 3]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rename("input"), "input must be 'crops' alone, not other"),
        (rename("output"), "output must be 'embedding' alone, not other"),
        (second_output, "output must be 'embedding' alone, not embedding, mean"),
        (resize("input", 1, 32), r"the manifest says tensor\(uint8\) \['N', 16, 16, 3\]"),
        (resize("input", 3, 1), "the manifest says"),
    ],
)
def test_a_graph_that_is_not_what_its_manifest_says_never_starts(tmp_path: Path, change: Change, said: str) -> None:
    with pytest.raises(ShapeMismatch, match=said):
        open_encoder(bundle_of(tmp_path / "bundle", change), "cpu")


def test_another_dimension_than_the_manifest_never_starts(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "bundle")
    output = bundle.manifest.output.model_copy(update={"dimension": 4})
    lying = EncoderBundle(bundle.folder, bundle.manifest.model_copy(update={"output": output}))
    with pytest.raises(ShapeMismatch, match=r"the manifest says tensor\(float\) \['N', 4\]"):
        open_encoder(lying, "cpu")


def test_free_dimensions_are_checked_by_running(tmp_path: Path) -> None:
    """A graph that leaves its size open starts when it really gives what the manifest says, and not otherwise."""

    def free(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "D"
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "D"

    bundle = bundle_of(tmp_path / "bundle", free)
    open_encoder(bundle, "cpu")
    output = bundle.manifest.output.model_copy(update={"dimension": 4})
    lying = EncoderBundle(bundle.folder, bundle.manifest.model_copy(update={"output": output}))
    with pytest.raises(ShapeMismatch, match=r"gives \[3\] values"):
        open_encoder(lying, "cpu")


def test_a_model_that_gives_no_numbers_never_starts(tmp_path: Path) -> None:
    with pytest.raises(ShapeMismatch, match="0 are finite"):
        open_encoder(bundle_of(tmp_path / "bundle", factor=float("nan")), "cpu")


def test_a_graph_that_fails_when_run_never_starts(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="makes the graph fail") as caught:
        open_encoder(bundle_of(tmp_path / "bundle", resize("input", 0, 2)), "cpu")
    assert "\n" not in str(caught.value)


def test_models_that_need_more_than_themselves_never_start(tmp_path: Path) -> None:
    def custom(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "com.acme"

    def external(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL

    with pytest.raises(BundleError, match=r"custom operator com\.acme\.Cast"):
        open_encoder(bundle_of(tmp_path / "custom", custom), "cpu")
    with pytest.raises(BundleError, match="weights in another file"):
        open_encoder(bundle_of(tmp_path / "external", external), "cpu")


def test_what_onnxruntime_cannot_run_never_starts(tmp_path: Path) -> None:
    def future(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "NotYetInvented"

    with pytest.raises(BundleError, match=r"ONNX Runtime cannot run encoder\.onnx"):
        open_encoder(bundle_of(tmp_path / "bundle", future), "cpu")


def test_a_file_that_changed_since_the_bundle_was_opened_never_starts(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "bundle")
    (tmp_path / "bundle" / "encoder.onnx").write_bytes(mean_colour(3.0).SerializeToString())
    with pytest.raises(DigestMismatch):
        open_encoder(bundle, "cpu")
