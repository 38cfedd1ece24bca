"""A bundle held to its reference again: on this machine, by this provider, through the live path's own encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from psm_export.crops import Sample
from psm_export.model import Crops, Model
from psm_export.parity.check import Check, read_check, sampled
from psm_export.parity.figures import measure_parity, spread
from psm_export.parity.gate import Held, blame, broken_limits, judge, worst_layer, yardstick
from psm_stream.bundle import ENCODER, EncoderBundle
from psm_stream.encoder import Encoder
from psm_stream.errors import BundleError


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. held: figures and broken limits. spread: of the reference, the unit of differences.

    blamed: where the graph departs, in words, or "".
    """

    held: Held
    spread: float
    blamed: str


def verify(encoder: Encoder) -> Verdict:
    """Run the bundle's own check: does it give here what its reference gave where it was made?

    Raises BundleError: the bundle has no check, or it is damaged. DigestMismatch: a file is another one.
    """
    bundle = encoder.bundle
    check = read_check(bundle)
    given = encode_all(encoder, check.crops)
    precision = bundle.manifest.precision
    if not np.isfinite(given).all():
        held = judge(check.embeddings, given, precision, ("", "", encoder.provider))
        return Verdict(held, spread(check.embeddings), _departed(bundle, check))
    words = bundle.manifest.parity.reference
    parity = measure_parity(check.embeddings, given, words, f"{len(given)} crops of a photograph").model_copy(
        update={"provider": encoder.provider}
    )
    failures = broken_limits(check.embeddings, given, parity, precision)
    return Verdict(Held(parity, failures), spread(check.embeddings), _departed(bundle, check) if failures else "")


def verify_against(encoder: Encoder, model: Model, sample: Sample) -> Verdict:
    """Run the whole gate again, over crops and the model that the bundle was made of.

    Raises BundleError: the model takes or gives something else than the bundle.
    """
    manifest = encoder.bundle.manifest
    size, dimension = manifest.input.size_px, manifest.output.dimension
    if (size, dimension) != (model.pixels.size_px, model.dimension):
        raise BundleError(
            f"encoder bundle {encoder.bundle.folder} takes {size} px and gives {dimension} numbers, {model.about.name} "
            f"{model.pixels.size_px} px and {model.dimension}; give the model that the bundle was made of"
        )
    to = yardstick(model, sample.measured, sample.described)
    given = encode_all(encoder, to.crops)
    words = (model.reference.described, to.of, encoder.provider)
    held = judge(to.embeddings, given, manifest.precision, words)
    is_rescaled = manifest.precision == "int8"
    blamed = blame(model, _graph(encoder.bundle), sample.measured, is_rescaled=is_rescaled) if held.failures else ""
    return Verdict(held, spread(to.embeddings), blamed)


def encode_all(encoder: Encoder, crops: Crops) -> NDArray[np.float32]:
    """Encode crops [N, S, S, 3] one at a time, as the live path does. Returns [N, D]."""
    return np.stack([encoder.encode(crop) for crop in crops])


def _departed(bundle: EncoderBundle, check: Check) -> str:
    """Name the layer at which this graph on this CPU departs from what was recorded when the bundle was made."""
    found = sampled(_graph(bundle), list(check.layers), check.crops)
    wanted = dict(zip(check.layers, check.samples, strict=True))
    here = dict(zip(check.layers, found, strict=True))
    known = {name: values for name, values in wanted.items() if np.isfinite(values).all()}
    same = all(np.allclose(here[name], values, rtol=1e-3, atol=1e-5) for name, values in known.items())
    if same:
        return "every layer gives on this CPU what it gave when the bundle was made: the difference is the provider's"
    return worst_layer(known, here, is_rescaled=False)


def _graph(bundle: EncoderBundle) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(bundle.read(ENCODER))
