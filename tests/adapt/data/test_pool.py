"""Work in several processes: results, progress, and processes that die."""

import os

import pytest
from tests.adapt.data.work import dying, named, squared
from tests.processes import own_children

from psm_adapt.data.pool import Died, work_through


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_gives_its_result_and_its_progress(workers):
    told = []
    results = dict(work_through(squared, [3, 4, 5], workers, lambda index, value: told.append((index, value))))
    assert results == {0: 9, 1: 16, 2: 25}
    assert sorted(told) == [(0, "at 3"), (1, "at 4"), (2, "at 5")]


def test_one_worker_is_this_process():
    assert dict(work_through(named, [0, 0], 1, lambda *_: None)) == {0: os.getpid(), 1: os.getpid()}


def test_a_process_that_dies_costs_the_others_nothing():
    results = dict(work_through(dying, [1, 2, 3, 4, 5], 2, lambda *_: None))
    assert results == {
        0: 1,
        1: Died("its process was ended by SIGKILL; is there enough memory?"),
        2: Died("its process ended with code 7"),
        3: 4,
        4: 5,
    }


def test_no_process_is_left_when_the_caller_stops():
    results = work_through(squared, list(range(50)), 2, lambda *_: None)
    next(results)
    workers = own_children()
    assert len(workers) == 2
    results.close()
    assert not any(worker.is_running() for worker in workers)
