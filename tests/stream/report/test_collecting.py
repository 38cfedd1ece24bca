"""What a report believes of a session is what was recorded: counted again here in the slow, obvious way."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tests.stream.report.stories import FIRST_FIT, FPS, collected, frames

from psm_stream.clusters.clustering import Clustering
from psm_stream.errors import SessionError
from psm_stream.record.framing import Entry
from psm_stream.record.reader import Session
from psm_stream.record.testing import a_face, fake_encoder, open_fake, record_run, rewrite, some_faces
from psm_stream.report.collecting import collect
from psm_stream.report.page import page
from psm_stream.report.story import NOISE, UNSORTED
from psm_stream.values import (
    UNASSIGNED,
    Assignment,
    Embedding,
    Marker,
    NameCluster,
    NoFace,
    Recluster,
    Stamp,
    SwapEncoder,
)

ONE, TWO = "1" * 12, "2" * 12


def opener(session):
    return lambda model_id: open_fake(session.model_folder(model_id))


def recorded(tmp_path, items, **about):
    folder = record_run(tmp_path, fake_encoder(tmp_path / "bundles", ONE), items, **about)
    session = Session(folder)
    return session, collect(session, opener(session))


def test_frames_losses_and_models_are_those_of_the_log(tmp_path):
    two = fake_encoder(tmp_path / "bundles", TWO)
    faces = [some_faces(index, (0, 1)) for index in range(12)]
    gone = [NoFace(some_faces(index).frame, "a test") for index in range(12, 20)]
    items = [*faces[:6], Marker("half", 100.2, "remote"), SwapEncoder(two, "adapt"), *faces[6:], *gone]
    _, story = recorded(tmp_path, items)
    dropped = Counter()
    for sighting in (*faces, *gone):
        dropped.update(sighting.frame.dropped)
    series = story.quality.series
    assert story.quality.dropped == dropped
    assert series.dropped.sum() == dropped.total()
    assert series.is_seen.tolist() == [True] * 12 + [False] * 8
    assert story.quality.lost == 2
    assert story.quality.longest_without_s == pytest.approx(8 / 30)
    assert [model_id for model_id, _ in story.models] == [ONE, TWO]
    assert story.models[1][1] == pytest.approx(6 / 30)
    assert [(event.kind, round(event.t, 3)) for event in story.events] == [("marker", 0.2), ("model.swapped", 0.2)]
    assert series.latency_ms == pytest.approx(
        [-1e3 * s.frame.t_capture for s in faces for _ in range(2)]
    )  # t_publish: 0


def test_after_a_swap_all_faces_are_encoded_by_the_last_model(tmp_path):
    two = fake_encoder(tmp_path / "bundles", TWO)
    faces = [some_faces(index) for index in range(12)]
    _, mixed = recorded(tmp_path, [*faces[:6], SwapEncoder(two, "adapt"), *faces[6:]])
    folder = record_run(tmp_path / "alone", two, faces)
    alone = collect(Session(folder), opener(Session(folder)))
    assert mixed.plane is not None
    assert alone.plane is not None
    np.testing.assert_array_equal(mixed.plane.xy, alone.plane.xy)
    assert mixed.plane.model_id == TWO


def test_runs_are_what_the_frames_say():
    path = frames(4, 400, faces=2)
    collector = collected(path)
    runs = collector._runs.by_face()
    for face_id in (0, 1):
        expected, now = Counter(), NOISE
        for index, where in enumerate(path):
            if where is not None:  # else the face is away for five frames, which is too short to count
                now = where[face_id] if index >= FIRST_FIT else UNSORTED
            expected[now] += 1
        seconds = Counter()
        for run in runs[face_id]:
            seconds[run.cluster] += run.end - run.begin
        assert {one: round(time * FPS) for one, time in seconds.items()} == dict(expected)
        ordered = runs[face_id]
        assert all(one.end <= other.begin + 1e-9 for one, other in itertools.pairwise(ordered))
        assert NOISE in seconds


def test_clusterings_that_come_and_go_are_told():
    collector = collected([[0]] * 50)
    for index, version in [(60, 2), (61, 2), (70, 0), (80, 3)]:
        stamp = Stamp(index, index / FPS, index / FPS)
        assigned = Assignment(0, 1.0, 0.0, version) if version else UNASSIGNED
        collector.see(Embedding(a_face(stamp), np.zeros(16, np.float32), ONE, 0, assigned))
    assert [(version, round(t * FPS)) for version, t in collector._fits] == [(1, 20), (2, 60), (0, 70), (3, 80)]


def test_a_face_that_was_away_begins_anew():
    path = [*[[0]] * 40, *[None] * 5, *[[0]] * 5, *[None] * 20, *[[0]] * 10]
    runs = [run for run in collected(path)._runs.by_face()[0] if run.cluster != UNSORTED]
    assert [(round(run.begin * FPS), round(run.end * FPS)) for run in runs] == [(FIRST_FIT, 50), (70, 80)]


def test_tokens_are_those_that_were_recorded(tmp_path):
    encoder = fake_encoder(tmp_path / "bundles", ONE)
    faces = [some_faces(index) for index in range(9)]
    vectors = [encoder.encode(sighting.faces[0].crop) for sighting in faces]
    fitted = {
        "centres": np.array([vectors[3], vectors[6]]),
        "scale": np.ones(encoder.dimension, np.float32),
        "limit": np.array(1e-3),
        "is_word": np.ones(2, np.bool_),
        "is_used": np.zeros(0, np.bool_),
    }
    given = Clustering("vocabulary", ONE, 1, np.arange(2, dtype=np.int32), (), fitted, 2)
    items = [*faces[:2], Recluster(given, "vocabulary"), *faces[2:], NameCluster(1, "grin")]
    session = Session(record_run(tmp_path, encoder, items))
    story = collect(session, opener(session))
    assert story.tokens == {0: "c0", 1: "c1", NOISE: "<unk>"}
    assert story.events[-1].text == "cluster c1 is called grin"


def test_a_recording_that_was_cut_off_is_told_up_to_the_cut(tmp_path):
    session, whole = recorded(tmp_path, [some_faces(index) for index in range(9)])
    log = session.folder / "session.mcap"
    about = json.loads((session.folder / "info.json").read_text())
    (session.folder / "info.json").write_text(json.dumps({**about, "finished": None}))
    log.write_bytes(log.read_bytes()[:-40])
    cut = Session(session.folder)
    assert not cut.is_finished
    story = collect(cut, opener(cut))
    assert story.quality.remarks[0].startswith("The recording was cut off")
    assert len(story.quality.series.t) <= len(whole.quality.series.t)
    assert whole.quality.remarks == []


@pytest.mark.parametrize(
    ("source", "is_fast"),
    [
        ({"kind": "demo", "pace": "fast"}, True),
        ({"kind": "images", "pace": "fast"}, True),
        ({"kind": "file", "pace": "live"}, False),
        ({"kind": "rtsp", "pace": "fast"}, False),
        ("written by another version", False),
    ],
)
def test_latencies_at_pace_fast_are_said_to_mean_nothing(session, source, is_fast):
    path = session.folder / "info.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "config": {**about["config"], "source": source}}))
    story = collect(Session(session.folder), opener(session))
    assert story.quality.is_fast is is_fast
    assert ("these are times in queues" in page(story)) is is_fast


def test_a_face_whose_embedding_is_missing_is_left_out(tmp_path):
    session, whole = recorded(tmp_path, [some_faces(index) for index in range(9)])
    rewrite(session.folder, lambda entries: entries[:-2] if entries[-1].channel.startswith("face") else entries)
    story = collect(Session(session.folder), opener(session))
    assert (whole.table["frames"], story.table["frames"]) == (9, 8)
    assert len(story.quality.series.t) == 9


def test_a_message_that_is_none_is_named(tmp_path):
    session, _ = recorded(tmp_path, [some_faces(index) for index in range(3)])

    def spoilt(entries: list[Entry]) -> list[Entry]:
        last = max(place for place, entry in enumerate(entries) if entry.channel == "embedding.00")
        return [replace(one, body=b"\1\0\0\0\xc1") if n == last else one for n, one in enumerate(entries)]

    rewrite(session.folder, spoilt)
    with pytest.raises(SessionError, match=r"a recorded embedding.00 message cannot be read"):
        collect(Session(session.folder), opener(session))
