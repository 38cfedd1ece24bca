"""The process that fits clusters: `python -m psm_stream.clusters.worker`, started by `ClusterProcess`.

It reads jobs from stdin and answers each on stdout (`psm_stream.clusters.pipe`), one after the other. It ends when
stdin does, which is when the stream ends, however that is; also in the middle of a fit.
"""

from __future__ import annotations

import io
import os
import queue
import sys
import threading
from contextlib import suppress
from typing import Any, TypeAlias

from numpy.typing import NDArray

from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.pipe import receive, send
from psm_stream.config import ClustersSettings
from psm_stream.errors import PsmError

NICENESS = 10
"""Behind the stream. Not SCHED_IDLE: a fit would not end on a machine whose cores the stream keeps busy."""

_Job: TypeAlias = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def main() -> None:
    """Answer jobs until stdin ends."""
    _step_back()
    jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    source, answers = _own_pipes()
    threading.Thread(target=_listen, args=(source, jobs), name="jobs", daemon=True).start()
    with suppress(ImportError):  # told by the fit that needs it
        import hdbscan  # noqa: F401  # what every first fit would wait for
    while True:
        about, arrays = answer(*jobs.get())
        send(answers, about, arrays)


def answer(about: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> _Job:
    """Do one job. A fit that fails is an answer, too: {"error": why}, and no arrays."""
    try:
        settings = ClustersSettings.model_validate_json(about["settings"])
        made = METHODS[about["method"]].fit(arrays["vectors"], settings)
    except PsmError as error:
        return {"error": str(error)}, {}
    except Exception as error:  # whatever the libraries raise; the next job may be fine
        return {"error": f"{type(error).__name__}: {error}"}, {}
    fitted = {f"fitted.{name}": array for name, array in made.fitted.items()}
    return {}, {"labels": made.labels, "strengths": made.strengths, **fitted}


def _listen(source: io.FileIO, jobs: queue.SimpleQueue[_Job]) -> None:
    with suppress(EOFError, ValueError, OSError):
        while True:
            jobs.put(receive(source))
    os._exit(0)


def _own_pipes() -> tuple[io.FileIO, io.FileIO]:
    """Take stdin and stdout for jobs and answers alone; what libraries print goes to stderr."""
    source, answers = io.FileIO(os.dup(0), "rb"), io.FileIO(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return source, answers


def _step_back() -> None:
    """Become a process group of one's own, which Ctrl-C in the terminal does not reach, behind the stream."""
    if sys.platform == "win32":
        return  # the parent has seen to both
    with suppress(OSError):
        os.setpgid(0, 0)
    with suppress(OSError):
        os.nice(NICENESS - os.nice(0))


if __name__ == "__main__":
    main()
