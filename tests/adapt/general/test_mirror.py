"""What a mirrored face is called."""

import numpy as np
import pytest
from tests.adapt.general.conftest import face

from psm_adapt.general.mirror import mirror_points, mirrored_blendshapes, mirrored_landmarks
from psm_stream.blendshapes import BLENDSHAPES


def test_left_and_right_change_places_and_the_rest_stays() -> None:
    twins = mirrored_blendshapes()
    assert [BLENDSHAPES[n] for n in twins[[BLENDSHAPES.index("jawOpen"), BLENDSHAPES.index("mouthLeft")]]] == [
        "jawOpen",
        "mouthRight",
    ]
    assert (twins[twins] == np.arange(52)).all()
    assert sum(twins != np.arange(52)) == sum(name.endswith(("Left", "Right")) for name in BLENDSHAPES)


def test_landmarks_of_a_symmetric_face_find_their_twins() -> None:
    points = face(np.random.default_rng(5))
    twins = mirrored_landmarks(points + np.random.default_rng(6).normal(0, 0.01, points.shape))
    assert (twins == np.roll(np.arange(478), 239)).all()
    assert mirror_points(points)[twins] == pytest.approx(points, abs=1e-9)
