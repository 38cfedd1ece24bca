"""When clusters are fitted, and how they reach the pipeline. The process is a fake; tests/stream has the real one."""

import threading

import numpy as np
import pytest

from psm_stream.clusters.clusters import AGAIN_S, Clusters, FitFailed
from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.refit import Fitted
from psm_stream.clusters.reservoir import Row
from psm_stream.config import ClustersSettings
from psm_stream.errors import ClusteringError
from psm_stream.pipeline import Pipeline
from psm_stream.values import AlignedFace, Embedding, Faces, Recluster, Stamp, SwapEncoder

SETTINGS = ClustersSettings(
    method="dbscan", dimensions=0, eps=1.0, min_samples=3, first_faces=20, every_s=10, min_new_faces=5, rate_hz=30
)


class FakeEncoder:
    """A crop's mean grey, times a scale that tells the encoders apart."""

    dimension = 2
    trained = True

    def __init__(self, model_id: str, scale: float) -> None:
        self.model_id = model_id
        self._scale = scale

    def encode(self, crop: np.ndarray) -> np.ndarray:
        return np.full(2, crop.mean() * self._scale, np.float32)


class FakeProcess:
    """Fits in this process. `fails`: the next fit does. `gate`: fits wait for it."""

    def __init__(self) -> None:
        self.fits = 0
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()
        self.is_closed = False

    def fit(self, method, vectors, settings):
        assert self.gate.wait(10)
        self.fits += 1
        if self.fails:
            self.fails = False
            raise ClusteringError("the process died")
        return METHODS[method].fit(vectors, settings)

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


class Run:
    """A pipeline with clusters, driven frame by frame. Fits run at once (waits), or in their thread."""

    def __init__(self, waits: bool = True, **settings) -> None:
        self.frozen = False
        self.warnings: list[str] = []
        self.posted: list[object] = []
        self.orders: list[Recluster] = []
        self.process = FakeProcess()
        self.pipeline = Pipeline(FakeEncoder("aaa", 1.0))
        self.index = 0
        self._came = threading.Condition()
        self.clusters = Clusters(
            SETTINGS.model_copy(update=settings),
            self.process,
            pipeline=self.pipeline,
            post=self._post,
            order=self._order,
            warn=self.warnings.append,
            is_frozen=lambda: self.frozen,
            waits=waits,
        )

    def _post(self, what) -> None:
        with self._came:
            self.posted.append(what)
            self._came.notify_all()

    def take(self) -> object:
        """Take what came from aside, as the main thread does."""
        with self._came:
            assert self._came.wait_for(lambda: self.posted, 10)
            what = self.posted.pop(0)
        self.clusters.take(what)
        return what

    def _order(self, order: Recluster) -> None:
        self.orders.append(order)
        self.pipeline.step(order)

    def frames(self, count: int, greys=(0, 100), fps: float = 10.0) -> list[Embedding]:
        """See faces that alternate between some greys."""
        seen = []
        for _ in range(count):
            grey = greys[self.index % len(greys)]
            stamp = Stamp(self.index, 100.0, self.index / fps)
            crop = np.full((8, 8, 3), grey, np.uint8)
            face = AlignedFace(stamp, 0, crop, np.zeros((478, 2), np.float32), np.eye(2, 3, dtype=np.float32), 1.0)
            self.index += 1
            self.clusters.before_frame()
            for result in self.pipeline.step(Faces(stamp, (face,))):
                if isinstance(result, Embedding):
                    self.clusters.see(result)
                    seen.append(result)
        return seen


def ids(seen: list[Embedding]) -> list[int]:
    return [one.assignment.cluster for one in seen]


def test_first_clusters_come_with_the_faces_that_they_need_and_hold():
    run = Run()
    assert set(ids(run.frames(20))) == {-1}
    assert [order.reason for order in run.orders] == ["first"]
    assert ids(run.frames(4)) == [0, 1, 0, 1]
    assert ids(run.frames(200)) == [0, 1] * 100
    assert {order.reason for order in run.orders[1:]} == {"rule"}
    assert [order.clustering.version for order in run.orders] == [1, 2, 3]  # after 10 s of frames each


def test_a_source_whose_time_begins_anew_is_fitted_on_as_before():
    run = Run()
    run.frames(3000)
    before = len(run.orders)
    run.index = 0  # a file that is looped, a stream that was lost
    run.frames(300)
    assert 2 <= len(run.orders) - before <= 4


def test_a_refit_needs_time_and_new_faces():
    run = Run(min_new_faces=1000)
    run.frames(400)
    assert len(run.orders) == 1
    assert run.clusters.recluster().startswith("OK")
    run.frames(1)
    assert [order.reason for order in run.orders] == ["first", "order"]


def test_an_order_needs_the_faces_that_the_first_clusters_need():
    run = Run(first_faces=30, capacity=50, min_cluster_size=3)
    run.frames(29)
    assert run.clusters.recluster() == "ERROR 29 faces so far; 30 are needed"
    run.frames(1)
    assert run.clusters.recluster() == "OK 30 faces"
    run.frames(1)
    assert [order.reason for order in run.orders] == ["first", "order"]


def test_where_nothing_was_found_the_next_try_comes_soon():
    run = Run(min_samples=1000)
    run.frames(20 + int(AGAIN_S * 10) + 2)
    assert [order.clustering.ids.size for order in run.orders] == [0, 0]
    assert run.clusters.status()["clusters"] == []


def test_a_failed_fit_is_told_and_tried_again_and_the_clusters_before_go_on():
    run = Run()
    run.frames(20)
    run.process.fails = True
    run.frames(130)
    assert run.warnings == ["no new clusters: the process died"]
    assert ids(run.frames(2)) == [0, 1]
    run.frames(int(AGAIN_S * 10))
    assert [order.clustering.version for order in run.orders] == [1, 2]


def test_a_live_source_is_not_held_up_and_fits_come_one_at_a_time():
    run = Run(waits=False)
    run.process.gate.clear()
    run.frames(60)
    assert run.orders == []
    assert run.clusters.status()["fitting"]
    assert run.clusters.recluster().startswith("ERROR clusters are being fitted already")
    run.process.gate.set()
    assert isinstance(run.take(), Fitted)
    assert ids(run.frames(2)) == [0, 1]
    assert run.process.fits == 1


def test_frozen_means_no_new_clusters_and_they_are_there_after_thaw():
    run = Run(waits=False)
    run.process.gate.clear()
    run.frames(20)
    run.frozen = True
    run.process.gate.set()
    run.take()
    assert set(ids(run.frames(4))) == {-1}
    assert run.clusters.recluster().startswith("ERROR frozen")
    run.frames(300)
    assert run.process.fits == 1
    run.frozen = False
    assert ids(run.frames(2)) == [0, 1]


def test_a_swap_that_was_prepared_changes_no_id():
    run = Run(waits=False)
    run.frames(20)
    run.take()
    before = ids(run.frames(20))
    other = FakeEncoder("bbb", -0.5)
    loader = threading.Thread(target=run.clusters.prepare, args=(other,))
    loader.start()
    run.take()  # what is wanted
    run.frames(3)
    run.take()  # what was fitted
    loader.join(10)
    assert not loader.is_alive()
    assert run.orders[-1].clustering.model_id == "bbb"
    run.frames(1)
    assert run.pipeline.sorter.clustering.model_id == "aaa"  # the swap has not come
    run.pipeline.step(SwapEncoder(other, "adapt"))
    after = run.frames(20)
    run.clusters.swapped()
    assert [one.model_id for one in after] == ["bbb"] * 20
    assert ids(after) == before
    assert run.clusters.status()["version"] == 2


def test_a_swap_that_was_not_prepared_has_clusters_again_soon_with_the_same_ids():
    run = Run()
    run.frames(20)
    before = ids(run.frames(10))
    run.pipeline.step(SwapEncoder(FakeEncoder("bbb", 3.0), "revert"))
    lost = run.frames(1)
    assert ids(lost) == [-1]
    run.clusters.swapped()
    run.frames(1)
    assert run.orders[-1].reason == "swap"
    assert ids(run.frames(10)) == before


@pytest.mark.parametrize("fails", [False, True])
def test_a_swap_that_did_not_wait_long_enough_is_fitted_once(fails, monkeypatch):
    monkeypatch.setattr("psm_stream.clusters.clusters.PREPARE_S", 0.01)
    run = Run(waits=False)
    run.frames(20)
    run.take()
    run.process.gate.clear()
    other = FakeEncoder("bbb", 1.0)
    loader = threading.Thread(target=run.clusters.prepare, args=(other,))
    loader.start()
    run.take()
    loader.join(10)
    run.pipeline.step(SwapEncoder(other, "adapt"))
    run.frames(1)
    run.clusters.swapped()
    run.process.fails = fails
    run.process.gate.set()
    run.take()
    if fails:
        run.frames(2)
        run.take()
    assert ids(run.frames(4)) == [1, 0, 1, 0]
    assert not run.clusters.status()["fitting"]
    assert [order.reason for order in run.orders] == ["first", "swap"]


def test_a_swap_that_waits_for_a_fit_that_fails_gets_its_own():
    run = Run(waits=False)
    run.frames(20)
    run.take()
    run.process.gate.clear()
    run.process.fails = True
    assert run.clusters.recluster().startswith("OK")
    run.frames(1)
    loader = threading.Thread(target=run.clusters.prepare, args=(FakeEncoder("bbb", 1.0),))
    loader.start()
    run.take()
    run.process.gate.set()
    assert isinstance(run.take(), FitFailed)
    run.take()
    loader.join(10)
    assert not loader.is_alive()
    assert [order.clustering.model_id for order in run.orders] == ["aaa", "bbb"]


def test_nobody_waits_for_clusters_that_will_not_come():
    run = Run(waits=False)
    loader = threading.Thread(target=run.clusters.prepare, args=(FakeEncoder("bbb", 1.0),))
    loader.start()
    run.take()  # there are no clusters yet
    loader.join(10)
    assert not loader.is_alive()
    run.frames(20)
    run.take()
    run.process.fails = True
    loader = threading.Thread(target=run.clusters.prepare, args=(FakeEncoder("bbb", 1.0),))
    loader.start()
    run.take()
    assert isinstance(run.take(), FitFailed)
    loader.join(10)
    assert not loader.is_alive()
    run.process.gate.clear()
    loader = threading.Thread(target=run.clusters.prepare, args=(FakeEncoder("ccc", 1.0),))
    loader.start()
    run.take()
    run.clusters.close()
    loader.join(10)
    assert not loader.is_alive()
    assert run.process.is_closed
    run.process.gate.set()
    run.clusters.prepare(FakeEncoder("ddd", 1.0))  # nobody would take what it wants


def test_clusters_of_an_earlier_session_are_there_at_the_first_face_with_their_ids():
    def row(key: int, grey: int, known: int) -> Row:
        crop = np.full((8, 8, 3), grey, np.uint8)
        return Row(key, -1, -1, np.nan, crop, np.full(2, grey, np.float32), "aaa", known)

    run = Run(min_cluster_size=3)
    greys = [(0, 7)] * 6 + [(100, 4)] * 6 + [(200, 2)] * 6
    run.clusters.seed([row(-1 - at, grey, known) for at, (grey, known) in enumerate(greys)], next_id=9)
    run.frames(1)
    assert run.orders[0].reason == "person"
    assert ids(run.frames(6, greys=(0, 100, 200))) == [4, 2, 7, 4, 2, 7]
    run.frames(300, greys=(0, 50, 100, 150, 200))
    assert sorted({*ids(run.frames(10, greys=(0, 50, 100, 150, 200)))}) == [2, 4, 7, 9, 10]


@pytest.mark.parametrize("method", ["off", "vocabulary"])
def test_what_is_not_fitted_here_is_left_alone(method):
    run = Run(method=method)
    run.frames(300)
    assert run.orders == []
    assert run.clusters.recluster().startswith("ERROR clusters are not fitted here")


def test_two_runs_over_one_file_are_equal():
    one, other = Run(), Run()
    assert ids(one.frames(250)) == ids(other.frames(250))
    for order, again in zip(one.orders, other.orders, strict=True):
        assert order.clustering.ids.tolist() == again.clustering.ids.tolist()
        for name, array in order.clustering.fitted.items():
            assert array.tobytes() == again.clustering.fitted[name].tobytes()


def test_frames_of_two_encoders_are_never_in_one_fit():
    run = Run()
    run.frames(20)
    run.pipeline.step(SwapEncoder(FakeEncoder("bbb", 3.0), "revert"))
    run.frames(1)
    run.clusters.swapped()
    run.frames(1)
    rows = run.clusters.rows
    assert {row.model_id for row in rows} == {"bbb"}
    assert all(np.array_equal(row.vector, np.full(2, row.crop.mean() * 3.0, np.float32)) for row in rows)
