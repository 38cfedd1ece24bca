"""Keeping a person's clusters while a run goes on, aside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from psm_stream.align.template import EYES_LEVEL, Template
from psm_stream.clusters.clustering import Clustering
from psm_stream.clusters.reservoir import Row
from psm_stream.errors import PsmError
from psm_stream.people_clusters import StoredClusters, prototypes, save

FAREWELL_S = 2.0
"""How long the end of a run waits for the disk."""


class KeptClusters:
    """Saves a person's clusters in a thread; of several asked for meanwhile, the newest. For the main thread.

    person: whose; "" keeps nothing. failed: told in one line, from that thread. template: of the run's crops.
    """

    def __init__(self, person: str, failed: Callable[[str], None], template: Template = EYES_LEVEL) -> None:
        self._person = person
        self._failed = failed
        self._template = template
        self._thread: threading.Thread | None = None
        self._next: Callable[[], StoredClusters] | None = None
        self._lock = threading.Lock()

    def keep(self, rows: Sequence[Row], next_id: int, names: Mapping[int, str], clustering: Clustering | None) -> None:
        """Save what is known now, soon."""
        if not self._person or not any(row.known >= 0 for row in rows):
            return
        named = dict(names)
        with self._lock:
            self._next = lambda: replace(prototypes(rows, next_id, named, clustering), template=self._template)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="keep-clusters", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Wait for what is being saved, and tell if that takes too long."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(FAREWELL_S)
            if thread.is_alive():
                self._failed(f"the disk is slow: the last clusters of {self._person} may not be kept")

    def _work(self) -> None:
        while True:
            with self._lock:
                make, self._next = self._next, None
                if make is None:
                    self._thread = None
                    return
            try:
                save(self._person, make())
            except Exception as error:  # told; the stream goes on, and the next is tried again
                told = isinstance(error, PsmError)  # a whole sentence
                self._failed(str(error) if told else f"clusters of {self._person} are not kept: {error!r}")
