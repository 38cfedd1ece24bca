"""The process that fits clusters, seen from the stream: started when needed, watched, and gone with it.

Fitting takes long, imports scikit-learn and hdbscan (a second), and holds the interpreter's lock; the stream has none
of that in its own process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.fit import Fit
from psm_stream.clusters.pipe import receive, send
from psm_stream.config import ClustersSettings
from psm_stream.errors import ClusteringError

TIMEOUT_S = 300.0
"""A fit that takes longer is given up: 10,000 faces in 16 dimensions take 2 s, in 256 dimensions 20 s."""
PATIENCE_S = 0.5
"""A killed process is gone after some milliseconds; nobody waits longer than this for one that is not."""
COMMAND = (sys.executable, "-m", "psm_stream.clusters.worker")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_TAIL = 4096
_CLOSED = "no clusters are fitted any more: the stream ends"


class ClusterProcess:
    """Fits in a process of its own. Each method may be called from any thread; fits come one after the other.

    Args:
        timeout_s: A fit that takes longer is given up, and the process with it.
        command: The worker.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S, command: tuple[str, ...] = COMMAND) -> None:
        self._timeout_s = timeout_s
        self._command = command
        self._fitting = threading.Lock()
        self._starting = threading.Lock()
        self._running: _Running | None = None
        self._is_closed = False

    def warm_up(self) -> None:
        """Start the process, so that it imports what the first fit needs. What goes wrong is told by the fit."""
        with suppress(ClusteringError):
            self._start()

    def fit(self, method: str, vectors: NDArray[np.float32], settings: ClustersSettings) -> Fit:
        """Fit vectors [n, D] by a method of `METHODS`, and wait for it.

        Raises ClusteringError: they cannot be fitted, the process died or took too long, or this is closed. After any
        of these but the last, the next fit is as good as the first.
        """
        with self._fitting:
            running = self._start()
            if running.is_gone():  # killed while it had nothing to do
                self._drop(running)
                running = self._start()
            about, arrays = self._ask(running, {"method": method, "settings": settings.model_dump_json()}, vectors)
        if "error" in about:
            raise ClusteringError(str(about["error"]))
        labels, strengths = arrays.pop("labels"), arrays.pop("strengths")
        return Fit(labels, strengths, {name.removeprefix("fitted."): array for name, array in arrays.items()})

    def close(self) -> None:
        """End the process, and whatever it does. A fit that waits for it raises. Takes a second at most."""
        with self._starting:
            self._is_closed = True
            running, self._running = self._running, None
        if running is not None:
            running.end()
            if self._fitting.acquire(timeout=PATIENCE_S):  # whoever read from it has seen its end
                running.close()
                self._fitting.release()

    def _start(self) -> _Running:
        with self._starting:
            if self._is_closed:
                raise ClusteringError(_CLOSED)
            if self._running is None:
                try:
                    self._running = _Running(self._command)
                except OSError as error:
                    raise ClusteringError(f"the process that fits clusters cannot be started: {error}") from error
            return self._running

    def _drop(self, running: _Running) -> None:
        """Be done with a process; the next fit starts another. For the thread that fits, which alone reads from it."""
        with self._starting:
            self._running = None
            if self._is_closed:
                raise ClusteringError(_CLOSED)
        running.close()

    def _ask(
        self, running: _Running, about: dict[str, Any], vectors: NDArray[np.float32]
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        watch = threading.Timer(self._timeout_s, running.give_up)
        watch.daemon = True
        watch.start()
        try:
            send(running.jobs, about, {"vectors": vectors})
            return receive(running.answers)
        except (OSError, EOFError, ValueError) as error:
            why = running.why(error, self._timeout_s)
            self._drop(running)
            raise ClusteringError(why) from error
        finally:
            watch.cancel()


class _Running:
    """One process. jobs: its stdin. answers: its stdout. Both are unbuffered."""

    def __init__(self, command: tuple[str, ...]) -> None:
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        # PYTHONSAFEPATH (from Python 3.11): no module is taken from the folder that the experiment runs in
        surroundings = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1"), "PYTHONSAFEPATH": "1"}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        try:
            with _deaf_to_ctrl_c():
                self._process = subprocess.Popen(
                    command,
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    env=surroundings,
                    creationflags=flags,
                )
        except BaseException:
            self._log.close()
            raise
        assert isinstance(self._process.stdin, FileIO)  # for bufsize is 0
        assert isinstance(self._process.stdout, FileIO)
        self.jobs, self.answers = self._process.stdin, self._process.stdout
        self._was_late = False

    def is_gone(self) -> bool:
        """Whether it has ended, by itself or by others."""
        return self._process.poll() is not None

    def give_up(self) -> None:
        """Kill it because it takes too long."""
        self._was_late = True
        self._process.kill()

    def end(self) -> None:
        """Kill and reap it."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)

    def close(self) -> None:
        """Be done with it: nobody reads from it any more."""
        self.end()
        for file in (self.jobs, self.answers, self._log):
            with suppress(OSError):
                file.close()

    def why(self, error: Exception, timeout_s: float) -> str:
        """Say how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        code = self._process.returncode
        if self._was_late:
            return f"no clusters after {timeout_s:g} s: the process was killed; set clusters.capacity to less"
        if code is None or isinstance(error, ValueError):
            how = f"answered with what is no answer ({error})"
        elif code < 0:
            how = f"was killed by signal {-code}" + ("; perhaps out of memory" if code == -9 else "")
        else:
            how = f"ended with exit code {code}"
        return f"the process that fits clusters {how}{self._last_words()}"

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(size - _TAIL, 0))
        lines = [" ".join(line.split()) for line in self._log.read().decode(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "")
        return f": {last}" if last else ""


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started meanwhile never hears of Ctrl-C: it has the signal mask of the thread that starts it.

    It makes a process group of its own by itself, but Ctrl-C may come before. (Popen's process_group needs Python 3.11,
    and a new session would not do: Linux weighs niceness only among the processes of a session.)
    """
    if sys.platform == "win32":  # CREATE_NEW_PROCESS_GROUP does it
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
