"""What a worker does to itself so that the live path beside it does not notice: priority, threads, memory, its end.

`step_back` comes before torch is imported, which reads the number of threads then; `limit_memory` after it.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NICENESS = 19
MEMORY_MB = 4096
"""Training on 500 faces on the CPU takes 1400 of them, of which torch alone has 200."""
CUDA_FRACTION = 0.5
"""Of a GPU's memory; the rest is the live path's."""
THREADS = 1
"""Of torch and its libraries; a recipe may start more."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_FIRST_TO_GO = "1000"
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",  # torch, on the CPU
    "cannot allocate memory",
    "bad_alloc",
    "bad allocation",
    "can't start new thread",  # there is no room for its stack
    "failed to map segment",  # of a library
    "could not create a memory object",  # oneDNN, and in the next line, too
    "could not create a primitive",
)
"""How the libraries say it, in lower case."""


def step_back() -> None:
    """Step back behind every other process. Call it before torch is imported.

    The scheduler is SCHED_IDLE where there is one, and nice 19 serves where there is none. On two busy cores, a thread
    that wakes 30 times a second for 5 ms of work had it done after 14.7 ms at the median (95 %: 26.4) with no worker,
    16.0 (27.4) beside two SCHED_IDLE ones, 17.4 (27.7) at nice 19, 18.0 (28.1) with SCHED_BATCH too, and 45.6 (67.9)
    beside two of its own rank. With memory short, Linux ends this process first. On a GPU nothing is to be done: the
    default stream has the lowest priority there is, and among processes priorities count only under MPS.
    """
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(THREADS)
    os.environ.setdefault("CUDA_MPS_CLIENT_PRIORITY", "1")  # below normal
    with suppress(OSError):
        _OOM_SCORE.write_text(_FIRST_TO_GO, encoding="ascii")
    if sys.platform == "win32":
        return  # the parent has given it a priority below normal
    with suppress(OSError):
        os.nice(NICENESS - os.nice(0))
    if sys.platform == "linux":
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def limit_memory(memory_mb: int, device: str) -> bool:
    """Limit what this process may allocate, from now on. Returns False where there is no such limit.

    Files mapped to be read, as libraries and weights are, do not count; on CUDA, neither does what CUDA itself took.

    Args:
        memory_mb: MB of 2**20 bytes.
        device: auto, cpu or cuda, as for the training.
    """
    import torch

    taken = 0
    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(CUDA_FRACTION)
        torch.cuda.synchronize()  # CUDA takes gigabytes of addresses when it starts
        taken = _data_bytes()
    if sys.platform != "linux":  # Windows has no such limit, and macOS does not heed it
        return False
    import resource

    wanted = taken + memory_mb * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this error, or one that led to it, says that there was no memory to be had, in whatever words."""
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen).lower()
        if isinstance(seen, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def follow_parent(leave: Callable[[], object]) -> bool:
    """Leave with the process that started this one: stdin is a pipe from it, and ends when it does, however that is.

    Also become a process group of one's own, which Ctrl-C in the terminal does not reach: the parent says what ends.
    Returns False, and does nothing, where stdin is no pipe: a person started this one.
    """
    try:
        kind = os.fstat(0).st_mode
    except OSError:  # closed
        return False
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        return False
    if sys.platform != "win32":
        with suppress(OSError):  # a leader of a session is one already
            os.setpgid(0, 0)
    threading.Thread(target=_await_end, args=(leave,), name="parent", daemon=True).start()
    return True


def _await_end(leave: Callable[[], object]) -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    leave()


def _data_bytes() -> int:
    """What RLIMIT_DATA counts; 0 where Linux does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0
