"""Which faces a step sees."""

import numpy as np
import pytest

from psm_adapt.data.store import CropStore
from psm_adapt.general.faces import FacePool
from psm_adapt.general.ranking import FRAMES


@pytest.fixture
def pool(real: CropStore, made: CropStore) -> FacePool:
    return FacePool(real, made, 0.25)


def test_the_share_of_synthetic_faces_is_kept(pool: FacePool, real: CropStore) -> None:
    rows = pool.draw(np.random.default_rng(0), 4000)
    assert (rows >= len(real)).mean() == pytest.approx(0.25, abs=0.03)
    assert rows.max() < len(pool)


def test_a_face_that_does_more_is_drawn_more_often(pool: FacePool, real: CropStore) -> None:
    shapes = np.asarray(real.blendshapes[:300], np.float64)
    doing = ((shapes - np.median(shapes, axis=0)) ** 2).sum(axis=1)
    assert np.corrcoef(doing, pool.chance[:300])[0, 1] > 0.8


def test_partners_are_of_the_same_recording(pool: FacePool) -> None:
    rng = np.random.default_rng(1)
    rows = pool.draw(rng, 500)
    partners = pool.partners(rng, rows)
    assert (pool.track[rows] == pool.track[partners]).all()
    assert (rows != partners).mean() > 0.8
    assert set(pool.partners(rng, np.zeros(5000, int)).tolist()) == set(range(300))  # the last frame, too


def test_sequences_are_real_and_cross_no_cut(pool: FacePool, real: CropStore) -> None:
    rows = pool.sequences(np.random.default_rng(2), 50, spacing=2).reshape(50, FRAMES)
    assert (rows < len(real)).all()
    assert (pool.track[rows] == pool.track[rows[:, :1]]).all()
    assert (np.diff(rows, axis=1) == [1] + [2] * 10).all()


def test_crops_come_from_the_store_that_a_row_is_of(pool: FacePool, real: CropStore, made: CropStore) -> None:
    crops = pool.crops(np.array([len(real) + 5, 3, len(real)]))
    assert (crops[0].numpy() == made.crops[5]).all()
    assert (crops[1].numpy() == real.crops[3]).all()
    assert (crops[2].numpy() == made.crops[0]).all()
