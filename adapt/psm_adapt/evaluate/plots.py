"""Plots of an evaluation: a bar for each action unit, a dot for each person joined from model to model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from psm_adapt.evaluate.evaluation import Evaluation
from psm_adapt.evaluate.measures import Measure

DPI = 120
_MOST_NAMED = 12
"""With more people than this their lines have no names."""


def draw(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Draw every measure that has parts, and keep the measures' own pictures. Returns the files. Raises OSError."""
    names = [model.name for model in evaluation.plan.models]
    files = []
    for of_kind in zip(*evaluation.measures, strict=True):
        stem = of_kind[0].kind.key.replace(".", "-")
        if any(measure.by_unit or measure.by_person for measure in of_kind):
            path = folder / f"{stem}.png"
            _figure(names, of_kind).savefig(path, dpi=DPI)
            files.append(path)
        for name, measure in zip(names, of_kind, strict=True):
            if measure.picture is not None:
                path = folder / f"{stem}-{_plain(name)}.png"
                Image.fromarray(measure.picture).save(path)
                files.append(path)
    return files


def _figure(names: Sequence[str], measures: Sequence[Measure]) -> Figure:
    units = list(dict.fromkeys(unit for measure in measures for unit in measure.by_unit))
    has_units = bool(units)
    figure = Figure(figsize=(11 if has_units else 5, 4.2), layout="constrained")
    figure.suptitle(measures[0].kind.title, fontsize=11)
    axes = figure.subplots(1, 2, width_ratios=(2, 1)) if has_units else [figure.subplots()]
    if has_units:
        _bars(axes[0], names, measures, units)
    _dots(axes[-1], names, measures)
    return figure


def _bars(axes: Axes, names: Sequence[str], measures: Sequence[Measure], units: Sequence[str]) -> None:
    width = 0.8 / len(names)
    for n, (name, measure) in enumerate(zip(names, measures, strict=True)):
        there = [(position, measure.by_unit[unit]) for position, unit in enumerate(units) if unit in measure.by_unit]
        middle = (n - (len(names) - 1) / 2) * width
        axes.bar([position + middle for position, _ in there], [value for _, value in there], width, label=name)
    axes.set_xticks(range(len(units)), units, fontsize=8)
    axes.set_title("action units, mean over people", fontsize=9)
    axes.set_ylim(0, 1.12)  # the legend lies above every bar
    axes.set_yticks([n / 5 for n in range(6)])
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="upper center", ncols=len(names))


def _dots(axes: Axes, names: Sequence[str], measures: Sequence[Measure]) -> None:
    people = list(dict.fromkeys(person for measure in measures for person in measure.by_person))
    for person in people:
        there = [(n, measure.by_person[person]) for n, measure in enumerate(measures) if person in measure.by_person]
        columns, values = zip(*there, strict=True)
        axes.plot(columns, values, marker="o", markersize=4, linewidth=0.8, alpha=0.7, color="tab:gray")
        if len(people) <= _MOST_NAMED:
            axes.annotate(person, (columns[-1], values[-1]), (5, -2), textcoords="offset points", fontsize=7)
    means = [(n, measure.value) for n, measure in enumerate(measures) if measure.by_person]
    axes.plot(*zip(*means, strict=True), "_", markersize=22, markeredgewidth=2.5, color="black", label="mean")
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_xlim(-0.5, len(names) - 0.3)
    axes.set_ylim(bottom=0)
    axes.set_title("people", fontsize=9)
    axes.grid(axis="y", alpha=0.3)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
