"""Proxies of action units, from blendshapes by hand."""

import numpy as np
import pytest

from psm_adapt.evaluate.blendshape_labels import PROXIES, PROXY_NAMES, proxy_labels, proxy_scores
from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.errors import AdaptationError


def shapes(count: int, **values: list[float]) -> np.ndarray:
    rows = np.zeros((count, 52), np.float32)
    for name, column in values.items():
        rows[:, BLENDSHAPES.index(name)] = column
    return rows


def test_units_and_shapes_are_those_of_the_protocol():
    assert " ".join(PROXY_NAMES) == "AU1 AU2 AU4 AU6+7 AU10 AU12 AU14 AU16 AU18 AU24 AU26 AU45"
    named = {shape for proxy in PROXIES for shape in proxy.shapes}
    assert len(named) == sum(len(proxy.shapes) for proxy in PROXIES) == 21
    assert named <= set(BLENDSHAPES)


def test_positions_are_mediapipes():
    # MediaPipe's own enumeration; an offset of one would shift every label
    assert [BLENDSHAPES.index(name) for name in ("_neutral", "browInnerUp", "jawOpen", "mouthPucker")] == [0, 3, 25, 38]
    row = np.zeros((1, 52), np.float32)
    row[0, 25] = 1
    assert proxy_scores(row)[0].tolist() == [float(name == "AU26") for name in PROXY_NAMES]


def test_scores_are_means_of_both_sides():
    scores = proxy_scores(shapes(2, mouthSmileLeft=[0.2, 0.8], mouthSmileRight=[0.4, 0.0], jawOpen=[0.5, 0.1]))
    assert scores[:, PROXY_NAMES.index("AU12")].tolist() == [pytest.approx(0.3), pytest.approx(0.4)]
    assert scores[:, PROXY_NAMES.index("AU26")].tolist() == [pytest.approx(0.5), pytest.approx(0.1)]


@pytest.mark.parametrize(
    ("jaw", "expected"),
    [
        ([0.0, 0.0, 0.0, 0.19, 0.21], [0, 0, 0, 0, 1]),  # median 0: the floor of 0.2 decides
        ([0.3, 0.3, 0.3, 0.44, 0.46], [0, 0, 0, 0, 1]),  # median 0.3: the median + 0.15 decides
    ],
)
def test_labels_exceed_median_and_floor(jaw, expected):
    labels = proxy_labels(shapes(5, jawOpen=jaw))
    assert labels[:, PROXY_NAMES.index("AU26")].tolist() == [bool(value) for value in expected]
    assert labels.sum() == sum(expected)


def test_another_number_of_blendshapes_is_refused():
    with pytest.raises(AdaptationError, match=r"must be \[N, 52\].*got \[3, 51\]"):
        proxy_labels(np.zeros((3, 51)))
