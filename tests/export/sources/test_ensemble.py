"""An ensemble gives its parts' embeddings side by side, also from crops that are larger than a part's own."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from tests.export.own_models import SIZE_PX, crops, network, obvious, write

from psm_export.graph import close
from psm_export.model import Model
from psm_export.parity.tracing import layer_names, layer_values
from psm_export.sources import open_model
from psm_export.sources.drawn import drawn
from psm_export.sources.ensemble import _smaller, _smaller_constants, ensemble
from psm_export.sources.user import read_onnx
from psm_stream.errors import ConfigError


def own(folder: Path, name: str, model: onnx.ModelProto | None = None, **changes: object) -> Path:
    (folder / name).mkdir()
    return write(folder / name, model, name=name, **changes)


def run(model: Model, faces: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.build().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["embedding"], {"crops": faces})[0]


def test_embeddings_stand_side_by_side(tmp_path: Path) -> None:
    paths = [own(tmp_path, "a", licence="MIT"), own(tmp_path, "b", input__range="-1..1", licence="CC0-1.0")]
    both = open_model(paths)
    planes = crops().transpose(0, 3, 1, 2).astype(float)
    wanted = np.concatenate([obvious(planes / 255), obvious(planes / 127.5 - 1)], axis=1)
    assert both.dimension == 10
    np.testing.assert_allclose(both.reference.encode(crops()), wanted, rtol=0, atol=2e-6)
    np.testing.assert_allclose(run(both, crops()), wanted, rtol=0, atol=2e-6)
    assert both.about.licence == "MIT; CC0-1.0"
    assert both.about.name == "a+b"
    parts = both.about.made_from["parts"]
    assert isinstance(parts, list)
    assert len(parts) == 2
    traced, graph = both.reference.trace(crops()), both.build()
    assert set(layer_names(graph)) == set(traced) == {"1/conv", "1/linear", "2/conv", "2/linear"}
    for name, values in layer_values(graph, list(traced), crops()).items():
        np.testing.assert_allclose(values, traced[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_smaller_crops_are_those_of_the_live_path(factor: int, rng: np.random.Generator) -> None:
    """To the last grey level, halves included."""
    side = 12 * factor
    given = rng.integers(0, 256, (20, side, side, 3), dtype=np.uint8)
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, ["N", size, size, 3])
        for name, size in (("crops", side), ("1/crops", 12))
    ]
    nodes, constants = _smaller("1/crops", factor), _smaller_constants("1/crops", factor)
    graph = close(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], constants))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = np.stack([cv2.resize(crop, (12, 12), interpolation=cv2.INTER_AREA) for crop in given])
    np.testing.assert_array_equal(session.run(None, {"crops": given})[0], wanted)


def test_a_smaller_part_scales_inside(tmp_path: Path) -> None:
    large = network()
    large.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2 * SIZE_PX
    large.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 2 * SIZE_PX
    paths = [own(tmp_path, "a"), own(tmp_path, "b", large, input__size_px=2 * SIZE_PX)]
    both = open_model(paths)
    assert (both.pixels.size_px, both.alignment.crop_px) == (32, 32)
    faces = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    small = np.stack([cv2.resize(face, (16, 16), interpolation=cv2.INTER_AREA) for face in faces])
    wanted = np.concatenate(
        [read_onnx(paths[0]).reference.encode(small), read_onnx(paths[1]).reference.encode(faces)], 1
    )
    np.testing.assert_allclose(run(both, faces), wanted, rtol=0, atol=2e-6)
    np.testing.assert_allclose(both.reference.encode(faces), wanted, rtol=0, atol=2e-6)


def test_temporal_consistency_joins_768_numbers() -> None:
    three = ensemble([drawn("temporal-consistency-resnet18", seed) for seed in (1, 2, 3)])
    assert three.dimension == 768
    faces = np.random.default_rng(3).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    codes = three.reference.encode(faces)[0].reshape(3, 256)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, atol=1e-5)
    assert not np.allclose(codes[0], codes[1])
    assert not three.about.trained
    eager = three.reference.eager()
    assert eager is not None
    np.testing.assert_allclose(np.concatenate(eager(faces), axis=1)[0], codes.ravel(), atol=1e-6)  # type: ignore[call-overload]


def test_parts_that_do_not_fit_are_refused_by_number(tmp_path: Path) -> None:
    paths = [own(tmp_path, "a"), own(tmp_path, "b", alignment__eye_distance=0.3)]
    with pytest.raises(ConfigError, match=r"part 2 of the ensemble \(b\) wants the eyes 0.3 apart"):
        open_model(paths)
    odd = network()
    odd.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 24
    odd.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 24
    with pytest.raises(ConfigError, match=r"part 1 of the ensemble \(a\) takes 16 px, of which 24 px is no whole"):
        open_model([paths[0], own(tmp_path, "c", odd, input__size_px=24)])
    onnx.save_model(network(), tmp_path / "lonely.onnx")
    with pytest.raises(ConfigError, match=r"part 2 of the ensemble: .*lonely\.onnx: no manifest lies beside it"):
        open_model([paths[0], tmp_path / "lonely.onnx"])
