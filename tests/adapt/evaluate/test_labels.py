"""Which labels are read: by what a place holds, or from blendshapes."""

import numpy as np
import pytest
from tests.adapt.evaluate.conftest import blendshapes_of, recorded

from psm_adapt.evaluate.blendshape_labels import proxy_labels
from psm_adapt.evaluate.clips import clips_of
from psm_adapt.evaluate.labels import read_labels
from psm_adapt.evaluate.splits import frequent
from psm_stream.errors import AdaptationError


def test_blendshapes_of_each_recording_by_its_own_median(make_store):
    shapes = [blendshapes_of(80, seed) for seed in (1, 2)]
    shapes[1][:3] = np.nan  # no face found by the second aligner
    store = make_store(recorded("a", "p", 80, blendshapes=shapes[0]), recorded("b", "p", 80, blendshapes=shapes[1]))
    coding = read_labels("blendshapes", clips_of([store]))
    assert coding.units[:2] == ("AU1", "AU2")
    np.testing.assert_array_equal(coding.recordings[0].labels, proxy_labels(shapes[0]))
    np.testing.assert_array_equal(coding.recordings[1].labels, proxy_labels(shapes[1][3:]))
    assert coding.recordings[1].clip.frame_index.tolist() == list(range(3, 80))
    assert [coded.unlabelled for coded in coding.recordings] == [0, 3]
    np.testing.assert_array_equal(coding.recordings[0].is_frequent, frequent(proxy_labels(shapes[0])))


def test_a_store_without_blendshapes(make_store):
    with pytest.raises(AdaptationError, match="has no blendshapes; make one with psm-adapt crops --landmarker"):
        read_labels("blendshapes", clips_of([make_store(recorded("a", "p", 5))]))


def test_a_recording_without_blendshapes(make_store):
    store = make_store(recorded("a", "p", 5, blendshapes=blendshapes_of(5, 0)), recorded("b", "p", 5))
    with pytest.raises(AdaptationError, match=r"recording 'b' .* has no blendshapes in any frame"):
        read_labels("blendshapes", clips_of([store]))


def test_disfa_and_openface_are_told_apart(tmp_path, make_store):
    clips = clips_of([make_store(recorded("SN001", "SN001", 2))])
    (tmp_path / "disfa").mkdir()
    (tmp_path / "disfa/SN001_au4.txt").write_text("1,0\n2,3\n")
    (tmp_path / "openface").mkdir()
    (tmp_path / "openface/SN001.csv").write_text("frame,AU04_r\n1,0\n2,3\n")
    for name, source in (("disfa", "DISFA"), ("openface", "OpenFace")):
        coding = read_labels(str(tmp_path / name), clips)
        assert coding.units == ("AU4",)
        assert source in coding.source
        assert coding.recordings[0].labels.tolist() == [[False], [True]]


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(AdaptationError, match=r"there is no .*nowhere; give a file, a folder, or the word blendshapes"):
        read_labels(str(tmp_path / "nowhere"), [])


def test_a_place_that_holds_something_else(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(AdaptationError, match="holds neither DISFA's"):
        read_labels(str(tmp_path), [])
