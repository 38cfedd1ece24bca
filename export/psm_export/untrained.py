"""The general encoder until a trained one exists: FaceCycle's architecture with seeded random weights.

    python -m psm_export.untrained --out DIR [--precision int8|fp32]

The same command gives the same `encoder.onnx`, byte for byte, on every machine: ranges come from a float64 network and
from crops made with whole numbers alone. Weights are drawn as the authors initialise them: convolutions
N(0, sqrt(2 / (k * k * output channels))), linear layers N(0, 0.01), biases 0.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from psm_export import facecycle, quantise, reference
from psm_export.write import Description, measure_parity, write_bundle
from psm_stream.bundle import Manifest
from psm_stream.errors import PsmError

Precision = Literal["int8", "fp32"]

SEED = 0
NOTE = "UNTRAINED: random weights. The embedding moves with the picture, but its numbers mean nothing."

_KEPT = 0.8
"""Share of each activation's range that is kept: finer steps are worth more than the rare extremes (error -17 %)."""
# (side of a square of the photograph in px, enlarge, then shrink by averaging), which gives 64 px
_SCALES = ((96, 2, 3), (112, 4, 7), (128, 1, 2))
_FACE_CENTRE = (116, 222)
"""Row and column of the face in skimage's astronaut photograph, px."""
_SHIFTS = ((0, 0), (-4, 3), (3, -5), (5, 4))
_EXPOSURES = ((8, 0), (5, -10), (10, 12), (7, 25))
"""(contrast in eighths, grey levels added)."""


def draw_weights(seed: int = SEED) -> dict[str, NDArray[np.float32]]:
    """Draw the encoder's weights as the authors initialise them."""
    generator = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.float32]] = {}
    for key, shape in facecycle.weight_shapes().items():
        if len(shape) == 1:
            weights[key] = np.zeros(shape, np.float32)
            continue
        deviation = math.sqrt(2 / (shape[2] * shape[3] * shape[0])) if len(shape) == 4 else 0.01
        weights[key] = (generator.standard_normal(shape) * deviation).astype(np.float32)
    return weights


def face_crops(mirrored: bool = False) -> NDArray[np.uint8]:
    """A real face cropped about as alignment does: sizes, places and exposures vary. Returns [12, 64, 64, 3] RGB."""
    import skimage.data

    photograph = skimage.data.astronaut().astype(np.int64)
    crops = []
    for side, up, down in _SCALES:
        for (row, column), (contrast, added) in zip(_SHIFTS, _EXPOSURES, strict=True):
            top, left = _FACE_CENTRE[0] + row - side // 2, _FACE_CENTRE[1] + column - side // 2
            square = photograph[top : top + side, left : left + side].repeat(up, axis=0).repeat(up, axis=1)
            blocks = square.reshape(facecycle.SIZE_PX, down, facecycle.SIZE_PX, down, 3)
            crop = blocks.sum(axis=(1, 3)) // down**2
            crops.append(np.clip(128 + (crop - 128) * contrast // 8 + added, 0, 255))
    stack = np.stack(crops).astype(np.uint8)
    return np.ascontiguousarray(stack[:, :, ::-1]) if mirrored else stack


def build(precision: Precision) -> onnx.ModelProto:
    """Build the untrained encoder's model."""
    weights = draw_weights()
    model = facecycle.build_model(weights)
    if precision == "fp32":
        return model
    trace: reference.Trace = {}
    reference.encode(weights, face_crops(), trace)
    names = quantise.quantised_tensors(model)
    ranges = {name: (_KEPT * float(trace[name].min()), _KEPT * float(trace[name].max())) for name in names}
    ranges["pixels"] = facecycle.pixel_range()  # known, however the photograph is exposed
    return quantise.quantise(model, ranges)


def write(folder: Path, precision: Precision = "int8") -> Manifest:
    """Write the untrained encoder's bundle. Raises BundleError: a bundle is there already."""
    model = build(precision)
    crops = face_crops(mirrored=True)
    given = onnxruntime.InferenceSession(
        model.SerializeToString(deterministic=True), providers=["CPUExecutionProvider"]
    ).run(None, {"crops": crops})[0]
    parity = measure_parity(
        reference.encode(draw_weights(), crops), given, "the same weights in float64, over mirrored calibration crops"
    )
    about = Description(
        name="general-untrained",
        note=NOTE,
        architecture=facecycle.ARCHITECTURE,
        normalisation="inside the graph: ImageNet mean and deviation",
        precision=precision,
        trained=False,
        licence="MIT",
        created_by="psm_export.untrained",
        training={"seed": SEED, "epochs": 0},
    )
    return write_bundle(folder, model, about, parity)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the bundle and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m psm_export.untrained", description="write the untrained encoder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new bundle")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    arguments = parser.parse_args(argv)
    try:
        manifest = write(arguments.out, arguments.precision)
    except PsmError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{arguments.out}: model {manifest.model_id}, {manifest.precision}, untrained")
    return 0


if __name__ == "__main__":
    sys.exit(main())
