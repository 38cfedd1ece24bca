"""Keeping a person's clusters beside a run: the newest wins, nothing is lost in silence."""

import threading

import numpy as np
import pytest

from psm_stream.clusters import kept
from psm_stream.clusters.kept import KeptClusters
from psm_stream.clusters.reservoir import Row
from psm_stream.people_clusters import StoredClusters

ROWS = (Row(0, 0, 0, 0.0, np.zeros((8, 8, 3), np.uint8), np.zeros(2, np.float32), "a" * 12, 0),)


class Disk:
    """Takes what is saved once its gate is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.saving = threading.Event()
        self.saved: list[int] = []
        monkeypatch.setattr(kept, "save", self._save)

    def _save(self, person: str, stored: StoredClusters) -> None:
        assert person == "ada"
        self.saving.set()
        assert self.gate.wait(10)
        self.saved.append(stored.next_id)


def test_of_several_meanwhile_the_newest_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, told = Disk(monkeypatch), list[str]()
    clusters = KeptClusters("ada", told.append)
    clusters.keep(ROWS, 1, {}, None)
    assert disk.saving.wait(10)
    clusters.keep(ROWS, 2, {}, None)
    clusters.keep(ROWS, 3, {}, None)
    disk.gate.set()
    clusters.close()
    assert (disk.saved, told) == ([1, 3], [])


def test_a_disk_that_takes_too_long_at_the_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "FAREWELL_S", 0.01)
    disk, told = Disk(monkeypatch), list[str]()
    clusters = KeptClusters("ada", told.append)
    clusters.keep(ROWS, 1, {}, None)
    clusters.close()
    assert told == ["the disk is slow: the last clusters of ada may not be kept"]
    disk.gate.set()
    monkeypatch.setattr(kept, "FAREWELL_S", 10.0)
    clusters.close()
    assert (disk.saved, len(told)) == ([1], 1)


def test_nobody_and_nothing_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    disk.gate.set()
    for clusters, rows in ((KeptClusters("", pytest.fail), ROWS), (KeptClusters("ada", pytest.fail), ())):
        clusters.keep(rows, 1, {}, None)
        clusters.close()
    assert disk.saved == []
