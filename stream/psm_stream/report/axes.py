"""Axes: where a value lies on the page, and which values are written beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from psm_stream.report.markup import Markup, element, escaped, joined
from psm_stream.report.palette import FAINT, QUIET

_TIME_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values low..high to begin..end px."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        """Return where a value lies, px."""
        return self.begin + (value - self.low) / ((self.high - self.low) or 1.0) * (self.end - self.begin)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round values from low to high, `most` at most."""
    raw = (high - low) / max(most, 1)
    if not raw > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    return _multiples(low, high, step)


def time_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round times, s, from low to high, `most` at most: whole minutes and hours where it is long."""
    step = next((step for step in _TIME_STEPS_S if (high - low) / step <= most), _TIME_STEPS_S[-1])
    return _multiples(low, high, step)


def clock(t: float, with_tenths: bool = False) -> str:
    """Write a time of the session: 7 s, 1:07, 1:00:07."""
    rounded = round(abs(t), 1 if with_tenths or abs(t) < 60 else 0)
    minutes, seconds = divmod(rounded, 60)
    hours, minutes = divmod(int(minutes), 60)
    sign = "-" if t < 0 and rounded else ""
    if not hours and not minutes:
        return f"{sign}{seconds:.1f} s" if with_tenths else f"{sign}{seconds:g} s"
    left = f"{seconds:04.1f}" if with_tenths else f"{seconds:02.0f}"
    return f"{sign}{hours}:{minutes:02d}:{left}" if hours else f"{sign}{minutes}:{left}"


def time_axis(scale: Scale, y: float, top: float) -> Markup:
    """Draw an axis of time at y, and faint lines up to top."""
    marks = time_ticks(scale.low, scale.high, max(2, int((scale.end - scale.begin) / 80)))
    lines = [line(scale(t), top, scale(t), y, stroke=FAINT) for t in marks]
    words = [text(scale(t), y + 14, clock(round(t, 3)), text_anchor="middle", fill=QUIET) for t in marks]
    return joined([*lines, line(scale.begin, y, scale.end, y, stroke=QUIET), *words])


def line(x1: float, y1: float, x2: float, y2: float, **attributes: str | float | None) -> Markup:
    """Draw a line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def text(x: float, y: float, words: object, **attributes: str | float | None) -> Markup:
    """Write words, which may be anybody's."""
    return element("text", escaped(words), x=x, y=y, **attributes)


def svg(width: float, height: float, *children: Markup, label: str) -> Markup:
    """Return a figure that fills the width it is given. label: what it shows, for those who do not see it."""
    box = f"0 0 {width:g} {height:g}"
    return element("svg", *children, viewBox=box, role="img", aria_label=label, width="100%")


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [count * step for count in range(first, last + 1)]
