"""Latencies against numpy's percentiles."""

import numpy as np
import pytest

from psm_stream.stopwatch import Latency, Stopwatch
from psm_stream.testing import ManualClock


def test_percentiles_are_within_two_percent(rng: np.random.Generator) -> None:
    seconds = rng.lognormal(-5, 1.5, 20_000)
    latency = Latency()
    for value in seconds:
        latency.add(value)
    for percent in (50, 95, 99):
        exact = np.percentile(seconds * 1e3, percent, method="inverted_cdf")
        assert exact <= latency.percentile_ms(percent) <= exact * 1.021
    assert latency.summary()["max"] == pytest.approx(seconds.max() * 1e3, abs=1e-3)
    assert latency.summary()["n"] == 20_000


@pytest.mark.parametrize("seconds", [0.0, 1e-9, -1e-6, 1e9])
def test_odd_durations_are_counted(seconds: float) -> None:
    latency = Latency()
    latency.add(seconds)
    assert latency.count == 1


def test_nothing_counted_is_zero() -> None:
    assert Latency().summary() == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0, "n": 0}


def test_sections_use_the_clock_that_was_passed_in() -> None:
    clock = ManualClock()
    stopwatch = Stopwatch(clock, ("align", "encode"))
    with stopwatch.section("encode"):
        clock.advance(0.004)
    assert stopwatch.summary()["encode"]["max"] == pytest.approx(4.0, abs=1e-6)
    assert stopwatch.summary()["align"]["n"] == 0
