"""Pictures moved by landmarks."""

import numpy as np
import pytest

from psm_adapt.general import morph
from psm_adapt.general.morph import MARGIN_PX, Mouth, open_mouth, skin_mask, thin_plate, warped, with_margin


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform(80, 176, (478, 2))


def test_the_crop_is_in_the_middle_untouched_and_the_margin_has_its_colours() -> None:
    crop = np.random.default_rng(1).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    picture = with_margin(crop)
    assert (picture[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] == crop).all()
    assert picture.shape == (256, 256, 3)
    even = with_margin(np.full((128, 128, 3), 77, np.uint8))
    assert (even == 77).all()


def test_landmarks_that_stay_leave_the_picture_as_it_is(points: np.ndarray) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert np.abs(warped(picture, thin_plate(points, points)) - picture).max() < 0.5


def test_a_whole_face_that_moves_takes_its_pixels_along(points: np.ndarray) -> None:
    across = np.tile(np.linspace(0, 255, 256), (256, 1)).astype(np.uint8)
    picture = np.repeat(across[..., None], 3, axis=2)
    moved = warped(picture, thin_plate(points, points + np.array([6, 0])))
    middle = moved[110:150, 110:150, 0] - picture[110:150, 110:150, 0]
    assert middle.mean() == pytest.approx(-6, abs=0.7)  # what was six pixels to the left is here now
    assert np.abs(moved[:3] - picture[:3]).max() < 4  # the edge stays


def test_the_field_brings_each_handle_to_its_place(points: np.ndarray) -> None:
    target = points + np.random.default_rng(3).normal(0, 0.5, points.shape)
    field = thin_plate(points, target)
    handles = morph._HANDLES
    at = np.round(target[handles]).astype(int)
    off = field[at[:, 1], at[:, 0]] - at - (points[handles] - target[handles])
    assert np.abs(off).mean() < 0.5


def test_only_a_mouth_that_opens_is_painted() -> None:
    points = np.full((478, 2), 128.0)
    inside = list(morph._LIPS_INSIDE)
    angle = np.linspace(0, 2 * np.pi, len(inside), endpoint=False)
    closed, opened = points.copy(), points.copy()
    closed[inside] = 128 + np.stack([20 * np.cos(angle), 0 * angle], axis=1)
    opened[inside] = 128 + np.stack([20 * np.cos(angle), 12 * np.sin(angle)], axis=1)
    opened[13], opened[14] = (128, 116), (128, 140)
    picture = np.full((256, 256, 3), 200, np.float32)
    mouth = Mouth(np.array([40.0, 10, 10]), np.array([220.0, 210, 200]), 0.0)
    assert (open_mouth(picture, closed, closed, mouth) == 200).all()
    painted = open_mouth(picture, closed, opened, mouth)
    assert painted[130, 128] == pytest.approx([40, 10, 10], abs=1)
    assert (painted[60, 60] == 200).all()


def test_skin_has_neither_eyes_nor_mouth() -> None:
    angle = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    points = 128 + np.stack([70 * np.cos(angle), 70 * np.sin(angle)], axis=1)
    for outline, middle in ((morph._RIGHT_EYE, (100, 100)), (morph._LEFT_EYE, (156, 100)), (morph._LIPS, (128, 160))):
        around = np.linspace(0, 2 * np.pi, len(outline), endpoint=False)
        points[list(outline)] = np.array(middle) + 10 * np.stack([np.cos(around), np.sin(around)], axis=1)
    mask = skin_mask(points)[..., 0]
    assert mask[128, 128] > 0.95
    assert max(mask[100, 100], mask[100, 156], mask[160, 128]) < 0.2
    assert mask[20, 20] == 0
