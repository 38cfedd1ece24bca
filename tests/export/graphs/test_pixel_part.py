"""The pixel part equals the arithmetic in numpy, and holds no more nodes than a network asks for."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from psm_export.graph import close
from psm_export.graphs.pixel_part import CROPS, PixelPart
from psm_export.model import IMAGENET_DEVIATION, IMAGENET_MEAN, Pixels

PLAIN = Pixels(8, "RGB", (0, 0, 0), (1, 1, 1))


def run(part: PixelPart, crops: np.ndarray) -> np.ndarray:
    ends = [helper.make_tensor_value_info(CROPS, TensorProto.UINT8, ["N", 8, 8, 3]), onnx.ValueInfoProto(name="end")]
    ends[1].type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", None, None, None]))
    last = helper.make_node("Cast", [part.output], ["end"], "end", to=TensorProto.FLOAT)
    graph = close(helper.make_graph([*part.nodes, last], "g", ends[:1], ends[1:], part.constants))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {CROPS: crops})[0]


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_it_equals_numpy(colour: str, layout: str, rng: np.random.Generator) -> None:
    pixels = Pixels(8, colour, IMAGENET_MEAN, IMAGENET_DEVIATION)  # type: ignore[arg-type]
    crops = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    wanted = pixels.of(crops) if layout == "NCHW" else pixels.of(crops).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(run(PixelPart(pixels, layout), crops), wanted, rtol=0, atol=1e-6)  # type: ignore[arg-type]
    bytes_in = run(PixelPart(Pixels(8, colour, (0, 0, 0), (1, 1, 1)), layout, "uint8"), crops)  # type: ignore[arg-type]
    ordered = crops if colour == "RGB" else crops[..., ::-1]
    np.testing.assert_array_equal(bytes_in, ordered if layout == "NHWC" else ordered.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("part", "operators"),
    [
        (PixelPart(PLAIN, "NHWC", "uint8"), []),
        (PixelPart(PLAIN, "NCHW", "uint8"), ["Transpose"]),
        (PixelPart(PLAIN, "NHWC"), ["Cast"]),
        (PixelPart(Pixels(8)), ["Transpose", "Cast", "Div"]),
        (PixelPart(Pixels(8, "BGR", (1, 1, 1), (2, 2, 2))), ["Transpose", "Gather", "Cast", "Sub", "Div"]),
    ],
)
def test_it_has_what_is_needed(part: PixelPart, operators: list[str]) -> None:
    assert [node.op_type for node in part.nodes] == operators
    assert (part.output == CROPS) == (not operators)
