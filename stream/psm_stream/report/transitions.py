"""The matrix of transitions: from which cluster to which, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psm_stream.report.axes import svg, text
from psm_stream.report.markup import Markup, element, escaped, number, shortened
from psm_stream.report.naming import Naming
from psm_stream.report.palette import INK, QUIET, blend, colour_of, sign_of
from psm_stream.report.story import NOISE, Story

_WIDTH = 540.0
_LEFT, _TOP = 100.0, 46.0
_LARGEST_CELL = 62.0
_CELL_WITH_COUNT = 19.0
_CELL_WITH_NAME = 9.0
_LETTER_PX = 6.0
_SELF = "#f0f0f0"


@dataclass(frozen=True, slots=True)
class Matrix:
    """counts[row][column]: how often a face went from clusters[row] to clusters[column]."""

    clusters: Sequence[int]
    counts: Sequence[Sequence[int]]


def matrix_of(story: Story, naming: Naming) -> Matrix | None:
    """Return the account's transitions between clusters that have a place on the page; None if there are none."""
    counted = story.table["transitions"]
    place = {cluster: at for at, cluster in enumerate(counted["clusters"])}
    clusters = [one for one in (NOISE, *naming.shown) if one in place]
    counts = [[counted["counts"][place[source]][place[target]] for target in clusters] for source in clusters]
    return Matrix(clusters, counts) if any(map(any, counts)) else None


def transitions(matrix: Matrix, naming: Naming) -> Markup:
    """Draw the matrix: a row says where a face went on to; the darker, the larger a share of the row."""
    clusters, counts = matrix.clusters, matrix.counts
    grid = _Grid(min(_LARGEST_CELL, (_WIDTH - _LEFT - 8) / len(clusters)), clusters, naming)
    parts = [text(_LEFT + grid.cell * len(clusters) / 2, 12, "to", text_anchor="middle", fill=QUIET)]
    for row in range(len(clusters)):
        parts += [*grid.row_head(row), *grid.column_head(row)]
        for column in range(len(clusters)):
            parts += grid.square(row, column, counts[row][column], sum(counts[row]) or 1)
    height = _TOP + grid.cell * len(clusters) + 6
    return svg(_WIDTH, height, *parts, label="How often a face went from cluster to cluster")


@dataclass(frozen=True, slots=True)
class _Grid:
    """The matrix on the page. cell: px."""

    cell: float
    clusters: Sequence[int]
    naming: Naming

    def square(self, row: int, column: int, count: int, total: int) -> list[Markup]:
        """Draw one transition, of `total` that leave the row."""
        names = [self.naming.name(self.clusters[place]) for place in (row, column)]
        about = element("title", escaped(f"{names[0]} to {names[1]}: {count}"))
        x, y = _LEFT + column * self.cell, _TOP + row * self.cell
        fill = _SELF if row == column else blend(0.9 * (count / total) ** 0.7)
        side = self.cell - 1
        parts = [element("rect", about, x=x + 0.5, y=y + 0.5, width=side, height=side, fill=fill)]
        if count and self.cell >= _CELL_WITH_COUNT:
            ink = "#fff" if count / total > 0.45 else INK
            parts.append(text(x + self.cell / 2, y + self.cell / 2 + 4, count, text_anchor="middle", fill=ink))
        return parts

    def row_head(self, row: int) -> list[Markup]:
        """Name a row at its left."""
        y = _TOP + (row + 0.5) * self.cell
        parts = [_sign(self.clusters[row], _LEFT - 9, y)]
        if self.cell >= _CELL_WITH_NAME:
            name = shortened(self.naming.name(self.clusters[row]), 15)
            parts.append(text(_LEFT - 18, y + 4, name, text_anchor="end", fill=INK))
        return parts

    def column_head(self, column: int) -> list[Markup]:
        """Name a column above it."""
        x, cluster = _LEFT + (column + 0.5) * self.cell, self.clusters[column]
        parts = [_sign(cluster, x, _TOP - 8)]
        if self.cell >= 2 + _LETTER_PX * max(len(self.naming.short(one)) for one in self.clusters):
            parts.append(text(x, _TOP - 17, self.naming.short(cluster), text_anchor="middle", fill=INK))
        return parts


def _sign(cluster: int, x: float, y: float) -> Markup:
    return element("path", d=f"M{number(x)} {number(y)}{sign_of(cluster, 8)}", fill=colour_of(cluster))
