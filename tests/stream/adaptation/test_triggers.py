"""When an adaptation starts, as tables of what happens; the drift against numpy over all that was seen."""

import math

import numpy as np
import pytest

from psm_stream.adaptation.triggers import WINDOW_S, Drift, Ended, Triggers
from psm_stream.config import AdaptationSettings

SETTINGS = AdaptationSettings(every_s=600, min_new_faces=250, drift=1.0, backoff_s=60, backoff_max_s=300)
FULL = 500


def triggers() -> Triggers:
    return Triggers(SETTINGS, FULL)


def moved(rules: Triggers) -> None:
    """Show it faces that are elsewhere than they were."""
    rng = np.random.default_rng(0)
    for second in range(600):
        centre = 0.0 if second < 120 else 50.0
        rules.drift.see((rng.normal(size=8) + centre).astype(np.float32), float(second))


def test_the_first_full_buffer() -> None:
    rules = triggers()
    assert rules.due(0.0, FULL - 1, FULL - 1) == ""
    assert rules.due(0.0, FULL, FULL) == "first fill"


@pytest.mark.parametrize(
    ("after_s", "new_faces", "says"),
    [(599.9, 10_000, ""), (600, 249, ""), (600, 250, "600 s after the last"), (6000, 0, "")],
)
def test_after_a_while_if_there_is_something_new(after_s: float, new_faces: int, says: str) -> None:
    rules = triggers()
    rules.started(100.0, FULL)
    rules.ended(250.0, Ended.ACCEPTED)
    assert rules.due(100.0 + after_s, FULL, FULL + new_faces) == says


def test_on_drift_if_there_is_something_new() -> None:
    rules = triggers()
    rules.started(0.0, FULL)
    rules.ended(0.0, Ended.ACCEPTED)
    moved(rules)
    assert rules.due(1.0, FULL, FULL + 249) == ""
    assert rules.due(1.0, FULL, FULL + 250).startswith("drift of ")
    rules.started(1.0, FULL + 250)
    rules.ended(1.0, Ended.ACCEPTED)
    assert rules.due(1.0, FULL, FULL + 500) == ""


def test_the_wait_doubles_up_to_a_limit_and_starts_anew_after_a_success() -> None:
    rules = triggers()
    waits = [
        rules.ended(0.0, how) for how in (Ended.FAILED, Ended.REJECTED, Ended.FAILED, Ended.FAILED, Ended.REJECTED)
    ]
    assert waits == [60, 120, 240, 300, 300]
    assert rules.ended(0.0, Ended.ACCEPTED) is None
    assert rules.ended(0.0, Ended.REJECTED) == 60
    for _ in range(5000):
        assert rules.ended(0.0, Ended.FAILED) <= 300  # no number grows beyond all bounds


def test_a_failure_is_tried_again_with_the_same_faces_a_rejection_with_others() -> None:
    for how, without, with_new in (
        (Ended.FAILED, "again after a failure", "again after a failure"),
        (Ended.REJECTED, "", "again after a rejection"),
    ):
        rules = triggers()
        rules.started(0.0, FULL)
        rules.ended(10.0, how)
        assert rules.due(69.9, FULL, FULL + 250) == ""
        assert rules.due(70.0, FULL, FULL) == without
        assert rules.due(70.0, FULL, FULL + 250) == with_new


def test_nothing_while_paused_and_no_try_is_promised() -> None:
    rules = triggers()
    rules.is_paused = True
    assert rules.due(0.0, FULL, FULL) == ""
    assert rules.ended(0.0, Ended.FAILED) is None


def test_drift_equals_its_definition() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.01, 0.2, size=4000))
    vectors = (rng.normal(size=(4000, 5)) * [1, 2, 3, 4, 5] + np.where(times > 200, 3.0, 0.0)[:, None]).astype(
        np.float32
    )
    drift = Drift()
    for vector, t in zip(vectors, times, strict=True):
        drift.see(vector, t)
    first = int(np.argmax(times - times[0] >= WINDOW_S)) + 1
    reference, later = vectors[:first].astype(float), vectors[first:].astype(float)
    recent = reference.mean(0)
    for vector, dt in zip(later, np.diff(times)[first - 1 :], strict=True):
        share = 1 - math.exp(-dt / WINDOW_S)
        recent = (1 - share) * recent + share * vector
    expected = math.sqrt(((recent - reference.mean(0)) ** 2).sum() / reference.var(0).sum())
    assert drift.value == pytest.approx(expected, rel=1e-9)


def test_no_drift_where_nothing_moves_or_nothing_is_known() -> None:
    drift = Drift()
    assert drift.value == 0.0
    for second in range(200):
        drift.see(np.ones(4, np.float32), float(second))
    assert drift.value == 0.0  # a still face has no spread
    drift.restart()
    drift.see(np.ones(7, np.float32), 0.0)  # another encoder may have another dimension
    assert drift.value == 0.0
