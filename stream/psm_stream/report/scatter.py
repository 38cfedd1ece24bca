"""The faces of a session on a plane, and how often they went from one cluster to another."""

from __future__ import annotations

import numpy as np

from psm_stream.report.axes import Scale, line, svg, text
from psm_stream.report.markup import Markup, element, escaped, number
from psm_stream.report.naming import Naming
from psm_stream.report.palette import HOLLOW, INK, ONE, QUIET, colour_of, sign_of
from psm_stream.report.story import NOISE, UNSORTED, Plane

_WIDTH, _HEIGHT = 540.0, 500.0
_DOT = 5.2
_LETTER_PX, _LINE_PX = 8.0, 14.0


def scatter(plane: Plane, naming: Naming) -> Markup:
    """Draw the plane; each cluster's id stands at the median of its faces, where another's does not stand already."""
    x, y = _scales(plane)
    row_of = np.array([naming.row_of(cluster) for cluster in plane.clusters.tolist()])
    dots, middles = [], []
    for row in sorted(set(row_of.tolist()), key=_depth):
        at = plane.xy[row_of == row]
        sign = sign_of(row, _DOT if row >= 0 else _DOT - 1)
        signs = (element("path", d=f"M{number(x(left), 1)} {number(y(up), 1)}{sign}") for left, up in at)
        about = element("title", escaped(f"{naming.name(row)}: {len(at)} faces"))
        dots.append(element("g", about, *signs, stroke_width=0.8 if row == UNSORTED else 0.5, **_look(row, naming)))
        if row >= 0:
            left, up = np.median(at, axis=0)
            middles.append((len(at), x(left), y(up), naming.short(row)))
    return svg(_WIDTH, _HEIGHT, *_frame(plane), *dots, *_ids(middles), label="Faces in two principal components")


def _look(row: int, naming: Naming) -> dict[str, str]:
    """Return how the dots of a row are filled and drawn round; hollow is what had no clusters while others had."""
    if row != UNSORTED:
        return {"fill": colour_of(row), "stroke": "#fff"}
    return {"fill": "#fff", "stroke": HOLLOW} if naming.shown else {"fill": ONE, "stroke": "#fff"}


def _ids(middles: list[tuple[int, float, float, str]]) -> list[Markup]:
    """Write ids, those of the largest clusters first, and leave out what would lie on another. (faces, x, y, id)."""
    written: list[tuple[float, float]] = []
    ids = []
    apart = max((_LETTER_PX * len(name) for *_, name in middles), default=0.0) + 2
    for _, x, y, name in sorted(middles, reverse=True):
        if all(abs(x - left) > apart or abs(y - up) > _LINE_PX for left, up in written):
            written.append((x, y))
            ids.append(text(x, y + 5, name, text_anchor="middle", class_="halo", fill=INK))
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
    """What is drawn first: those without clusters, noise, the rare ones, then the others in order."""
    order = {UNSORTED: 0, NOISE: 1, Naming.REST: 2}
    return (order.get(row, 3), row)
