"""The process that fits: a real one, and what happens when it fails, hangs, or loses its parent."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from tests.processes import own_children

from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.process import PATIENCE_S, ClusterProcess
from psm_stream.config import ClustersSettings
from psm_stream.errors import ClusteringError

SETTINGS = ClustersSettings(dimensions=4, min_cluster_size=10, min_samples=5, eps=0.8)
HANGS = (sys.executable, "-c", "import sys, time; sys.stdin.buffer.read(1); time.sleep(600)")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals, groups and niceness are POSIX")


@pytest.fixture
def vectors(rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([0.2 * rng.normal(size=(50, 8)) + 3 * i for i in range(3)]).astype(np.float32)


def only_child() -> psutil.Process:
    (child,) = own_children()
    return child


def test_fits_are_those_of_the_methods_to_the_bit(vectors: np.ndarray) -> None:
    """One process does all of them; jobs that fail are answered, and do it no harm."""
    process = ClusterProcess()
    process.warm_up()
    worker = only_child()
    for name in ("hdbscan", "dbscan"):
        made, here = process.fit(name, vectors, SETTINGS), METHODS[name].fit(vectors, SETTINGS)
        assert made.labels.max() == 2
        assert made.labels.tobytes() == here.labels.tobytes()
        assert made.strengths.tobytes() == here.strengths.tobytes()
        assert made.fitted.keys() == here.fitted.keys()
        for key, array in here.fitted.items():
            np.testing.assert_array_equal(made.fitted[key], array, strict=True)
            assert made.fitted[key].dtype == array.dtype
        with pytest.raises(ClusteringError, match=r"^150 of 150 vectors are not finite"):
            process.fit(name, vectors * np.float32(np.nan), SETTINGS)
    with pytest.raises(ClusteringError, match="KeyError"):
        process.fit("kmeans", vectors, SETTINGS)
    assert only_child() == worker
    began = time.monotonic()
    process.close()
    process.close()
    assert own_children() == []  # nor a zombie
    assert time.monotonic() - began < 5 * PATIENCE_S
    with pytest.raises(ClusteringError, match="the stream ends"):
        process.fit("hdbscan", vectors, SETTINGS)
    process.warm_up()
    assert own_children() == []


@posix_only
def test_it_steps_back_with_one_thread_in_a_group_of_its_own(vectors: np.ndarray) -> None:
    process = ClusterProcess()
    process.fit("dbscan", vectors, SETTINGS)
    worker = only_child()
    assert worker.nice() == max(10, os.nice(0))
    assert os.getpgid(worker.pid) == worker.pid
    assert {worker.environ()[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == {"1"}
    process.close()


@posix_only
def test_ctrl_c_does_not_reach_it_even_before_it_has_a_group_of_its_own(vectors: np.ndarray) -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "import psm_stream.clusters.worker as worker\n"
        "worker.main()\n"
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    process = ClusterProcess(command=(sys.executable, "-c", code))
    assert process.fit("dbscan", vectors, SETTINGS).labels.max() == 2
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    process.close()


@posix_only
def test_after_a_crash_the_next_fit_is_as_good_as_the_first(vectors: np.ndarray) -> None:
    process = ClusterProcess()
    process.warm_up()
    first = only_child()
    first.suspend()
    threading.Timer(0.3, first.kill).start()
    with pytest.raises(ClusteringError, match=r"killed by signal 9; perhaps out of memory"):
        process.fit("dbscan", vectors, SETTINGS)
    process.warm_up()
    between = only_child()
    between.kill()
    between.wait()
    assert process.fit("dbscan", vectors, SETTINGS).labels.max() == 2  # it was replaced, and nobody need know
    assert only_child() not in (first, between)
    process.close()
    assert own_children() == []


def test_its_last_words_are_told(vectors: np.ndarray) -> None:
    process = ClusterProcess(command=(sys.executable, "-c", "import sys; sys.exit('no\\nroom\\n left')"))
    with pytest.raises(ClusteringError, match=r"^the process that fits clusters ended with exit code 1: left$"):
        process.fit("hdbscan", vectors, SETTINGS)
    process.close()


def test_what_cannot_be_started_is_told(vectors: np.ndarray) -> None:
    process = ClusterProcess(command=("/no/such/program",))
    process.warm_up()
    with pytest.raises(ClusteringError, match="cannot be started"):
        process.fit("hdbscan", vectors, SETTINGS)
    process.close()


def test_an_answer_that_is_none_is_told(vectors: np.ndarray) -> None:
    code = "print('hello world', flush=True); import time; time.sleep(600)"
    process = ClusterProcess(command=(sys.executable, "-c", code))
    with pytest.raises(ClusteringError, match="what is no answer"):
        process.fit("hdbscan", vectors, SETTINGS)
    assert own_children() == []
    process.close()


def test_one_that_hangs_is_given_up(vectors: np.ndarray) -> None:
    process = ClusterProcess(timeout_s=0.2, command=HANGS)
    with pytest.raises(ClusteringError, match=r"no clusters after 0\.2 s"):
        process.fit("hdbscan", vectors, SETTINGS)
    assert own_children() == []
    process.close()


def test_closing_ends_a_fit_that_waits(vectors: np.ndarray) -> None:
    process = ClusterProcess(command=HANGS)
    said: list[str] = []

    def fit() -> None:
        try:
            process.fit("hdbscan", vectors, SETTINGS)
        except ClusteringError as error:
            said.append(str(error))

    thread = threading.Thread(target=fit)
    process.warm_up()
    thread.start()
    process.close()
    thread.join(20)
    assert said == ["no clusters are fitted any more: the stream ends"]
    assert own_children() == []


@posix_only
def test_it_does_not_outlive_its_parent_also_in_the_middle_of_a_fit() -> None:
    fits_for_ever = (
        "import time, psm_stream.clusters.worker as worker\n"
        "worker.answer = lambda *job: time.sleep(600)\n"
        "worker.main()\n"
    )
    code = (
        "import sys, threading, numpy as np\n"
        "from psm_stream.clusters.process import ClusterProcess\n"
        "from psm_stream.config import ClustersSettings\n"
        f"process = ClusterProcess(command=(sys.executable, '-c', {fits_for_ever!r}))\n"
        "process.warm_up()\n"
        "print(process._running._process.pid, flush=True)\n"
        "process.fit('dbscan', np.zeros((9, 3), 'f4'), ClustersSettings())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        while worker.num_threads() < 2:  # the one that listens
            assert parent.poll() is None
        parent.send_signal(signal.SIGKILL)
    gone, _ = psutil.wait_procs([worker], timeout=60)
    assert gone == [worker]


def test_what_libraries_print_is_no_answer(vectors: np.ndarray) -> None:
    code = (
        "import os, psm_stream.clusters.worker as worker\n"
        "fit = worker.answer\n"
        "def loud(*job):\n"
        "    print('progress', flush=True); os.write(1, b'from C')\n"
        "    return fit(*job)\n"
        "worker.answer = loud\n"
        "worker.main()\n"
    )
    process = ClusterProcess(command=(sys.executable, "-c", code))
    assert process.fit("dbscan", vectors, SETTINGS).labels.max() == 2
    process.close()
