"""The parts that a report is made of, against slow versions of themselves."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.record.testing import a_face
from psm_stream.report.axes import clock, ticks, time_ticks
from psm_stream.report.clock import SessionClock
from psm_stream.report.happenings import words
from psm_stream.report.markup import element, escaped, number, shortened
from psm_stream.report.palette import COLOURS, HOLLOW, NOISE, blend, colour_of, sign_of
from psm_stream.report.plane import Sample, principal
from psm_stream.report.saying import Saying
from psm_stream.report.story import Said
from psm_stream.report.timeline import tints
from psm_stream.sources.demo_script import EXPRESSIONS
from psm_stream.values import NAN, Embedding, Stamp

_TO_LINEAR = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
"""sRGB to XYZ (IEC 61966-2-1)."""
_SEEN = {
    "all": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
"""What is seen of linear RGB. Source: Machado, Oliveira, Fernandes 2009, severity 1."""


def lab(colour, seen):
    """CIE 1976 L*a*b* of an sRGB colour, as somebody sees it."""
    channels = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    xyz = _TO_LINEAR @ np.clip(seen @ linear, 0, 1) / (0.9505, 1.0, 1.089)
    x, y, z = np.cbrt(np.maximum(xyz, 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", _SEEN)
def test_colours_are_told_apart(seen):
    for one, other in itertools.combinations((*COLOURS, NOISE, "#ffffff"), 2):
        assert np.linalg.norm(lab(one, _SEEN[seen]) - lab(other, _SEEN[seen])) > 9, (one, other)


def test_what_is_drawn_hollow_is_seen_on_white():
    assert lab("#ffffff", np.eye(3))[0] - lab(HOLLOW, np.eye(3))[0] > 40


def test_ids_that_share_a_colour_have_another_sign():
    looks = {(colour_of(cluster), sign_of(cluster, 8)) for cluster in range(36)}
    assert len(looks) == 36
    assert colour_of(-1) == NOISE
    assert (blend(0.0), blend(1.0, "#123456")) == ("#ffffff", "#123456")


@given(st.text())
def test_text_is_text(words):
    markup = element("p", escaped(words), title=words)
    assert re.fullmatch(r'<p title="[^"<>]*">[^<>]*</p>', markup, re.DOTALL)
    assert markup.encode()


def test_attributes_are_short():
    assert element("rect", x=1.0, y=-0.001, font_size=0.126, class_="a", fill=None) == (
        '<rect x="1" y="0" font-size="0.13" class="a"></rect>'
    )
    assert (number(100.0), number(1e-9), shortened("abcdef", 4)) == ("100", "0", "abc…")


@given(st.floats(0, 1e5), st.floats(1e-3, 1e5), st.integers(2, 14))
def test_ticks_lie_inside_and_are_evenly_spaced(low, length, most):
    for made in (ticks(low, low + length, most), time_ticks(low, low + length, most)):
        assert len(made) <= most + 1
        assert all(low - 1e-6 * length <= one <= low + length * (1 + 1e-6) for one in made)
        if len(made) > 2:
            assert np.ptp(np.diff(made)) < 1e-6 * (low + length)


def test_times_are_written_as_people_do():
    assert [clock(t) for t in (0, -0.01, 7, 0.5, 67, 3607, -2)] == [
        "0 s",
        "0 s",
        "7 s",
        "0.5 s",
        "1:07",
        "1:00:07",
        "-2 s",
    ]
    assert [clock(t, with_tenths=True) for t in (7, 67.04, 119.99)] == ["7.0 s", "1:07.0", "2:00.0"]


@pytest.mark.parametrize("own", [True, False])
def test_the_clock_goes_by_the_sources_own_time(own):
    line = SessionClock()
    stamps = [Stamp(n, 50 + 0.01 * n, 0.04 * n if own else NAN) for n in range(5)]
    assert [line.advance(stamp) for stamp in stamps] == pytest.approx([(0.04 if own else 0.01) * n for n in range(5)])
    assert line.of(50.045) == pytest.approx(line.now + 0.005)
    assert line.of(NAN) == line.now


def test_the_clock_goes_on_where_a_file_starts_again():
    line, own = SessionClock(), [0.0, 0.1, 0.2, 0.0, 0.1, NAN, 0.3]
    times = [line.advance(Stamp(n, 50 + n, t)) for n, t in enumerate(own)]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_labels_are_joined():
    said = Saying()
    for t, label in enumerate(["rest", "rest", "", "smile 0.2", "smile 0.9", "smile big", "2", "rest 0.5"]):
        said.see(label, t)
    assert said.runs(8) == [
        Said("rest", 0, 2, 1.0),
        Said("smile", 3, 5, 0.9),
        Said("smile big", 5, 6, 1.0),
        Said("2", 6, 7, 1.0),
        Said("rest", 7, 8, 0.5),
    ]


@given(st.permutations(["smile", "neutral", "blink", "jaw_drop", "rest", "count"]), st.integers(1, 6))
def test_what_the_source_says_has_the_same_tint_in_each_report(order, count):
    strengths = {"neutral": 0.0}
    whole, part = (
        tints([Said(label, t, t + 1, strengths.get(label, 0.7)) for t, label in enumerate(labels)])
        for labels in (order, order[:count])
    )
    assert list(whole) == ["blink", "smile", "jaw_drop", "count", "rest"]
    assert len(set(whole.values())) == 5
    assert set(part) == set(order[:count]) - {"neutral"}
    assert all(part[label] == whole[label] for label in part if label in EXPRESSIONS)


@given(st.integers(3, 40), st.integers(1, 12), st.integers(0, 99))
def test_the_plane_is_that_of_the_covariances_first_two_directions(count, dimension, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)) * np.arange(1, dimension + 1)
    xy, shares = principal(vectors)
    values, directions = np.linalg.eigh(np.cov(vectors.T, bias=True).reshape(dimension, dimension))
    for axis in range(min(2, dimension)):
        expected = (vectors - vectors.mean(axis=0)) @ directions[:, -1 - axis]
        assert min(np.abs(xy[:, axis] - sign * expected).max() for sign in (1, -1)) < 1e-6
        assert shares[axis] == pytest.approx(values[-1 - axis] / values.sum())


def test_the_plane_of_equal_faces_is_one_place():
    xy, shares = principal(np.ones((5, 4)))
    assert not xy.any()
    assert shares == (0.0, 0.0)


def test_the_sample_is_evenly_spread_and_small():
    sample, face = Sample(most=20), a_face(Stamp(0, 0.0))
    for index in range(1000):
        sample.offer(Embedding(face, np.full(4, index, np.float32), "m", 0), index)
    plane = sample.plane(lambda _: pytest.fail("one model only"))
    steps = set(np.diff(plane.clusters).tolist())
    assert len(steps) == 1
    assert 10 <= len(plane.clusters) <= 20
    assert plane.of == 1000


def test_a_notice_that_another_version_wrote_is_named():
    assert words("cluster.born", {}) == "cluster.born"
    assert words("source.lost", {"error": "gone"}) == "the source was lost: gone"
    assert words("anything.new", {}) == "anything.new"
    swap = {"reason": "revert", "new": "b", "old": "a", "trained": True, "frame_index": 7}
    assert words("model.swapped", swap) == "from frame 7 on: back by REVERT, b instead of a"
