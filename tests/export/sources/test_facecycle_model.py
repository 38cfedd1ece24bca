"""FaceCycle's reference in torch gives the authors' own numbers where they are at hand, and equals the slow network."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from psm_export import facecycle, reference
from psm_export.model import About
from psm_export.sources.facecycle_model import facecycle_model
from psm_stream.errors import BundleError

GOLDEN = Path(os.environ.get("PSM_GOLDEN", Path(__file__).resolve().parents[4] / "shared" / "golden"))
ABOUT = About(name="a", architecture=facecycle.ARCHITECTURE)
Weights = dict[str, NDArray[np.float32]]


def test_the_reference_gives_the_authors_numbers(weights: Weights) -> None:
    if not (GOLDEN / "facecycle_step.npz").is_file():
        pytest.skip(f"no golden numbers at {GOLDEN}; set PSM_GOLDEN to the folder with facecycle_step.npz")
    with np.load(GOLDEN / "facecycle_step.npz") as golden:
        pictures = np.ascontiguousarray(golden["images_uint8"].transpose(0, 2, 3, 1))
        code = golden["code"].reshape(len(pictures), 256)
    model = facecycle_model(weights, ABOUT)
    np.testing.assert_allclose(model.reference.encode(pictures), code, rtol=0, atol=1e-6)
    eager = model.reference.eager()
    assert eager is not None
    np.testing.assert_allclose(np.asarray(eager(pictures)), code, rtol=0, atol=1e-6)


def test_layers_in_place_are_traced_before_they_are_written_over(weights: Weights) -> None:
    """A convolution's output holds its own negative numbers, not those of the activation behind it."""
    crops = np.random.default_rng(5).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)  # more than go at once
    model, slow = facecycle_model(weights, ABOUT), reference.Trace()
    np.testing.assert_allclose(model.reference.encode(crops), reference.encode(weights, crops, slow), rtol=0, atol=1e-6)
    traced = model.reference.trace(crops)
    assert next(iter(traced)) == "conv1.0"
    np.testing.assert_allclose(traced["conv1.0"], slow["conv1.0"], rtol=0, atol=1e-5)
    assert traced["conv1.0"].min() < -1


def test_foreign_weights_are_refused(weights: Weights) -> None:
    with pytest.raises(BundleError, match="1 of 48 tensors are missing"):
        facecycle_model({key: tensor for key, tensor in weights.items() if key != "conv1.0.bias"}, ABOUT)
