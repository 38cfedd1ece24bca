"""How well a session was recorded: latency and losses over time, and in figures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from psm_stream.report.axes import Scale, line, svg, text, ticks, time_axis
from psm_stream.report.markup import Markup, element, escaped, number
from psm_stream.report.palette import BAD, FAINT, QUIET
from psm_stream.report.story import Quality, Story
from psm_stream.report.timeline import LEFT, RIGHT, WIDTH

_BINS = 180
_TALL, _LOW = 96.0, 34.0
_BAND, _LINE = "#c6d6e6", "#1f4e79"


def over_time(story: Story) -> Markup:
    """Draw latency (median, and 5 to 95 %) and lost frames over time, on the timeline's axis."""
    series, (low, high) = story.quality.series, story.span
    time = Scale(low, high if high > low else low + 1.0, LEFT, RIGHT)
    edges = np.linspace(time.low, time.high, _BINS + 1)
    parts: list[Markup] = []
    bottom = 10.0 + _TALL
    if len(series.latency_ms):
        parts += _latency(time, edges, series.latency_t, series.latency_ms)
    if series.dropped.any():
        lost, _ = np.histogram(series.t, edges, weights=series.dropped)
        parts += _lost(time, edges, lost, bottom + 10)
        bottom += 10 + _LOW
    return svg(WIDTH, bottom + 22, time_axis(time, bottom, 10), *parts, label="Latency and lost frames over time")


def _latency(time: Scale, edges: NDArray[np.float64], t: NDArray[np.float64], ms: NDArray[np.float64]) -> list[Markup]:
    place = np.clip(np.digitize(t, edges) - 1, 0, _BINS - 1)
    bands = [(one, np.percentile(ms[place == one], (5, 50, 95))) for one in np.unique(place)]
    y = Scale(0.0, max(float(band[2]) for _, band in bands) * 1.08 or 1.0, 10 + _TALL, 10)
    at = [time((edges[one] + edges[one + 1]) / 2) for one, _ in bands]
    upper = [f"{number(x, 1)} {number(y(band[2]), 1)}" for x, (_, band) in zip(at, bands, strict=True)]
    lower = [f"{number(x, 1)} {number(y(band[0]), 1)}" for x, (_, band) in zip(at, bands, strict=True)]
    middle = [f"{number(x, 1)} {number(y(band[1]), 1)}" for x, (_, band) in zip(at, bands, strict=True)]
    grid = [line(LEFT, y(value), RIGHT, y(value), stroke=FAINT) for value in ticks(0, y.high, 4)]
    words = [text(LEFT - 8, y(value) + 4, f"{value:g}", text_anchor="end", fill=QUIET) for value in ticks(0, y.high, 4)]
    return [
        *grid,
        *words,
        text(4, 20, "latency, ms", fill=QUIET),
        element("path", d="M" + "L".join([*upper, *reversed(lower)]) + "z", fill=_BAND),
        element("path", d="M" + "L".join(middle), fill="none", stroke=_LINE, stroke_width=1.3),
    ]


def _lost(time: Scale, edges: NDArray[np.float64], lost: NDArray[np.float64], top: float) -> list[Markup]:
    y = Scale(0.0, float(lost.max()), top + _LOW, top)
    width = time(edges[1]) - time(edges[0])
    path = "".join(
        f"M{number(time(edge))} {number(y(0))}v-{number(y(0) - y(count))}h{number(width)}v{number(y(0) - y(count))}z"
        for edge, count in zip(edges[:-1], lost, strict=True)
        if count
    )
    most = text(LEFT - 8, top + 8, f"{lost.max():g}", text_anchor="end", fill=QUIET)
    return [element("path", d=path, fill=BAD), most, text(4, top + 20, "frames lost", fill=QUIET)]


def figures(story: Story) -> Markup:
    """Return the account of frames, and the latencies by stage, as tables."""
    return element("div", _frames(story.quality), _stages(story.quality), class_="tables")


def _frames(quality: Quality) -> Markup:
    series = quality.series
    processed, lost = len(series.t), sum(quality.dropped.values())
    captured = processed + lost
    rows = {
        "Frames captured": f"{captured:,}",
        "processed": _of(processed, captured),
        **{f"lost: {cause}": _of(count, captured) for cause, count in sorted(quality.dropped.items())},
        "without a face": _of(int((~series.is_seen).sum()), captured),
        "Faces lost": f"{quality.lost:,}",
        "Longest time without a face": f"{quality.longest_without_s:.1f} s",
    }
    lines = [element("tr", element("th", escaped(name)), element("td", escaped(fact))) for name, fact in rows.items()]
    return element("table", *lines, class_="facts")


def _stages(quality: Quality) -> Markup:
    shown: Mapping[str, Mapping[str, float]] = {
        stage: figures for stage, figures in quality.stages_ms.items() if figures.get("n")
    }
    if not shown:
        return Markup("")
    names = ("p50", "p95", "p99", "max")
    head = element("tr", element("th", escaped("ms")), *(element("th", escaped(name)) for name in names))
    lines = [
        element(
            "tr",
            element("th", escaped(stage.replace("_", " "))),
            *(element("td", escaped(f"{figures.get(name, float('nan')):.1f}")) for name in names),
        )
        for stage, figures in shown.items()
    ]
    return element("table", head, *lines, class_="grid")


def _of(count: int, whole: int) -> str:
    return f"{count:,} ({count / whole:.1%})" if whole else f"{count:,}"
