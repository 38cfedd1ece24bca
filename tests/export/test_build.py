"""Models of both precisions, made of weights, near the same weights in float64."""

import numpy as np
import pytest

from psm_export import facecycle, quantise, reference
from psm_export.build import build, measure, observed_ranges, run
from psm_export.crops import photograph
from psm_export.write import model_id


def test_float_models_do_not_read_the_crops(weights: dict) -> None:
    few = photograph()[:1]
    assert model_id(build(weights, "fp32", few)) == model_id(build(weights, "fp32", few[:, ::-1]))


def test_float_models_equal_their_weights(weights: dict) -> None:
    parity = measure(build(weights, "fp32", photograph()), weights, photograph()[:2], "itself")
    assert parity.max_abs < 1e-6
    assert parity.crops == 2


def test_the_share_that_is_kept_is_the_one_that_errs_least(weights: dict) -> None:
    calibration, others = photograph()[:2], photograph(mirrored=True)[:2]
    chosen = build(weights, "int8", calibration)
    wanted = run(build(weights, "fp32", calibration), calibration)
    errors = {
        share: np.abs(run(build(weights, "int8", calibration, share), calibration) - wanted).mean()
        for share in (1.0, 0.6)
    }
    assert np.abs(run(chosen, calibration) - wanted).mean() <= min(errors.values()) + 1e-6
    parity = measure(chosen, weights, others, "the weights")
    assert 1e-4 < parity.max_abs < 0.1
    assert parity.cosine > 0.98


def test_many_crops_are_taken_in_turns(weights: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = photograph()[:3]
    together = model_id(build(weights, "int8", calibration, kept=0.8))
    monkeypatch.setattr("psm_export.build._AT_ONCE", 2)
    assert model_id(build(weights, "int8", calibration, kept=0.8)) == together


def test_observed_ranges_are_those_of_the_float64_network(weights: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    model, crops = facecycle.build_model(weights), photograph()[:3]
    monkeypatch.setattr("psm_export.build._AT_ONCE", 2)
    ranges = observed_ranges(model, crops)
    assert set(ranges) == set(quantise.quantised_tensors(model)) - {"expresscode.2"}
    assert ranges["pixels"] == facecycle.pixel_range()
    trace: reference.Trace = {}
    reference.encode(weights, crops, trace)
    for name in ranges.keys() - {"pixels"}:
        assert ranges[name] == pytest.approx((trace[name].min(), trace[name].max()), rel=1e-4, abs=1e-5)
