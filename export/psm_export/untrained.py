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

import numpy as np
from numpy.typing import NDArray

from psm_export import facecycle
from psm_export.build import Precision, build, measure
from psm_export.crops import photograph
from psm_export.write import Description, write_bundle
from psm_stream.bundle import Manifest
from psm_stream.errors import PsmError

SEED = 0
NOTE = "UNTRAINED: random weights. The embedding moves with the picture, but its numbers mean nothing."
_KEPT = 0.8
"""Share of each activation's range that is kept; finer steps are worth more than the rare extremes (error -17 %)."""
_AGAINST = "the same weights in float64, over mirrored calibration crops"


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


def write(folder: Path, precision: Precision = "int8") -> Manifest:
    """Write the untrained encoder's bundle. Raises BundleError: a bundle is there already."""
    weights = draw_weights()
    model = build(weights, precision, photograph(), kept=_KEPT)
    parity = measure(model, weights, photograph(mirrored=True), _AGAINST)
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
