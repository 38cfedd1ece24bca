"""The pictures of an adaptation's report: what was drawn before and after, losses, codes, and figures as bars.

Blue is before, orange is after; the two differ in lightness, too, and words or marks say it once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from psm_adapt.adaptation.comparing import Check, CodeMap, Codes, Pictures, Preview, Probed, most_different

BEFORE, AFTER = "#2f5d8a", "#e69f00"
BEST, REFUSED, QUIET = "#111111", "#a50026", "#777777"
_TIME_COLOURS = "cividis"
_THUMBNAILS = 9
_TILE_PX, _GAP_PX, _ROW_PX = 64, 3, 9
_DRAWINGS = ("neutral", "warped", "reconstruction")
_BOLD = "bold"
_MARGIN_IN = 0.28

Canvas = Figure | SubFigure


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with what it stands for."""

    name: str
    value: float
    colour: str


def draw_preview(canvas: Canvas, preview: Preview) -> None:
    """Draw the grid: a row for each face, its input, and what each model draws of it."""
    groups = [preview.before, preview.after]
    columns = [preview.faces]
    for drawn in groups:
        columns += [drawn.neutral, drawn.warped, drawn.reconstruction]
    lefts = [n * (_TILE_PX + _GAP_PX) + (n > 0) * 10 + (n > len(_DRAWINGS)) * 10 for n in range(len(columns))]
    across, down = lefts[-1] + _TILE_PX, len(preview.faces) * (_TILE_PX + _ROW_PX)
    page = np.ones((down, across, 3), np.float32)
    for left, pictures in zip(lefts, columns, strict=True):
        for row, picture in enumerate(pictures):
            top = row * (_TILE_PX + _ROW_PX)
            page[top : top + _TILE_PX, left : left + _TILE_PX] = picture
    axes = _plain(canvas.add_axes((0.02, 0.02, 0.96, 0.84)))
    axes.imshow(page, interpolation="lanczos", aspect="equal")
    for left, name in zip(lefts, ("input", *_DRAWINGS, *_DRAWINGS), strict=True):
        axes.text(left + _TILE_PX / 2, -4, name, ha="center", va="bottom", fontsize=9)
    for first, name, colour, drawn in ((1, "before", BEFORE, groups[0]), (4, "after", AFTER, groups[1])):
        start, end = lefts[first], lefts[first + 2] + _TILE_PX
        axes.plot([start, end], [-17, -17], color=colour, linewidth=3, clip_on=False)
        axes.text((start + end) / 2, -20, name, ha="center", va="bottom", fontsize=10, fontweight=_BOLD)
        for row, error in enumerate(drawn.error):
            under = (row + 1) * (_TILE_PX + _ROW_PX) - _ROW_PX + 0.5
            axes.text(end, under, f"error {error:.3f}", ha="right", va="top", fontsize=7.5, color="#333333")
    axes.set_xlim(-1, across + 1)
    axes.set_ylim(down, -1)


def draw_losses(canvas: Canvas, losses: Sequence[float], validation: Sequence[float], best: int) -> None:
    """Draw the loss of each epoch. losses: after 1, 2 ... epochs. validation: after 0, 1, 2 ...; best: the one kept."""
    axes = _open(canvas.add_axes((0.13, 0.14, 0.83, 0.72)))
    axes.plot(range(1, len(losses) + 1), losses, "--", color=QUIET, linewidth=1.4, marker=".", label="training")
    axes.plot(range(len(validation)), validation, "-", color=AFTER, linewidth=2, marker="o", markersize=4)
    if validation:
        axes.plot(0, validation[0], "s", color=BEFORE, markersize=8, label="before", zorder=4)
        axes.lines[1].set_label("held out, in each epoch")
        axes.plot(best, validation[best], "*", color=BEST, markersize=15, zorder=5, label=f"kept: epoch {best}")
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel("loss", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8.5, frameon=False)


def draw_codes(canvas: Canvas, codes: CodeMap) -> None:
    """Draw both models' codes along their two widest directions, coloured by time, with some of the faces."""
    sides = (("before", codes.before, BEFORE), ("after", codes.after, AFTER))
    shown = most_different(codes.after, _THUMBNAILS)
    for place, (name, values, colour) in enumerate(sides):
        axes = _open(canvas.add_axes((0.04 + 0.46 * place, 0.1, 0.41, 0.74)))
        points, share = flattened(values)
        held = codes.is_held_out
        dots = axes.scatter(
            points[~held, 0], points[~held, 1], c=codes.t[~held], cmap=_TIME_COLOURS, s=14, alpha=0.75, linewidths=0
        )
        dots.set_clim(float(codes.t.min()), float(codes.t.max()) + 1e-9)
        axes.scatter(
            points[held, 0], points[held, 1], c=codes.t[held], cmap=_TIME_COLOURS, s=26, marker="D",
            edgecolors="black", linewidths=0.7,
        ).set_norm(dots.norm)  # fmt: skip
        for row in shown:
            box = AnnotationBbox(
                OffsetImage(codes.faces[row], zoom=0.5), tuple(points[row]), frameon=True, pad=0.08,
                bboxprops={"edgecolor": colour, "linewidth": 1.2},
            )  # fmt: skip
            axes.add_artist(box)
        axes.margins(0.13)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{name}: {share:.0%} of the variance", fontsize=9.5, loc="left", color="#222222")
        if place:
            bar = canvas.colorbar(dots, cax=canvas.add_axes((0.93, 0.1, 0.012, 0.74)))
            bar.set_label("time, s", fontsize=8.5)
            bar.ax.tick_params(labelsize=8)
    canvas.text(
        0.04, 0.035, "dots: learned from; diamonds: held out; the same faces in both", fontsize=8.5, color=QUIET
    )


def draw_checks(canvas: Canvas, checks: Sequence[Check]) -> None:
    """Draw the gate's figures as a table."""
    axes = _plain(canvas.add_axes((0.044, 0.04, 0.936, 0.82)))
    axes.set_xlim(0, 1)
    axes.set_ylim(len(checks) + 0.6, -0.6)
    places = (0.0, 0.6, 0.735, 0.885, 1.0)
    for x, heading in zip(places, ("", "before", "after", "asked for", ""), strict=True):
        axes.text(x, -0.35, heading, ha="right" if x else "left", fontsize=9, color=QUIET)
    for row, check in enumerate(checks):
        y = row + 0.4
        axes.plot([0, 1], [y - 0.5, y - 0.5], color="#dddddd", linewidth=0.8)
        before = "" if check.before is None else f"{check.before:.4g}"
        for x, cell in zip(places[:4], (check.what, before, f"{check.after:.4g}", check.asked), strict=True):
            axes.text(x, y, cell, ha="right" if x else "left", va="center", fontsize=9)
        verdict, colour = ("✓", BEST) if check.is_met else ("✗ no", REFUSED)
        axes.text(places[4], y, verdict, ha="right", va="center", fontsize=9, color=colour, fontweight=_BOLD)


def draw_bars(canvas: Canvas, bars: Sequence[Bar], unit: str) -> None:
    """Draw bars that lie, each with its name at the left and its value at its end."""
    axes = _open(canvas.add_axes((0.27, 0.14, 0.62, 0.68)))
    names = [bar.name for bar in bars]
    axes.barh(range(len(bars)), [bar.value for bar in bars], color=[bar.colour for bar in bars], height=0.62)
    for row, bar in enumerate(bars):
        axes.annotate(
            f"{bar.value:.3g}", (bar.value, row), (4, 0), textcoords="offset points", va="center", fontsize=8.5
        )
    axes.set_yticks(range(len(bars)), names, fontsize=9, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(unit, fontsize=9)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)


def draw_probe(canvas: Canvas, probed: Probed) -> None:
    """Draw F1 of each action unit that counts, before and after."""
    rows = [n for n in range(len(probed.units)) if not np.isnan(probed.before[n])]
    axes = _open(canvas.add_axes((0.12, 0.2, 0.85, 0.62)))
    for shift, values, colour, name in ((-0.2, probed.before, BEFORE, "before"), (0.2, probed.after, AFTER, "after")):
        axes.bar([n + shift for n in range(len(rows))], values[rows], 0.38, color=colour, label=name)
    axes.set_xticks(range(len(rows)), [probed.units[n] for n in rows], fontsize=8.5)
    axes.set_ylim(0, 1.18)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("F1", fontsize=9)
    axes.legend(fontsize=8.5, frameon=False, ncols=2, loc="upper right")


def draw_faces(canvas: Canvas, faces: Pictures) -> None:
    """Draw faces side by side."""
    axes = _plain(canvas.add_axes((0.02, 0.04, 0.96, 0.8)))
    axes.imshow(np.concatenate(list(np.pad(faces, ((0, 0), (0, 0), (0, 4), (0, 0)), constant_values=1)), axis=1))


def seconds_bars(seconds: Mapping[str, float]) -> list[Bar]:
    """Return a bar for each phase, in order."""
    return [Bar(name, value, QUIET) for name, value in seconds.items()]


def flattened(codes: Codes) -> tuple[NDArray[np.float64], float]:
    """Return codes along their two widest directions, [n, 2], and the share of the variance that lies in them.

    Each direction's sign is such that the largest deviation is positive, so that a picture does not depend on the
    library that computed it.
    """
    centred = codes.astype(np.float64) - codes.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = left[:, :2] * sizes[:2]
    points *= np.where(points.max(0) >= -points.min(0), 1, -1)
    total = float((sizes**2).sum())
    return points, float((sizes[:2] ** 2).sum()) / total if total else 0.0


def title(canvas: Canvas, text: str) -> None:
    """Name a panel."""
    width = canvas.bbox.width / canvas.dpi
    canvas.text(_MARGIN_IN / width, 0.965, text, fontsize=11, fontweight=_BOLD, va="top", parse_math=False)


def _plain(axes: Axes) -> Axes:
    axes.axis("off")
    return axes


def _open(axes: Axes) -> Axes:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    return axes
