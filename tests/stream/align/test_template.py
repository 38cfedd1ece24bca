"""The canonical crop: geometry against known transforms, and the warp against a slow one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.align import template


def face(angle: float = 0.0, scale: float = 100.0, x: float = 320.0, y: float = 240.0) -> np.ndarray:
    """478 landmarks whose rigid points are the template's own shape, turned, scaled and shifted; y down, px."""
    landmarks = np.zeros((478, 2))
    landmarks[list(template._RIGID)] = template._RIGID_SHAPE
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (landmarks @ turn.T * scale + (x, y)).astype(np.float32)


def eyes(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    right, left = landmarks[list(template.RIGHT_EYE)].mean(axis=0), landmarks[list(template.LEFT_EYE)].mean(axis=0)
    return right, left


@given(
    angle=st.floats(-1.2, 1.2),
    scale=st.floats(20, 600),
    x=st.floats(-500, 2000),
    y=st.floats(-500, 2000),
    size=st.sampled_from([32, 64, 128, 256]),
)
def test_eyes_land_where_the_document_says(angle: float, scale: float, x: float, y: float, size: int) -> None:
    landmarks = face(angle, scale, x, y)
    right, left = template.to_crop_px(np.array(eyes(landmarks)), template.fit(landmarks, size))
    # the documented margins: level, 0.38 of the side apart, at 0.34 of the height; pixel centres are whole numbers
    expected = np.array([(0.5 - 0.19, 0.34), (0.5 + 0.19, 0.34)]) * size - 0.5
    np.testing.assert_allclose([right, left], expected, atol=2e-2 * size / 64)


@given(
    angle=st.floats(-1.2, 1.2),
    distance=st.floats(0.1, 0.6),
    line=st.floats(0.1, 0.9),
    size=st.sampled_from([8, 112, 256, 512]),
)
def test_eyes_land_where_any_template_says(angle: float, distance: float, line: float, size: int) -> None:
    landmarks = face(angle)
    wanted = template.Template("other", distance, line)
    right, left = template.to_crop_px(np.array(eyes(landmarks)), template.fit(landmarks, size, wanted))
    expected = np.array([(0.5 - distance / 2, line), (0.5 + distance / 2, line)]) * size - 0.5
    np.testing.assert_allclose([right, left], expected, atol=2e-2 * size / 64)


@given(angle=st.floats(-1.2, 1.2), scale=st.floats(20, 600), size=st.sampled_from([32, 64, 128, 256]))
def test_our_own_crop_is_to_the_byte_what_it_always_was(angle: float, scale: float, size: int) -> None:
    """The formula as it was before there were templates: recordings and models rest on it."""
    landmarks = face(angle, scale) + np.random.default_rng(1).normal(0, 2, (478, 2)).astype(np.float32)
    points = landmarks[[33, 133, 362, 263, 168, 6, 2]].astype(np.float64)
    across = points[2:4].mean(axis=0) - points[0:2].mean(axis=0)
    cos, sin = across / (float(np.hypot(*across)) or 1.0)
    rotation = np.array([[cos, sin], [-sin, cos]])
    level = template.apply(rotation, points)
    target = (template._RIGID_SHAPE * 0.38 + (0.5, 0.34)) * size - 0.5
    level_0, target_0 = level - level.mean(axis=0), target - target.mean(axis=0)
    times = float((level_0 * target_0).sum() / max((level_0**2).sum(), 1e-9))
    shift = target.mean(axis=0) - times * level.mean(axis=0)
    before = np.hstack([times * rotation, shift[:, None]]).astype(np.float32)
    assert template.fit(landmarks, size).tobytes() == before.tobytes()
    assert template.fit(landmarks, size, template.EYES_LEVEL).tobytes() == before.tobytes()


def test_templates_are_told_apart_by_where_the_eyes_lie() -> None:
    ours = template.EYES_LEVEL
    assert ours == template.Template("eyes-level-1", 0.38, 0.34)
    assert ours.is_same(template.Template("by another name", 0.38, 0.34))
    assert not ours.is_same(template.Template("eyes-level-1", 0.3801, 0.34))
    assert not ours.is_same(template.Template("eyes-level-1", 0.38, 0.3401))


def test_eyes_stay_level_when_the_shape_is_not_the_template(rng: np.random.Generator) -> None:
    landmarks = face(0.3) + rng.normal(0, 4, (478, 2)).astype(np.float32)
    right, left = template.to_crop_px(np.array(eyes(landmarks)), template.fit(landmarks, 128))
    assert right[1] == pytest.approx(left[1], abs=1e-3)


def test_a_smile_does_not_move_the_crop() -> None:
    resting, smiling = face(), face()
    smiling[list(template.MOUTH_CORNERS)] += (10, -8)
    np.testing.assert_array_equal(template.fit(resting, 128), template.fit(smiling, 128))


def test_warp_samples_between_pixels() -> None:
    """A linear ramp stays linear, so a shift by a third of a pixel shows as a third of the step."""
    ramp = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    shifted = template.warp(ramp, np.array([[1, 0, -10.25], [0, 1, -10]], np.float32), 64)
    assert shifted[30, 20, 0] == pytest.approx((20 + 10.25) * 2, abs=0.6)


def test_warp_equals_the_slow_area_average(rng: np.random.Generator) -> None:
    """At a whole factor the anti-aliased warp is the mean of the source pixels that each crop pixel covers."""
    image = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    factor = 4
    to_crop = np.array([[1 / factor, 0, 0.5 / factor - 0.5], [0, 1 / factor, 0.5 / factor - 0.5]], np.float32)
    slow = image.reshape(128, factor, 128, factor, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(template.warp(image, to_crop, 128).astype(float), slow, atol=1.0)


def test_warp_does_not_alias() -> None:
    """One-pixel stripes, far finer than the crop, become grey instead of a moire pattern."""
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = template.warp(stripes, np.array([[0.13, 0.01, 0], [-0.01, 0.13, 0]], np.float32), 128)
    assert crop[20:100, 20:100].astype(float).std() < 6  # plain bilinear sampling gives 80 and more


def test_inside_counts_landmarks_in_the_image() -> None:
    landmarks = np.array([(0, 0), (99, 49), (100, 20), (-1, 20)], np.float32)
    assert template.inside(landmarks, 100, 50) == 0.5
