"""Steadying: bounded lag, less jitter, and a similarity stays one."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.align.steady import SLACK, Steady

CORNERS = np.array([(0, 0), (127, 0), (0, 127), (127, 127)], float)


def similarity(angle: float, scale: float, x: float, y: float) -> np.ndarray:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, sin, x], [-sin, cos, y]], np.float32)


def distance_px(a: np.ndarray, b: np.ndarray) -> float:
    """How far the crop's corners lie apart under two warps, by OpenCV's own inverse."""
    back = cv2.invertAffineTransform(a.astype(float))
    source = cv2.transform(CORNERS[None], back)
    return float(np.linalg.norm(cv2.transform(source, b.astype(float))[0] - CORNERS, axis=1).max())


@given(
    st.lists(
        st.tuples(st.floats(-0.5, 0.5), st.floats(0.1, 2), st.floats(-200, 200), st.floats(-200, 200)),
        min_size=1,
        max_size=20,
    )
)
def test_never_further_than_the_slack_from_the_fit(path: list[tuple[float, float, float, float]]) -> None:
    steady = Steady(128)
    for pose in path:
        fitted = similarity(*pose)
        held = steady(fitted)
        assert distance_px(fitted, held) <= SLACK * 128 + 1e-3
        assert np.allclose(held[0, 0], held[1, 1])
        assert np.allclose(held[0, 1], -held[1, 0])


def test_a_still_face_jitters_less(rng: np.random.Generator) -> None:
    steady = Steady(128)
    fits = [similarity(0, 0.5, *rng.normal(0, 0.15, 2)) for _ in range(300)]
    held = np.array([steady(fitted) for fitted in fits])[50:, :, 2]
    assert held.std() < 0.6 * np.array(fits)[50:, :, 2].std()
    assert np.abs(np.diff(held, axis=0)).mean() < 0.35 * np.abs(np.diff(np.array(fits)[50:, :, 2], axis=0)).mean()


def test_a_jump_is_followed_at_once() -> None:
    steady = Steady(128)
    steady(similarity(0, 0.5, 0, 0))
    assert distance_px(similarity(0, 0.5, 60, 0), steady(similarity(0, 0.5, 60, 0))) < 0.52
