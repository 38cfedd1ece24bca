"""The faces of a session on a plane, and how often they went from one cluster to another."""

from __future__ import annotations

import numpy as np

from psm_stream.report.axes import Scale, line, svg, text
from psm_stream.report.markup import Markup, element, escaped, number
from psm_stream.report.naming import Naming
from psm_stream.report.palette import INK, ONE, PALE, QUIET, colour_of, sign_of
from psm_stream.report.story import NOISE, UNSORTED, Plane

_WIDTH, _HEIGHT = 540.0, 500.0
_DOT = 5.2
_APART_PX = 18.0


def scatter(plane: Plane, naming: Naming) -> Markup:
    """Draw the plane; each cluster's id stands at the median of its faces, where another's does not stand already."""
    x, y = _scales(plane)
    row_of = np.array([naming.row_of(cluster) for cluster in plane.clusters.tolist()])
    unsorted = PALE if naming.shown else ONE
    dots, middles = [], []
    for row in sorted(set(row_of.tolist()), key=_depth):
        at = plane.xy[row_of == row]
        sign = sign_of(row, _DOT if row >= 0 else _DOT - 1)
        signs = (element("path", d=f"M{number(x(left), 1)} {number(y(up), 1)}{sign}") for left, up in at)
        fill = unsorted if row == UNSORTED else colour_of(row)
        about = element("title", escaped(f"{naming.name(row)}: {len(at)} faces"))
        dots.append(element("g", about, *signs, fill=fill, stroke="#fff", stroke_width=0.5))
        if row >= 0:
            left, up = np.median(at, axis=0)
            middles.append((len(at), x(left), y(up), row))
    return svg(_WIDTH, _HEIGHT, *_frame(plane), *dots, *_ids(middles), label="Faces in two principal components")


def _ids(middles: list[tuple[int, float, float, int]]) -> list[Markup]:
    """Write ids, those of the largest clusters first, and leave out what would lie on another. (faces, x, y, id)."""
    written: list[tuple[float, float]] = []
    ids = []
    for _, x, y, row in sorted(middles, reverse=True):
        if all(abs(x - left) > _APART_PX or abs(y - up) > _APART_PX - 4 for left, up in written):
            written.append((x, y))
            ids.append(text(x, y + 5, row, text_anchor="middle", class_="halo", fill=INK))
    return ids


def _frame(plane: Plane) -> list[Markup]:
    bottom = _HEIGHT - 26
    first, second = (f"PC{axis + 1} ({share:.0%} of variance)" for axis, share in enumerate(plane.explained))
    up = text(0, 0, second, text_anchor="middle", fill=QUIET, transform=f"translate(12 {bottom / 2:g}) rotate(-90)")
    return [
        line(24, 6, 24, bottom, stroke=QUIET),
        line(24, bottom, _WIDTH - 6, bottom, stroke=QUIET),
        text((24 + _WIDTH) / 2, bottom + 18, first, text_anchor="middle", fill=QUIET),
        up,
    ]


def _scales(plane: Plane) -> tuple[Scale, Scale]:
    """Both axes in the same units, so that distances are as they are."""
    low, high = plane.xy.min(axis=0), plane.xy.max(axis=0)
    middle = (low + high) / 2
    wide, tall = _WIDTH - 24 - 6 - 24, _HEIGHT - 26 - 6 - 24
    unit = max((high[0] - low[0]) / wide, (high[1] - low[1]) / tall, 1e-9)
    half_x, half_y = unit * wide / 2, unit * tall / 2
    x = Scale(middle[0] - half_x, middle[0] + half_x, 36, 36 + wide)
    return x, Scale(middle[1] - half_y, middle[1] + half_y, 18 + tall, 18)


def _depth(row: int) -> tuple[int, int]:
    """What is drawn first: the unsorted, noise, the rare ones, then the others in order."""
    order = {UNSORTED: 0, NOISE: 1, Naming.REST: 2}
    return (order.get(row, 3), row)
