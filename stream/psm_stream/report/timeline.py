"""The timeline: a row for each cluster that is filled while the face is in it, as ethologists draw behaviour.

Above lie markers, encoders and clusterings, below what the source itself says, all on one axis of time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from psm_stream.report.axes import Scale, line, svg, text, time_axis
from psm_stream.report.markup import Markup, element, escaped, joined, number, shortened
from psm_stream.report.naming import Naming
from psm_stream.report.palette import FAINT, HOLLOW, INK, QUIET, colour_of, sign_of
from psm_stream.report.story import NOISE, UNSORTED, Event, Run, Said, Story
from psm_stream.sources.demo_script import EXPRESSIONS

WIDTH = 1120.0
LEFT, RIGHT = 132.0, 1066.0
MOST_FACES = 3
"""Faces that have rows of their own: those that were there the longest."""
_LETTER_PX = 5.6
_LEVELS = 3
_LANE = 17.0
_SOURCE_PX = 26.0
_TINTS = ("#c9d3c0", "#dccdb8", "#bfccda", "#d9c6d4", "#cfcfc4", "#b9d2cf", "#e0c4c0", "#c8c4de")


@dataclass(slots=True)
class _Sheet:
    """The figure as it grows downwards."""

    time: Scale
    y: float = 4.0
    parts: list[Markup] = field(default_factory=list)

    def name(self, words: str, y: float, **attributes: str | float | None) -> None:
        """Write a lane's name at its left."""
        self.parts.append(text(LEFT - 10, y, words, text_anchor="end", **{"fill": QUIET, **attributes}))


def timeline(story: Story, naming: Naming) -> Markup:
    """Draw everything that happened over time."""
    low, high = story.span
    sheet = _Sheet(Scale(low, high if high > low else low + 1.0, LEFT, RIGHT))
    _markers(sheet, [event for event in story.events if event.kind == "marker"])
    _segments(sheet, "encoder", [(t, model_id[:8]) for model_id, t in story.models], "#d9e2ec", "#bccbdb")
    _segments(
        sheet, "clustering", [(t, f"v{version}" if version else "") for version, t in story.fits], "#ececec", "#dcdcdc"
    )
    sheet.y += 8
    top = sheet.y
    rows: list[Markup] = []
    for face_id, runs in list(story.faces.items())[:MOST_FACES]:
        rows += _face(sheet, naming, runs, f"face {face_id}" if len(story.faces) > 1 else "")
    _absence(sheet, story)
    bottom = sheet.y + 2
    axis = time_axis(sheet.time, bottom, top)
    swaps = [
        line(x, 0, x, bottom, stroke=INK, stroke_width=1.2, stroke_dasharray="4 3")
        for x in (sheet.time(t) for _, t in story.models[1:])
    ]
    sheet.y = bottom + 26
    _source(sheet, story.said)
    about = f"Timeline of {len(naming.shown)} clusters from {low:.1f} to {high:.1f} s"
    return svg(WIDTH, sheet.y, axis, *sheet.parts, *rows, *swaps, label=about)


def _face(sheet: _Sheet, naming: Naming, runs: Sequence[Run], name: str) -> list[Markup]:
    """Draw the rows of one face: clusters, the rare ones together, noise, and the time without clusters."""
    by_row: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_row[naming.row_of(run.cluster)].append(run)
    total = sum(run.end - run.begin for run in runs if run.cluster != UNSORTED) or 1.0
    rows = [*naming.shown, *(row for row in (naming.REST, NOISE, UNSORTED) if row in by_row)]
    height = 22.0 if len(rows) <= 9 else 18.0 if len(rows) <= 14 else 14.0 if len(rows) <= 26 else 11.0
    parts: list[Markup] = []
    if name:
        sheet.y += 12
        sheet.name(name, sheet.y - 2, fill=INK, font_weight="bold")
        sheet.y += 2
    for row in rows:
        middle = sheet.y + height / 2
        parts.append(line(LEFT, middle, RIGHT, middle, stroke=FAINT, stroke_width=0.6))
        spans = ((run.begin, run.end) for run in by_row.get(row, ()))
        path = _path(sheet.time, spans, sheet.y + 0.12 * height, 0.76 * height)
        about = element("title", escaped(naming.name(row)))
        look = {"fill": "#fff", "stroke": HOLLOW} if row == UNSORTED else {"fill": colour_of(row)}
        parts.append(element("path", about, d=path, **look))
        parts.append(_row_name(row, middle, naming))
        if row != UNSORTED:
            share = sum(run.end - run.begin for run in by_row.get(row, ())) / total
            words = f"{share:.0%}" if share >= 0.005 or share == 0 else "<1%"
            parts.append(text(WIDTH - 4, middle + 3.6, words, text_anchor="end", fill=QUIET))
        sheet.y += height
    return parts


def _row_name(row: int, middle: float, naming: Naming) -> Markup:
    words = text(LEFT - 24, middle + 3.6, shortened(naming.name(row), 20), text_anchor="end", fill=INK)
    if row < 0:
        return words
    sign = element("path", d=f"M{LEFT - 14:g} {number(middle)}{sign_of(row, 9)}", fill=colour_of(row))
    return joined([words, sign])


def _absence(sheet: _Sheet, story: Story) -> None:
    """Mark when there was no face; nothing if there always was one."""
    series = story.quality.series
    if series.is_seen.all():
        return
    until = np.append(series.t[1:], series.t[-1])
    gone = zip(series.t[~series.is_seen], until[~series.is_seen], strict=True)
    sheet.name("no face", sheet.y + 12)
    path = _path(sheet.time, gone, sheet.y + 4, 9)
    sheet.parts.append(element("path", d=path, fill=INK))
    sheet.y += 18


def _path(time: Scale, spans: Iterable[tuple[float, float]], y: float, height: float) -> str:
    """Draw spans of time as one path; those that are closer than a fifth of a pixel become one bar."""
    bars: list[list[float]] = []
    for begin, end in spans:
        left, right = time(begin), max(time(end), time(begin) + 0.6)
        if bars and left - bars[-1][1] < 0.2:
            bars[-1][1] = max(bars[-1][1], right)
        else:
            bars.append([left, right])
    return "".join(
        f"M{number(left)} {number(y)}h{number(right - left)}v{number(height)}h-{number(right - left)}z"
        for left, right in bars
    )


def _markers(sheet: _Sheet, markers: Sequence[Event]) -> None:
    """Draw markers as ticks, with their labels where there is room, on up to three levels."""
    if not markers:
        return
    free = [LEFT - 20.0] * _LEVELS
    placed: list[tuple[float, int, str]] = []
    ticks: list[float] = []
    for event in sorted(markers, key=lambda event: event.t):
        x, words = sheet.time(event.t), shortened(event.text, 26)
        ticks.append(x)
        width = _LETTER_PX * len(words) + 10
        level = next((one for one in range(_LEVELS) if free[one] <= x and x + width < WIDTH), None)
        if level is not None:
            free[level] = x + width
            placed.append((x, level, words))
    levels = 1 + max((level for _, level, _ in placed), default=0)
    base = sheet.y + 13.0 * levels
    stems = [line(x, base - 13.0 * level - 9, x, base + 6, stroke=QUIET, stroke_width=0.8) for x, level, _ in placed]
    labels = [text(x + 3, base - 13.0 * level - 1, words, fill=INK, class_="over") for x, level, words in placed]
    sheet.parts += [*stems, *labels]
    path = "".join(f"M{x:.1f} {number(base)}v6" for x in sorted(set(ticks)))
    sheet.parts.append(element("path", d=path, stroke=INK, stroke_width=1, fill="none"))
    hidden = len(markers) - len(placed)
    sheet.name(f"{len(markers)} markers" if hidden else "markers", base + 5)
    sheet.y = base + 12


def _segments(sheet: _Sheet, name: str, starts: Sequence[tuple[float, str]], one: str, other: str) -> None:
    """Draw what was in force, from each start to the next, in two colours by turns."""
    if not starts:
        return
    ends = [*(t for t, _ in starts[1:]), sheet.time.high]
    for count, ((t, words), end) in enumerate(zip(starts, ends, strict=True)):
        if not words:
            continue
        x, width = sheet.time(t), sheet.time(end) - sheet.time(t)
        fill = (one, other)[count % 2]
        about = element("title", escaped(words))
        sheet.parts.append(element("rect", about, x=x, y=sheet.y, width=max(width, 0.6), height=_LANE - 4, fill=fill))
        if width > _LETTER_PX * len(words) + 6:
            sheet.parts.append(text(x + 4, sheet.y + 10, words, fill=INK))
    sheet.name(name, sheet.y + 10)
    sheet.y += _LANE


def _source(sheet: _Sheet, said: Sequence[Said]) -> None:
    """Draw what the source itself says: a block for each label, as high as it is strong."""
    if not said:
        return
    sheet.name("the source says", sheet.y + _SOURCE_PX - 2)
    tint_of = tints(said)
    base, free, hidden = sheet.y + 12 + _SOURCE_PX, 0.0, False
    for one in said:
        if one.label not in tint_of:
            continue
        x, end = sheet.time(one.begin), sheet.time(one.end)
        height = _SOURCE_PX * min(max(one.most, 0.0), 1.0)
        box = {"x": x, "y": base - height, "width": max(end - x, 0.6), "height": height}
        about = element("title", escaped(f"{one.label} {one.most:g}"))
        sheet.parts.append(element("rect", about, fill=tint_of[one.label], **box))
        words = shortened(one.label.replace("_", " "), 18)
        middle, half = (x + end) / 2, _LETTER_PX * len(words) / 2
        if height > 0 and middle - half > free and middle + half < WIDTH:
            free = middle + half + 6
            sheet.parts.append(text(middle, base - _SOURCE_PX - 3, words, text_anchor="middle", fill=QUIET))
        else:
            hidden = hidden or height > 0
    sheet.parts.append(line(LEFT, base, RIGHT, base, stroke=QUIET, stroke_width=0.6))
    sheet.y = base + 6
    if hidden:
        _legend(sheet, tint_of)


def tints(said: Sequence[Said]) -> dict[str, str]:
    """Return the tint of each label that is ever strong enough to be seen, in the legend's order.

    The demo's expressions have the same tints in each report; other labels follow, by name.
    """
    seen = {one.label for one in said if one.most > 0}
    order = dict.fromkeys((*EXPRESSIONS, *sorted(seen)))
    return {label: _TINTS[place % len(_TINTS)] for place, label in enumerate(order) if label in seen}


def _legend(sheet: _Sheet, tint_of: Mapping[str, str]) -> None:
    """Say which tint is which label, as far as a line goes."""
    x = LEFT
    for label, tint in tint_of.items():
        words = shortened(label.replace("_", " "), 24)
        width = 26 + _LETTER_PX * len(words)
        if x + width > RIGHT:
            break
        sheet.parts.append(element("rect", x=x, y=sheet.y + 3, width=9, height=9, fill=tint))
        sheet.parts.append(text(x + 13, sheet.y + 11, words, fill=QUIET))
        x += width
    sheet.y += 18
