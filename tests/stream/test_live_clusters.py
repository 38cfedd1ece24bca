"""Clusters in a live run: real threads, encoders, sockets and process; source, aligner and training are fakes."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.processes import own_children
from tests.stream.live_runs import GENERAL, OFF, Feed, Heard, a_live, running

from psm_export import facecycle
from psm_export.untrained import draw_weights
from psm_export.write import Description, write_bundle
from psm_stream.adaptation.plan import Plan
from psm_stream.adaptation.testing import fake_worker
from psm_stream.bundle import Parity, open_bundle
from psm_stream.clusters.clusters import Wanted
from psm_stream.config import load as load_settings
from psm_stream.errors import ClusteringError, SessionError
from psm_stream.people_clusters import load
from psm_stream.player import Player
from psm_stream.record.reader import Session
from psm_stream.record.testing import a_checkpoint, a_face
from psm_stream.replay import Replay, model_opener
from psm_stream.testing import FakeSource
from psm_stream.values import Faces, Frame, Recluster, Sighting
from psm_stream.verify import verify
from psm_stream.wire.ports import open_sockets

FIRST = 24
DOUBLE = np.ones((2, 2, 1), np.uint8)
EXACT = Parity(reference="itself", crops=0, max_abs=0.0, mean_abs=0.0, cosine=1.0, tolerance=1e-4)


@pytest.fixture(autouse=True)
def psm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as a worker leaves it."""
    folder = tmp_path_factory.mktemp("model") / "bundle"
    about = Description("model", "a test", "FaceCycle", "inside", "fp32", False, "MIT", "a test", {})
    write_bundle(folder, facecycle.build_model(draw_weights(seed=3)), about, EXACT)
    a_checkpoint(folder / "checkpoint", 3)
    return folder


class Expressions:
    """Sees one face in each frame, with two expressions in turn, and a third from frame `third_from` on."""

    name = "fake"

    def __init__(self, begins: int = 0, third_from: int = 10**9) -> None:
        self._begins = begins
        self._third_from = third_from

    def __call__(self, frame: Frame) -> Sighting:
        index = frame.stamp.index
        which = index % 3 if index >= self._third_from else (index + self._begins) % 2
        base = np.random.default_rng(which).integers(40, 200, (8, 8, 3), np.uint8)
        crop = np.kron(base, np.ones((16, 16, 1), np.uint8)) + np.random.default_rng(index).integers(
            0, 3, (128, 128, 3), np.uint8
        )
        return Faces(frame.stamp, (replace(a_face(frame.stamp, 0, size_px=128), crop=crop, confidence=0.9),))

    def warm_up(self) -> None:
        return

    def close(self) -> None:
        return


class Clustering:
    """A run with clusters, which gets its frames one by one."""

    def __init__(self, *, aligner: Expressions | None = None, plan: Plan = OFF, known=None, **settings) -> None:
        self.feed = Feed()
        plain = {
            "clusters__method": "hdbscan",
            "clusters__first_faces": FIRST,
            "clusters__min_cluster_size": 5,
            "clusters__min_samples": 3,
            "clusters__rate_hz": 30,
        }
        source = FakeSource(self.feed, is_live=False)
        self.live = a_live(source, aligner or Expressions(), plan=plan, known=known, **(plain | settings))
        self.heard = self.live.outlet.publisher = Heard(self._go_on)
        self._flows: Callable[[], bool] = lambda: False

    def _go_on(self, message) -> None:
        if message.topic == "latest.00" and self._flows():
            self.feed.frames(1)

    def frames(self, count: int) -> None:
        """Give frames, and wait until they are published."""
        self.feed.frames(count)
        self.heard.wait_for("latest.00", self.feed.given)

    def clusters(self, first: int, count: int, topic: str = "cluster.00") -> list[int]:
        """Return the clusters of frames `first` to `first + count`."""
        by_frame = {header["frame_index"]: header["cluster"] for header in self.heard.headers(topic)}
        return [by_frame[first + n] for n in range(count)]

    def flow_until(self, topic: str) -> dict:
        """Let frame follow frame until something is announced; return it."""
        self._flows = lambda: not self.heard.headers(topic)
        self.feed.frames(1)
        header = self.heard.wait_for(topic)
        self.heard.wait_for("latest.00", self.feed.given)
        return header

    def verify(self, root: Path, number: int = 1) -> None:
        """Check that what was recorded is computed again, to the byte."""
        (folder,) = root.glob(f"*/{number:03d}")
        session = Session(folder)
        verdict = verify(Replay(session, model_opener(session.info)))
        assert not verdict.difference
        assert verdict.embeddings > 0


def test_first_clusters_are_announced_published_explained_named_and_replayed(tmp_path: Path) -> None:
    run = Clustering(record__root=str(tmp_path / "sessions"))
    with running(run.live) as control:
        run.frames(FIRST - 1)
        assert control.send("L 0 rest").startswith("ERROR there is no cluster 0; clusters so far: none yet")
        run.frames(1)
        assert run.heard.headers("cluster.00") == []
        run.frames(10)
        ids = run.clusters(FIRST, 2)
        assert sorted(ids) == [0, 1]
        for topic in ("cluster.00", "embedding.00", "latest.00"):
            assert run.clusters(FIRST, 10, topic) == ids * 5
        assert control.send("L 1 a smile").startswith("OK")
        assert control.send("L 5 x").startswith("ERROR there is no cluster 5; clusters so far: 0, 1")
        assert control.send("L x y").startswith("ERROR")
        run.frames(2)
        table = json.loads(control.send("CLUSTERS"))
        assert [one["name"] for one in table["clusters"]] == ["", "a smile"]
        assert control.send("RECLUSTER").startswith("OK")
        run.frames(10)
        status = json.loads(control.send("STATUS"))["clusters"]
        run.heard.wait_for("stats.clusters", 2)
    assert (status["version"], status["clusters"], status["method"]) == (2, [0, 1], "hdbscan")
    born = run.heard.headers("notify.cluster.born")
    assert [(one["cluster"], one["cluster_version"], one["frame_index"]) for one in born] == [
        (0, 1, FIRST),
        (1, 1, FIRST),
    ]
    fitted = run.heard.headers("notify.cluster.fitted")
    assert [(one["reason"], one["clusters"], one["cluster_version"]) for one in fitted] == [
        ("first", [0, 1], 1),
        ("order", [0, 1], 2),
    ]
    last = run.heard.headers("cluster.00")[-1]
    name = ["", "a smile"][ids[1]]
    assert (last["cluster"], last["name"], last["token"], last["cluster_version"]) == (ids[1], name, "", 2)
    assert last["cluster_strength"] > 0.5
    assert 0 <= last["outlier"] < 0.5
    assert own_children() == []
    run.verify(tmp_path / "sessions")


def test_a_recording_that_begins_in_mid_run_has_what_it_needs(tmp_path: Path) -> None:
    run = Clustering(record__root=None)
    run.live.parts = replace(run.live.parts)  # of its own
    with running(run.live) as control:
        run.frames(FIRST + 3)
        assert control.send("L 0 rest").startswith("OK")
        run.frames(1)
        settings = run.live.parts.settings.record
        object.__setattr__(settings, "root", tmp_path / "sessions")
        assert control.send("R").startswith("OK")
        run.frames(6)
        assert control.send("r").startswith("OK")
        run.frames(1)
    run.verify(tmp_path / "sessions")


def test_ids_hold_through_a_swap_and_back(model: Path, tmp_path: Path) -> None:
    plan = Plan("manual", "a test", tuple(fake_worker("--bundle", str(model))))
    run = Clustering(plan=plan, record__root=str(tmp_path / "sessions"), faces__capacity=8)
    new_id = open_bundle(model).manifest.model_id
    with running(run.live) as control:
        run.frames(FIRST + 4)
        assert control.send("C").startswith("OK")
        swapped = run.flow_until("notify.model.swapped")
        run.frames(10)
        at = swapped["frame_index"]
        assert control.send("REVERT").startswith("OK")
        back = run.feed.given
        run.frames(10)
    embeddings = run.heard.headers("embedding.00")
    assert embeddings[at]["model_id"] == new_id
    assert embeddings[at - 1]["model_id"] == GENERAL.manifest.model_id
    ids = run.clusters(FIRST, 2)
    assert sorted(ids) == [0, 1]
    assert [one["cluster"] for one in embeddings[FIRST:]] == [ids[frame % 2] for frame in range(FIRST, run.feed.given)]
    versions = [one["cluster_version"] for one in embeddings]
    assert versions[at] == versions[at - 1] + 1
    assert versions[back] == 1  # the general encoder's own
    fitted = [(one["reason"], one["model_id"] == new_id) for one in run.heard.headers("notify.cluster.fitted")]
    assert fitted == [("first", False), ("swap", True), ("first", False), ("swap", False)]
    for change in ("born", "returned", "merged", "split", "moved", "retired"):
        assert len(run.heard.headers(f"notify.cluster.{change}")) == (2 if change == "born" else 0)
    run.verify(tmp_path / "sessions")


def test_a_person_has_the_same_clusters_in_the_next_session() -> None:
    first = Clustering(person="ada")
    with running(first.live) as control:
        first.frames(FIRST + 2)
        assert control.send("L 1 smile").startswith("OK")
        first.frames(2)
    ids = first.clusters(FIRST, 2)
    stored = load("ada")
    assert stored is not None
    assert (stored.next_id, dict(stored.names)) == (2, {1: "smile"})
    # the other expression comes first now, and a third is new
    again = Clustering(
        person="ada",
        known=stored,
        aligner=Expressions(begins=1, third_from=20),
        clusters__every_s=0.5,
        clusters__min_new_faces=20,
    )
    with running(again.live):
        again.frames(90)
    assert again.clusters(1, 19) == [ids[(frame + 1) % 2] for frame in range(1, 20)]
    assert again.clusters(81, 9) == [*ids, 2] * 3
    assert {header["name"] for header in again.heard.headers("cluster.00") if header["cluster"] == 1} == {"smile"}
    assert load("ada").next_id == 3


def test_names_are_kept_without_a_frame_after_them_and_without_any() -> None:
    first = Clustering(person="ada")
    with running(first.live) as control:
        first.frames(FIRST + 2)
        assert control.send("L 1 smile").startswith("OK")
    assert load("ada").names == {1: "smile"}
    no_frame = Clustering(person="ada", known=load("ada"))
    with running(no_frame.live):
        no_frame.heard.wait_for("notify.ready")
    assert load("ada").names == {1: "smile"}
    no_source = Clustering(person="ada", known=load("ada"))
    no_source.live.stop("before it was ready")
    assert no_source.live.run().reason == "before it was ready"
    assert load("ada").names == {1: "smile"}


def test_crops_of_another_size_are_kept_with_those_of_before() -> None:
    first = Clustering(person="ada")
    with running(first.live):
        first.frames(FIRST + 2)
    stored = load("ada")
    larger = replace(stored, rows=tuple(replace(row, crop=np.kron(row.crop, DOUBLE)) for row in stored.rows))
    again = Clustering(person="ada", known=larger)
    with running(again.live):
        again.frames(FIRST + 2)
    assert again.clusters(FIRST, 2) == first.clusters(FIRST, 2)
    assert {row.crop.shape for row in load("ada").rows} == {(128, 128, 3)}


def test_that_the_last_clusters_are_not_kept_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Clustering(person="ada")
    with running(run.live):
        run.frames(FIRST + 2)

        def refuse(*_: object) -> None:
            raise ClusteringError("no room for ada")

        run.live._kept.close()  # what was asked for until now
        monkeypatch.setattr("psm_stream.clusters.kept.save", refuse)
    assert [message.payload for message in run.heard.messages if message.topic == "log.error"] == [b"no room for ada"]


def test_frozen_means_no_new_clusters() -> None:
    run = Clustering()
    with running(run.live) as control:
        assert control.send("FREEZE") == "OK"
        run.frames(FIRST + 5)
        assert control.send("RECLUSTER").startswith("ERROR frozen")
        assert run.heard.headers("cluster.00") == []
        assert control.send("THAW") == "OK"
        run.frames(5)
        assert len(run.heard.headers("cluster.00")) == 4


def test_whoever_waits_for_clusters_is_let_go_at_the_end() -> None:
    run = Clustering()
    wanted = Wanted(run.live.parts.reverts_to)
    run.live.stop("the end")
    run.live._inbox.put(wanted)
    run.live.run()
    assert wanted.done.result(0) is None


def test_a_process_that_dies_is_told_and_the_stream_goes_on() -> None:
    run = Clustering(clusters__first_faces=20)
    run.live.clusters._process._command = (sys.executable, "-c", "import sys; sys.exit('no room for clusters')")
    with running(run.live):
        run.frames(40)
        (line,) = run.heard.headers("log.warning")
    (message,) = [one for one in run.heard.messages if one.topic == "log.warning"]
    assert b"no new clusters: the process that fits clusters ended with exit code 1: no room" in message.payload
    assert line["seq"] == 0
    assert run.heard.headers("cluster.00") == []
    assert run.live.final["exit"] == 0


def test_recluster_is_an_input_of_the_pipeline() -> None:
    run = Clustering()
    with running(run.live):
        run.frames(FIRST + 1)
    (order,) = [item for item in run.live.pipeline.standing() if isinstance(item, Recluster)]
    assert order.clustering.model_id == GENERAL.manifest.model_id


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"method": "optics"}, "a clustering by 'optics'; this version knows hdbscan, dbscan, vocabulary"),
        ({"fitted": {}}, "the session has a clustering that is damaged: KeyError"),
        ({"ids": np.zeros(0, np.int32)}, "the session has a clustering that is damaged: IndexError"),
    ],
)
def test_a_session_with_a_clustering_that_cannot_assign_is_refused(change: dict, why: str, tmp_path: Path) -> None:
    run = Clustering(record__root=str(tmp_path), clusters__method="dbscan", clusters__eps=5.0)
    order = run.live.clusters._order
    run.live.clusters._order = lambda item: order(replace(item, clustering=replace(item.clustering, **change)))
    sorter = run.live.pipeline.sorter
    run.live.pipeline.sorter.order = lambda _: None  # what is recorded is not taken here
    with running(run.live):
        run.frames(FIRST + 2)
    assert not sorter.is_on
    (folder,) = tmp_path.glob("*/001")
    session = Session(folder)
    with pytest.raises(SessionError, match=why):
        verify(Replay(session, model_opener(session.info)))


def test_a_clustering_that_cannot_assign_is_refused_when_its_encoder_comes(model: Path, tmp_path: Path) -> None:
    plan = Plan("manual", "a test", tuple(fake_worker("--bundle", str(model))))
    run = Clustering(plan=plan, record__root=str(tmp_path), faces__capacity=8)
    order, take = run.live.clusters._order, run.live.pipeline.sorter.order
    run.live.clusters._order = lambda item: order(
        replace(item, clustering=replace(item.clustering, fitted={})) if item.reason == "swap" else item
    )
    run.live.pipeline.sorter.order = lambda item: take(item) if item.clustering.fitted else None
    with running(run.live) as control:
        run.frames(FIRST + 2)
        assert control.send("C").startswith("OK")
        run.flow_until("notify.model.swapped")
    (folder,) = tmp_path.glob("*/001")
    session = Session(folder)
    with pytest.raises(SessionError, match="the session has a clustering that is damaged: KeyError"):
        verify(Replay(session, model_opener(session.info)))


def test_a_session_that_is_played_again_says_the_same_of_clusters(tmp_path: Path) -> None:
    run = Clustering(record__root=str(tmp_path))
    with running(run.live) as control:
        run.frames(FIRST + 3)
        assert control.send("L 0 rest").startswith("OK")
        run.frames(3)
    (folder,) = tmp_path.glob("*/001")
    session = Session(folder)
    sockets = open_sockets(load_settings(None, {"wire.control_port": "auto"}).wire)
    try:
        player = Player(Replay(session, model_opener(session.info)), sockets, "msgpack", "fast")
        player._publisher = heard = Heard()
        player.run()
    finally:
        sockets.close()
    for topic in ("cluster.00", "notify.cluster.born", "notify.cluster.fitted"):
        again, before = heard.headers(topic), run.heard.headers(topic)
        assert len(before) > 0
        assert [of_any_run(one) for one in again] == [of_any_run(one) for one in before]
    (table,) = [json.loads(one.payload) for one in heard.messages if one.topic == "stats.clusters"][-1:]
    assert {one["cluster"] for one in table["clusters"]} == {0, 1}


def of_any_run(header: dict) -> str:
    """What is equal in each run; as text, since NaN is not NaN."""
    return str({key: value for key, value in header.items() if key not in ("session", "t_publish")})


def test_a_session_in_which_nothing_was_dense_enough_is_replayed(tmp_path: Path) -> None:
    run = Clustering(record__root=str(tmp_path), clusters__min_samples=FIRST)
    with running(run.live):
        run.frames(FIRST + 3)
    (fitted,) = run.heard.headers("notify.cluster.fitted")
    assert (fitted["clusters"], fitted["cluster_version"]) == ([], 1)
    assert run.clusters(FIRST, 3) == [-1, -1, -1]
    run.verify(tmp_path)
