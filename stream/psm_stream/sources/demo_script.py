"""What the demo's face does and when: a seeded script of expressions and of small head motion.

Everything here is a function of the seed and the time, so any frame can be asked for in any order. Time is the
demo's own, in seconds from its first frame.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXPRESSIONS = ("blink", "brow_raise", "smile", "jaw_drop")
NEUTRAL = "neutral"
ROUND_S = 10.0
"""Every expression occurs at least once in each round of so many seconds, in an order drawn for that round."""

_LABEL = re.compile(rf"(?P<name>{'|'.join((NEUTRAL, *EXPRESSIONS))}) (?P<intensity>0\.\d\d|1\.00)")
_ROUND = ("blink", "smile", "blink", "brow_raise", "jaw_drop")
# onset, apex and offset in seconds; each is drawn within a fifth of these
_TIMES_S = {
    "blink": (0.10, 0.07, 0.17),
    "brow_raise": (0.32, 0.55, 0.42),
    "smile": (0.60, 1.00, 0.70),
    "jaw_drop": (0.42, 0.50, 0.45),
}
# a blink hardly ever stops half way; the others come in all strengths
_WEAKEST = {"blink": 0.85, "brow_raise": 0.4, "smile": 0.4, "jaw_drop": 0.4}
_SHORTEST_PAUSE_S = 0.35


@dataclass(frozen=True, slots=True)
class Expression:
    """One of EXPRESSIONS or NEUTRAL. intensity: 0 for neutral, 1 for the strongest that the demo shows."""

    name: str
    intensity: float

    @property
    def label(self) -> str:
        """`<name> <intensity>` with two decimals, as in "smile 0.62"; "neutral 0.00" when nothing would show."""
        rounded = f"{self.intensity:.2f}"
        return f"{NEUTRAL} 0.00" if rounded == "0.00" else f"{self.name} {rounded}"


@dataclass(frozen=True, slots=True)
class HeadPose:
    """Where the head is, against the photograph: shifts in face widths, roll in radians clockwise, zoom 1 as taken."""

    right: float
    down: float
    roll: float
    zoom: float


@dataclass(frozen=True, slots=True)
class _Event:
    name: str
    start_s: float
    times_s: tuple[float, float, float]
    peak: float

    def intensity(self, t: float) -> float:
        """Intensity at time t: rises, stays and falls with minimum jerk (Flash and Hogan 1985)."""
        onset, apex, offset = self.times_s
        since = t - self.start_s
        return self.peak * min(_rise(since / onset), _rise((onset + apex + offset - since) / offset))


def parse_label(label: str) -> Expression:
    """Read a label that the demo gave a frame. Raises ValueError: it is not one of the demo's labels."""
    match = _LABEL.fullmatch(label)
    if match is None:
        raise ValueError(f"{label!r} is not a label of the demo; expected such as 'smile 0.62' or 'neutral 0.00'")
    return Expression(match["name"], float(match["intensity"]))


def expression_at(seed: int, t: float) -> Expression:
    """The face's expression at time t; one at a time, with neutral pauses between."""
    for event in _events(seed, int(t // ROUND_S)):
        intensity = event.intensity(t % ROUND_S)
        if intensity > 0:
            return Expression(event.name, intensity)
    return Expression(NEUTRAL, 0.0)


def head_pose_at(seed: int, t: float) -> HeadPose:
    """The head's place at time t: a slow, never repeating sway."""
    hertz, phase = _sway(seed)
    right, down, roll, zoom = np.sin(2 * math.pi * (hertz * t + phase)).mean(axis=1)
    return HeadPose(0.055 * right, 0.035 * down, math.radians(4.0) * roll, 1.0 + 0.02 * zoom)


@functools.lru_cache(maxsize=8)
def _events(seed: int, number: int) -> tuple[_Event, ...]:
    """The events of one round, in order, times in seconds from the round's start."""
    rng = np.random.default_rng([seed, number])
    names = [_ROUND[i] for i in rng.permutation(len(_ROUND))]
    times = [tuple(rng.uniform(0.8, 1.2) * part for part in _TIMES_S[name]) for name in names]
    pauses = rng.dirichlet(np.full(len(names) + 1, 3.0))
    spare = ROUND_S - sum(map(sum, times)) - _SHORTEST_PAUSE_S * len(pauses)
    events, clock = [], 0.0
    for name, (onset, apex, offset), pause in zip(names, times, pauses, strict=False):
        clock += _SHORTEST_PAUSE_S + spare * pause
        events.append(_Event(name, clock, (onset, apex, offset), rng.uniform(_WEAKEST[name], 1.0)))
        clock += onset + apex + offset
    return tuple(events)


@functools.lru_cache(maxsize=8)
def _sway(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies [4, 3] in Hz and phases [4, 3] in turns, for right, down, roll and zoom."""
    rng = np.random.default_rng([seed, 2**31])  # a round number that no run reaches
    return rng.uniform([0.05, 0.13, 0.25], [0.12, 0.22, 0.4], size=(4, 3)), rng.uniform(size=(4, 3))


def _rise(fraction: float) -> float:
    x = min(max(fraction, 0.0), 1.0)
    return x * x * x * (10.0 + x * (6.0 * x - 15.0))
