"""Recipes of synthetic clips, and their pictures."""

from dataclasses import replace

import numpy as np
import pytest

from psm_adapt.data.store import CropStore
from psm_adapt.general.morph import MARGIN_PX, with_margin
from psm_adapt.general.synthesis import FRAMES, Clip, Synthesis
from psm_stream.blendshapes import BLENDSHAPES


@pytest.fixture(scope="module")
def synthesis(real: CropStore) -> Synthesis:
    return Synthesis(real)


def plain(clip: Clip) -> Clip:
    """The same frames with nothing done to them."""
    still = {"shape": np.zeros((478, 2)), "curves": np.zeros_like(clip.curves), "tint": np.ones(3)}
    return replace(clip, keeps=1.0, skin_mix=0.0, **still)


def test_the_same_seed_and_number_give_the_same_clip(synthesis: Synthesis) -> None:
    first, again, other = (synthesis.clip(*seeds) for seeds in ((0, 3), (0, 3), (0, 4)))
    assert (first.rows == again.rows).all()
    assert (first.curves == again.curves).all()
    assert first.curves.shape != other.curves.shape or not np.allclose(first.curves, other.curves)


def test_rows_are_of_one_recording_in_order(synthesis: Synthesis, real: CropStore) -> None:
    for number in range(30):
        rows = synthesis.clip(1, number).rows
        assert len(rows) == FRAMES
        assert len(set(real.recording[rows].tolist())) == 1
        assert len(set(np.diff(rows).tolist())) == 1


def test_two_to_five_moves_come_and_go(synthesis: Synthesis) -> None:
    for number in range(20):
        curves = synthesis.clip(2, number).curves
        moving = {BLENDSHAPES[n].removesuffix("Left").removesuffix("Right") for n in np.flatnonzero(curves.any(axis=0))}
        assert 2 <= len(moving) <= 10
        assert curves.min() >= 0
        assert 0.05 < curves.max() <= 1.0


def test_a_clip_with_nothing_done_is_the_frames_themselves(synthesis: Synthesis, real: CropStore) -> None:
    clip = plain(replace(synthesis.clip(0, 0)))
    clip = replace(clip, rows=clip.rows[:2], curves=clip.curves[:2])
    rows = [clip.rest_row, *clip.rows]
    for row, picture in zip(rows, synthesis.pictures(clip), strict=True):
        assert np.abs(picture.astype(int) - with_margin(real.crops[row]).astype(int)).max() <= 2


def test_an_expression_changes_the_picture_and_a_tint_its_colours(synthesis: Synthesis) -> None:
    clip = plain(synthesis.clip(0, 1))
    clip = replace(clip, rows=clip.rows[:1], curves=clip.curves[:1])
    resting, still = synthesis.pictures(clip)
    curves = clip.curves.copy()
    curves[0, BLENDSHAPES.index("mouthSmileLeft")] = 1
    still_resting, smiling = synthesis.pictures(replace(clip, curves=curves))
    assert (still_resting == resting).all()
    inner = slice(MARGIN_PX, -MARGIN_PX)
    assert np.abs(smiling[inner, inner].astype(int) - still[inner, inner]).mean() > 1
    _, red = synthesis.pictures(replace(clip, tint=np.array([1.0, 0.5, 0.5])))
    assert red[..., 1].mean() == pytest.approx(still[..., 1].mean() / 2, rel=0.02)
