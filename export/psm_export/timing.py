"""Timing models side by side: in turns, so that a busy machine disturbs all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from psm_stream.devices import open_session

_CALLS = 10
_ROUNDS = 10


def median_ms(models: Sequence[bytes], size_px: int) -> list[float]:
    """Median time of one face on one thread of the CPU, ms, of each ONNX model. Raises BundleError: one cannot run."""
    crop = np.random.default_rng(0).integers(0, 256, (1, size_px, size_px, 3), dtype=np.uint8)
    sessions = [open_session(model, "cpu", 1).session for model in models]
    calls = [lambda session=session: session.run(None, {"crops": crop}) for session in sessions]
    return [1e3 * float(np.median(taken)) for taken in in_turns(calls, rounds=_ROUNDS, calls_each=_CALLS)]


def in_turns(
    calls: Sequence[Callable[[], object]], rounds: int, calls_each: int, tell: Callable[[int, int], None] | None = None
) -> list[NDArray[np.float64]]:
    """Time each call `rounds` times `calls_each` times, by turns; one round before, which does not count.

    tell: is told (rounds done, rounds). Returns seconds of each single call, by candidate.
    """
    taken: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 1):
        for call, seconds in zip(calls, taken, strict=True):
            for _ in range(calls_each):
                started = time.perf_counter()
                call()
                if turn:
                    seconds.append(time.perf_counter() - started)
        if tell is not None:
            tell(turn, rounds)
    return [np.array(seconds) for seconds in taken]
