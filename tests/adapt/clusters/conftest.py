"""Two people with action units, and two models of them: one that sees some units, one that sees next to nothing."""

import numpy as np
import pytest
from tests.adapt.evaluate.conftest import blendshapes_of, recorded

from psm_adapt.clusters.comparison import Plan, compare_clusters
from psm_adapt.clusters.sweep import settings_of
from psm_adapt.data.writer import write_store
from psm_adapt.evaluate.clips import Clip, clips_of
from psm_adapt.evaluate.features import Model
from psm_adapt.evaluate.labels import read_labels

COUNT = 120
SETTINGS = settings_of((1.0, 2.0, 3.0), (4, 6))


def shapes(clip: Clip) -> np.ndarray:
    assert clip.store.blendshapes is not None
    return np.asarray(clip.store.blendshapes[clip.rows])


GOOD = Model("good", "baseline", lambda clip, _: shapes(clip)[:, [1, 3, 25, 44]])
BLUNT = Model("blunt", "baseline", lambda clip, _: shapes(clip)[:, :2] ** 2)


@pytest.fixture(scope="module")
def coding(tmp_path_factory):
    """Two people; ann has two recordings, and one of 120 frames without blendshapes."""
    made = [
        recorded(name, name.split("/")[0], count, blendshapes=blendshapes_of(count, seed))
        for seed, (name, count) in enumerate((("ann/1", COUNT), ("ann/2", 60), ("bob/1", 90)))
    ]
    made[0].arrays["blendshapes"][7] = np.nan
    return read_labels("blendshapes", clips_of([write_store(tmp_path_factory.mktemp("made") / "store", made)]))


@pytest.fixture(scope="module")
def result(coding):
    return compare_clusters(Plan((GOOD, BLUNT), coding, SETTINGS))
