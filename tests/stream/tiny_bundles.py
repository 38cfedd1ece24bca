"""Small encoders of any input, output and template, for runs under test."""

from pathlib import Path

import numpy as np
from onnx import TensorProto

from psm_export.graph import Graph
from psm_export.write import Description, write_bundle
from psm_stream.align.template import EYES_LEVEL, Template
from psm_stream.bundle import Alignment, EncoderBundle, Parity, open_bundle

WIDE = Template("wide", 0.25, 0.45)
EXACT = Parity(reference="itself", crops=1, max_abs=0.0, mean_abs=0.0, cosine=1.0, tolerance=1e-4)


def tiny(folder: Path, size_px: int = 256, dimension: int = 768, template: Template = WIDE) -> EncoderBundle:
    """Write a bundle: mean colours of 8 x 8 squares, mixed into `dimension` values by a matrix that is drawn."""
    graph, side = Graph(), size_px // 8
    x = graph.node("float", "Cast", ["crops"], {"to": TensorProto.FLOAT})
    x = graph.node("scaled", "Mul", [x, graph.constant("scale", np.array([1 / 255], np.float32))])
    x = graph.node("planes", "Transpose", [x], {"perm": [0, 3, 1, 2]})
    x = graph.node("squares", "AveragePool", [x], {"kernel_shape": [side, side], "strides": [side, side]})
    x = graph.node("flat", "Flatten", [x])
    matrix = np.random.default_rng(size_px).normal(0, 1, (192, dimension)).astype(np.float32)
    graph.node("embedding", "MatMul", [x, graph.constant("matrix", matrix)])
    model = graph.model("tiny", size_px, "embedding", dimension)
    about = Description(
        *("tiny", "a test", "mean colours", "inside", "fp32", True, "CC0", "a test", {}),
        training_data=("nothing at all",),
        alignment=Alignment(
            template=template.name,
            crop_px=size_px,
            eye_distance=template.eye_distance,
            eye_line_y=template.eye_line_y,
        ),
    )
    write_bundle(folder, model, about, EXACT)
    return open_bundle(folder)


def ours(folder: Path, size_px: int = 256, dimension: int = 16) -> EncoderBundle:
    """A bundle that takes crops by our own template."""
    return tiny(folder, size_px, dimension, EYES_LEVEL)
