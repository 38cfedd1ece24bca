"""Tracks: a few faces a second of one face, cut where it was away, measured as the live path does."""

from pathlib import Path

import numpy as np
import pytest
from tests.adapt.vocabulary.expressions import recording, store_of

from psm_adapt.evaluate.clips import clips_of
from psm_adapt.vocabulary.tracks import read_tracks, sampled, source_in, units_of
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.clusters.units import UNIT_NAMES, measure
from psm_stream.encoder import open_encoder
from psm_stream.errors import AdaptationError
from psm_stream.values import AlignedFace, Stamp


def test_so_many_faces_a_second_are_taken_whatever_the_frame_rate(tmp_path: Path) -> None:
    for fps in (5.0, 22.0, 25.0, 30.0):
        clips = clips_of([store_of(tmp_path / f"{fps}", recording("a", ["neutral"] * 120, fps))])
        (track,) = sampled(clips, rate_hz=5.0)
        t = track.t_s
        assert len(t) == pytest.approx(120 / fps * 5, abs=1)
        assert np.abs(t - np.arange(len(t)) / 5).max() <= 1 / fps
    (everything,) = sampled(clips, rate_hz=1000.0)
    assert len(everything) == 120


def test_tracks_end_where_the_face_was_away_or_another_one_begins(tmp_path: Path) -> None:
    t = np.concatenate([np.arange(10), 30 + np.arange(10), 40 + np.arange(5)]) / 5
    segment = np.repeat([0, 0, 1], [10, 10, 5])
    store = store_of(tmp_path / "s", recording("a", ["neutral"] * 25, t=t, segment=segment))
    assert [len(track) for track in sampled(clips_of([store]))] == [10, 10, 5]


def test_faces_that_are_not_sure_are_left_out_and_unknown_confidence_is_not(tmp_path: Path) -> None:
    confidence = np.array([0.95, 0.89, np.nan, 0.2, 0.9], np.float32)
    store = store_of(tmp_path / "s", recording("a", ["neutral"] * 5, confidence=confidence))
    (track,) = sampled(clips_of([store]))
    assert track.frame_index.tolist() == store.frame_index[[0, 2, 4]].tolist()
    unsure = store_of(tmp_path / "u", recording("a", ["neutral"] * 5, confidence=np.full(5, 0.5, np.float32)))
    with pytest.raises(AdaptationError, match=r"confidence of 0\.9"):
        sampled(clips_of([unsure]))


def test_units_are_those_of_the_live_path(tmp_path: Path) -> None:
    """A store's landmarks are px of its crop; live they are px of the frame, and `to_crop` maps them."""
    store = store_of(tmp_path / "s", recording("a", ["neutral", "smile", "jaw"]))
    (clip,) = clips_of([store])
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    for source in ("landmarks", "blendshapes"):
        units = units_of(clip, source)
        for n in range(3):
            face = AlignedFace(
                frame=Stamp(n, 0.0),
                face_id=0,
                crop=store.crops[n],
                landmarks=((store.landmarks[n] - [3, -7]) @ turn / 0.4).astype(np.float32),
                to_crop=np.hstack([0.4 * turn, [[3], [-7]]]).astype(np.float32),
                confidence=1.0,
                blendshapes=store.blendshapes[n] if source == "blendshapes" else None,
            )
            np.testing.assert_allclose(units[n], measure(face), atol=2e-3)
    assert units[1, UNIT_NAMES.index("AU12")] == pytest.approx(0.8, abs=0.05)


def test_blendshapes_are_taken_where_every_recording_has_them(tmp_path: Path) -> None:
    shapes = clips_of([store_of(tmp_path / "s", recording("a", ["smile"] * 3))])
    without = clips_of([store_of(tmp_path / "w", recording("b", ["smile"] * 3, blendshapes=None))])
    assert source_in(shapes) == "blendshapes"
    assert source_in(without) == source_in([*shapes, *without]) == "landmarks"
    with pytest.raises(AdaptationError, match="psm-adapt crops --landmarker"):
        units_of(without[0], "blendshapes")


def test_faces_without_units_are_left_out(tmp_path: Path) -> None:
    shapes = recording("a", ["smile"] * 4).arrays["blendshapes"].copy()
    shapes[1] = np.nan
    store = store_of(tmp_path / "s", recording("a", ["smile"] * 4, blendshapes=shapes))
    done: list[int] = []
    (track,) = read_tracks(sampled(clips_of([store])), "blendshapes", None, done.append)
    assert len(track) == len(track.units) == sum(done) == 3
    assert track.vectors is None
    nothing = np.full((4, 478, 2), np.nan, np.float32)
    bare = store_of(tmp_path / "b", recording("a", ["smile"] * 4, landmarks=nothing))
    with pytest.raises(AdaptationError, match="no face has landmarks"):
        read_tracks(clips_of([bare]), "landmarks", None, done.append)


def test_vectors_are_those_of_the_encoder(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", recording("a", ["neutral"] * 3))
    encoder = open_encoder(open_bundle(general_bundle()), "cpu")
    (track,) = read_tracks(clips_of([store]), "blendshapes", encoder, lambda _: None)
    np.testing.assert_array_equal(track.vectors, [encoder.encode(crop) for crop in store.read([0, 1, 2])])
