"""A sheet for each cluster: faces that show it, what they do, and how long the face stays."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image as Picture

from psm_stream.clusters.units import UNITS
from psm_stream.report.axes import Scale, line, svg, text, ticks
from psm_stream.report.markup import Markup, element, escaped, joined, number, shortened
from psm_stream.report.naming import Naming
from psm_stream.report.palette import FAINT, INK, QUIET, colour_of, sign_of
from psm_stream.report.story import Story
from psm_stream.values import Image

_FACES = 6
_JPEG_QUALITY = 85
_ROW = 13.0
_WIDTH, _LABELS = 330.0, 172.0
_WORDS = {unit.name: unit.meaning for unit in UNITS}


def sheets(story: Story, naming: Naming) -> Markup:
    """Draw the sheets of all clusters that have a place of their own."""
    entries = {entry["cluster"]: entry for entry in story.table["clusters"]}
    reach = max(1.0, *(abs(z) for one in naming.shown for z in _profile(entries[one]).values()), 1.0)
    return joined(_sheet(entries[cluster], naming, story, math.ceil(reach)) for cluster in naming.shown)


def _sheet(entry: Mapping[str, Any], naming: Naming, story: Story, reach: float) -> Markup:
    cluster = entry["cluster"]
    path = element("path", d=f"M7 7{sign_of(cluster, 12)}", fill=colour_of(cluster))
    sign = element("svg", path, width=14, height=14, viewBox="0 0 14 14", aria_hidden="true")
    share = element("span", escaped(f"{entry['share']:.1%} of frames"), class_="share")
    head = element("h3", sign, escaped(f" Cluster {naming.name(cluster)}"), share)
    crops = [crop for crop, _ in story.account.prototype_crops(cluster)[:_FACES]]
    faces = element("div", *(_face(crop, naming.name(cluster)) for crop in crops), class_="faces")
    bars = _bars(_profile(entry), cluster, naming.short(cluster), reach)
    return element("article", head, element("div", element("div", faces, _figures(entry, story)), bars, class_="cols"))


def _figures(entry: Mapping[str, Any], story: Story) -> Markup:
    dwell = entry["dwell_s"]
    said, count = story.said_in.get(entry["cluster"], ("", 0))
    rows = {
        "Frames": f"{entry['frames']:,}",
        "Bouts": f"{entry['bouts']:,} ({_seconds(entry['seconds'])})",
        "Median stay": "" if dwell is None else _seconds(dwell["p50"]),
        "Longest stay": "" if dwell is None else _seconds(dwell["max"]),
        "Mean strength": "" if entry["strength"] is None else f"{entry['strength']:.2f}",
        "The source says": f"{shortened(said.replace('_', ' '), 12)} ({count / entry['frames']:.0%})" if said else "",
    }
    lines = [
        element("tr", element("th", escaped(name)), element("td", escaped(fact))) for name, fact in rows.items() if fact
    ]
    return element("table", *lines, class_="facts")


def _seconds(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _face(crop: Image, name: str) -> Markup:
    return element("img", src=picture(crop), alt=f"a face in cluster {name}")


def picture(crop: Image) -> str:
    """Return a crop [S, S, 3] as the address of a JPEG that is inside it."""
    buffer = io.BytesIO()
    Picture.fromarray(np.ascontiguousarray(crop)).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _profile(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return z of each unit that is known."""
    return {name: unit["z"] for name, unit in entry["units"].items() if unit["z"] is not None}


def _bars(profile: Mapping[str, float], cluster: int, name: str, reach: float) -> Markup:
    """Draw how far each unit's mean is from the mean of all frames, in deviations of all frames."""
    scale = Scale(-reach, reach, _LABELS + 8, _WIDTH - 8)
    bottom = _ROW * len(UNITS) + 4
    parts = [line(scale(z), 2, scale(z), bottom, stroke=FAINT) for z in ticks(-reach, reach, 5)]
    for row, unit in enumerate(UNITS):
        y = 2 + row * _ROW
        z = profile.get(unit.name)
        quiet = QUIET if z is None or abs(z) < 0.5 else INK
        number_x = text(_LABELS - 128, y + 10, unit.name, text_anchor="end", fill=quiet)
        parts += [number_x, text(_LABELS - 122, y + 10, _WORDS[unit.name], fill=quiet, class_="unit")]
        if z is None:
            parts.append(text(scale(0) + 5, y + 10, "not measured", fill=QUIET, font_style="italic"))
            continue
        left, right = sorted((scale(0), scale(z)))
        about = element("title", escaped(f"{unit.name} {unit.meaning}: {z:+.2f}"))
        bar = {"x": left, "y": y + 2, "width": right - left, "height": _ROW - 4}
        parts.append(element("rect", about, fill=colour_of(cluster), **bar))
    parts.append(line(scale(0), 2, scale(0), bottom, stroke=QUIET))
    parts += [text(scale(z), bottom + 12, number(z), text_anchor="middle", fill=QUIET) for z in ticks(-reach, reach, 5)]
    return svg(_WIDTH, bottom + 16, *parts, label=f"Action units of cluster {name}")
