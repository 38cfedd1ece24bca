"""The clusters of a run: which faces they are made of, when they are made again, and how that reaches the pipeline.

    faces -> reservoir --rule, order or swap--> thread: refit.fit --inbox--> Recluster, an input of the pipeline

Nothing here waits, but for a source that waits itself (pace `fast`): there the loop stands still while clusters are
fitted, so that two runs over one file are equal. Rules go by the frames' own times, for the same reason.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from psm_stream.clusters.clustering import Clustering
from psm_stream.clusters.identity import FIRM
from psm_stream.clusters.process import ClusterProcess
from psm_stream.clusters.refit import Fitted, Task, fit
from psm_stream.clusters.reservoir import Reservoir, Row, time_of
from psm_stream.config import FITTED, ClustersSettings
from psm_stream.encoder import Encoder
from psm_stream.pipeline import Pipeline
from psm_stream.values import Embedding, Recluster

PREPARE_S = 60.0
"""A swap waits at most so long for clusters of its encoder; without, its frames have none for some seconds."""
SWAP_S = 30.0
"""So long after clusters were prepared for a swap nothing else is fitted, unless it comes before."""
AGAIN_S = 10.0
"""Where no clusters were found, or a fit failed, the next try comes after so long."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Clusters for an encoder that is about to run. done: when they are ordered, or will not be."""

    encoder: Encoder
    done: Future[None] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class FitFailed:
    """A fit failed; the clusters before go on."""

    why: str


class Clusters:
    """Collects faces, has clusters fitted, and orders them. For the main thread, but for `prepare`.

    Args:
        settings: Of clusters; one that is not fitted online (off, vocabulary) makes all of this idle.
        process: Where they are fitted.
        pipeline: Whose sorter they are for.
        post: Takes what comes from aside, from any thread.
        order: Feeds an order to the pipeline, for the next frame.
        warn: Tells people a line.
        is_frozen: Whether nothing may change now.
        waits: The source waits while clusters are fitted.
    """

    def __init__(
        self,
        settings: ClustersSettings,
        process: ClusterProcess,
        *,
        pipeline: Pipeline,
        post: Callable[[Fitted | FitFailed | Wanted], None],
        order: Callable[[Recluster], object],
        warn: Callable[[str], None],
        is_frozen: Callable[[], bool],
        waits: bool,
    ) -> None:
        self.is_on = settings.method in FITTED
        self.next_id = 0
        """The first id that was never given."""
        self._reservoir = Reservoir(settings)
        self._settings = settings
        self._pipeline = pipeline
        self._post = post
        self._order = order
        self._warn = warn
        self._is_frozen = is_frozen
        self._waits = waits
        self._process = process
        self._version = 0
        self._firm: Mapping[int, int] = {}
        self._now = math.nan
        self._due_at = -math.inf
        self._faces_at_fit = 0
        self._thread: threading.Thread | None = None
        self._wanted: Wanted | None = None
        self._fitted_for: Encoder | None = None
        """Whose clusters the newest fit makes, or made."""
        self._asked: str = ""
        """Why the next fit comes as soon as it can, or ""."""
        self._held: list[Recluster] = []
        self._is_closed = False
        self._fit_points = self._fit_noise = 0

    def seed(self, rows: Iterable[Row], next_id: int, clustering: Clustering | None = None) -> Recluster | None:
        """Begin with what an earlier session kept. Its ids count as long settled: one that another takes in is told.

        clustering: that session's last. Returns it as an order, if it is by the encoder that runs; if not, clusters are
        fitted on the rows at the first face.
        """
        self._reservoir.seed(rows)
        self.next_id = next_id
        self._firm = {row.known: FIRM for row in self.rows if row.known >= 0}
        self._warm_up()
        if clustering is not None and clustering.model_id == self._pipeline.encoder.model_id:
            self._version = clustering.version
            return Recluster(clustering, "person")
        if len(self.rows) >= 2 * self._settings.min_cluster_size:
            self._asked = "person"
        return None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The faces that clusters are made of."""
        return self._reservoir.rows()

    def see(self, embedding: Embedding) -> None:
        """Take note of a face, and start a fit if a rule says so."""
        if not self.is_on:
            return
        before, self._now = self._now, time_of(embedding.face.frame)
        if self._now < before:  # a file from its start again, or a source that was lost: its time begins anew
            self._due_at -= before - self._now
        is_first = self._version == 0
        is_new = self._reservoir.offer(embedding, all_of_them=is_first)
        if is_first and is_new and self._reservoir.written == max(1, self._settings.first_faces // 3):
            self._warm_up()
        why = self._due()
        if why:
            self._begin(self._pipeline.encoder, why)

    def before_frame(self) -> None:
        """Order what was held back by FREEZE."""
        if self._held and not self._is_frozen():
            for held in self._held:
                self._order(held)
            self._held.clear()

    def take(self, what: Fitted | FitFailed | Wanted) -> None:
        """Take what came from aside."""
        if isinstance(what, Wanted):
            self._want(what)
            return
        self._thread = None
        if isinstance(what, Fitted):
            self._accept(what)
        else:
            self._due_at = self._now + AGAIN_S
            self._warn(f"no new clusters: {what.why}")
        if self._wanted is not None:
            self._settle(what)

    def prepare(self, encoder: Encoder) -> None:
        """Wait until an encoder that is about to run has clusters, or will not get any. For the loader's thread."""
        if self._is_closed:
            return  # nobody takes what is posted
        wanted = Wanted(encoder)
        self._post(wanted)
        try:
            wanted.done.result(PREPARE_S)
        except futures.TimeoutError:  # before Python 3.11 not the built-in one
            return  # the swap goes on without

    def swapped(self) -> None:
        """Take note that another encoder runs: what is of the one before is fitted again, if it was not prepared."""
        self._due_at = -math.inf if self._version == 0 else self._now + self._settings.every_s
        current = self._pipeline.sorter.clustering
        is_coming = self._wanted is not None and self._wanted.encoder is self._pipeline.encoder  # it is late
        if self._version and not is_coming and (current is None or current.version != self._version):
            self._asked = "swap"
            # ids of an older clustering are there again, and may end or go on
            self._firm = dict.fromkeys(sorted(self._pipeline.sorter.ids), 1) | dict(self._firm)

    def recluster(self) -> str:
        """The order RECLUSTER. Returns the answer."""
        if not self.is_on:
            return f"ERROR clusters are not fitted here: clusters.method is {self._settings.method}"
        if self._is_frozen():
            return "ERROR frozen: no new clusters; send THAW first"
        if len(self.rows) < self._fewest:
            return f"ERROR {len(self.rows)} faces so far; {self._fewest} are needed"
        if self._thread is not None:
            return "ERROR clusters are being fitted already"
        self._asked = "order"
        return f"OK {len(self.rows)} faces"

    def status(self) -> Mapping[str, Any]:
        """Return where it stands, as plain values with always the same keys."""
        current = self._pipeline.sorter.clustering
        ids = [] if current is None else sorted({int(one) for one in current.ids})
        left = self._due_at - self._now
        return {
            "method": self._settings.method,
            "version": 0 if current is None else current.version,
            "clusters": ids,
            "points": self._fit_points,
            "noise": self._fit_noise,
            "faces": len(self.rows),
            "first_faces": self._settings.first_faces,
            "fitting": self._thread is not None,
            "next_s": round(left, 1) if self._version and math.isfinite(left) and left > 0 else None,
        }

    def close(self) -> None:
        """End: no process is left, and nobody waits."""
        self._is_closed = True
        if self._wanted is not None:
            self._wanted.done.set_result(None)
            self._wanted = None
        self._process.close()

    @property
    def _fewest(self) -> int:
        """Faces that RECLUSTER needs: of fewer than the first clusters are made of, or make two, would come noise."""
        two = 2 * self._settings.min_cluster_size
        return min(self._settings.first_faces, two) if self._version else self._settings.first_faces

    def _due(self) -> str:
        """Say why clusters are to be fitted now, or ""."""
        if self._thread is not None or self._wanted is not None or self._is_frozen():
            return ""
        if self._asked:
            return self._asked
        count = self._reservoir.written
        if self._version == 0:
            return "first" if count >= self._settings.first_faces and self._now >= self._due_at else ""
        is_new = count - self._faces_at_fit >= self._settings.min_new_faces
        return "rule" if self._now >= self._due_at and is_new else ""

    def _warm_up(self) -> None:
        """Let the process import what it needs beside the first faces."""
        if not self._waits:
            threading.Thread(target=self._process.warm_up, name="cluster-start", daemon=True).start()

    def _want(self, wanted: Wanted) -> None:
        """Fit for an encoder that is about to run, unless there is nothing to go on from."""
        if self._is_closed or not self._version or self._wanted is not None:
            wanted.done.set_result(None)
            return
        self._wanted = wanted
        if self._thread is None:
            self._begin(wanted.encoder, "swap")

    def _begin(self, encoder: Encoder, why: str) -> None:
        self._asked = ""
        self._fitted_for = encoder
        self._faces_at_fit = self._reservoir.written
        task = Task(self.rows, encoder, self._settings, self._firm, self.next_id, self._version + 1, why)
        if self._waits:
            self.take(self._try(task))
            return
        self._thread = threading.Thread(target=lambda: self._post(self._try(task)), name="cluster", daemon=True)
        self._thread.start()

    def _try(self, task: Task) -> Fitted | FitFailed:
        try:
            return fit(task, self._process, lambda: not self._is_closed)
        except Exception as error:  # a fit that fails must not end the stream, which has the clusters before
            return FitFailed(f"{' '.join(str(error).split()) or type(error).__name__}")

    def _accept(self, fitted: Fitted) -> None:
        clustering = fitted.order.clustering
        self._version = clustering.version
        self._firm, self.next_id = fitted.matching.firm, fitted.matching.next_id
        self._fit_points, self._fit_noise = clustering.points, fitted.noise
        self._due_at = self._now + (self._settings.every_s if self._firm else AGAIN_S)
        self._reservoir.update(
            fitted.keys,
            vectors=fitted.vectors,
            model_id=clustering.model_id,
            known=fitted.matching.known,
            before=fitted.matching.before,
        )
        if self._is_frozen():
            self._held.append(fitted.order)
        else:
            self._order(fitted.order)

    def _settle(self, what: Fitted | FitFailed) -> None:
        """After a fit while a swap waits: go on to its encoder's, or let it come."""
        wanted = self._wanted
        assert wanted is not None
        if self._fitted_for is not wanted.encoder:
            self._begin(wanted.encoder, "swap")
            return
        self._wanted = None
        self._due_at = max(self._due_at, self._now + SWAP_S)
        wanted.done.set_result(None)
        if isinstance(what, FitFailed) and self._pipeline.encoder is wanted.encoder:  # the swap has not waited
            self._asked = "swap"
