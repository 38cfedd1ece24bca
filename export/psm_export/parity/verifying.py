"""A bundle held to its reference again: on this machine, by this provider, through the live path's own encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from psm_export.crops import Sample
from psm_export.model import Crops, Model
from psm_export.parity.check import Check, read_check, sampled
from psm_export.parity.gate import Held, blame, departure, judge, layers_off, worst_layer, yardstick
from psm_export.write import model_id
from psm_stream.bundle import ENCODER, EncoderBundle, Precision
from psm_stream.encoder import Encoder
from psm_stream.errors import BundleError

LAYER_LIMITS: Mapping[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "int8": 5e-2}
"""What a layer may differ by from what it gave where the bundle was made, root mean square, as a share of its values:
other kernels differ by 1e-6 in float32, and by single steps in integers."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. held: figures and broken limits. blamed: where the graph departs, in words, or ""."""

    held: Held
    blamed: str


def verify(encoder: Encoder) -> Verdict:
    """Run the bundle's own check: does it give here what its reference gave where it was made?

    Its weights must be those that its model_id names, and its layers must give on this CPU what was recorded.
    Raises BundleError: the bundle has no check, or it is damaged. DigestMismatch: a file is another one.
    """
    bundle = encoder.bundle
    check, precision = read_check(bundle), bundle.manifest.precision
    given = encode_all(encoder, check.crops)
    words = (bundle.manifest.parity.reference, f"{len(given)} crops of a photograph", encoder.provider)
    held = judge(check.embeddings, given, precision, words)
    return _with(held, _other_weights(bundle), *_departed(bundle, check, is_failed=bool(held.failures)))


def verify_against(encoder: Encoder, model: Model, sample: Sample) -> Verdict:
    """Run the whole gate again, over crops and the model that the bundle was made of.

    Raises BundleError: the model takes or gives something else than the bundle.
    """
    manifest = encoder.bundle.manifest
    _check_same_ends(encoder.bundle, model)
    to = yardstick(model, sample.measured, sample.described)
    given = encode_all(encoder, to.crops)
    held = judge(to.embeddings, given, manifest.precision, (model.reference.described, to.of, encoder.provider))
    graph = _graph(encoder.bundle)
    off = layers_off(model, graph, to.crops) if manifest.precision == "fp32" else ()
    blamed = blame(model, graph, to.crops, is_rescaled=manifest.precision != "fp32") if held.failures else ""
    return _with(held, _other_weights(encoder.bundle), off, blamed)


def _with(held: Held, weights: str, layers: tuple[str, ...], blamed: str) -> Verdict:
    failures = (*filter(None, [weights]), *held.failures, *(layers if not held.failures else ()))
    return Verdict(replace(held, failures=failures), blamed)


def _check_same_ends(bundle: EncoderBundle, model: Model) -> None:
    """Raise BundleError: a bundle takes other crops, or gives other numbers, than the model that it is held to."""
    manifest, alignment = bundle.manifest, bundle.manifest.alignment
    ours = (manifest.input.size_px, manifest.output.dimension, alignment.eye_distance, alignment.eye_line_y)
    wanted = model.alignment
    theirs = (model.pixels.size_px, model.dimension, wanted.eye_distance, wanted.eye_line_y)
    if ours != theirs:
        said = "takes {} px, gives {} numbers, with eyes {:g} apart and {:g} from above"
        raise BundleError(
            f"encoder bundle {bundle.folder} {said.format(*ours)}; {model.about.name} {said.format(*theirs)}: give the "
            "model that the bundle was made of, with the flags that it was made with"
        )


def _other_weights(bundle: EncoderBundle) -> str:
    """Say that the weights are not those that the manifest names; nothing when they are."""
    found = model_id(_graph(bundle))
    named = bundle.manifest.model_id
    return "" if found == named else f"its weights are those of model {found}, the manifest names {named}"


def encode_all(encoder: Encoder, crops: Crops) -> NDArray[np.float32]:
    """Encode crops [N, S, S, 3] one at a time, as the live path does. Returns [N, D]."""
    return np.stack([encoder.encode(crop) for crop in crops])


def _departed(bundle: EncoderBundle, check: Check, is_failed: bool) -> tuple[tuple[str, ...], str]:
    """Compare layers, on this CPU, with what was recorded when the bundle was made.

    Returns (failures, who is to blame where the embeddings failed).
    """
    found = sampled(_graph(bundle), list(check.layers), check.crops)
    here = dict(zip(check.layers, found, strict=True))
    recorded = dict(zip(check.layers, check.samples, strict=True))
    known = {name: values for name, values in recorded.items() if np.isfinite(values).all()}
    limit = LAYER_LIMITS[bundle.manifest.precision]
    if all(departure(values, here[name]) <= limit for name, values in known.items()):
        provider = (
            "every layer gives on this CPU what it gave when the bundle was made: the difference is the provider's"
        )
        return (), provider if is_failed else ""
    named = worst_layer(known, here, is_rescaled=False)
    return (named,), named if is_failed else ""


def _graph(bundle: EncoderBundle) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(bundle.read(ENCODER))
