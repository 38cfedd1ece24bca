"""A figure of a comparison of clusters: for each person counts by eps, both models' clusters, how alike they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from psm_adapt.clusters.comparison import PersonResult, Result
from psm_adapt.clusters.novel import Novelty
from psm_adapt.clusters.report import name_of
from psm_adapt.clusters.sweep import NOISE, Labels

DPI = 120
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Okabe and Ito's, which colour-blind people can tell apart; the eighth cluster has the first again, other markers."""
_MARKERS = "o^sDvP*X"


def draw(result: Result, path: Path) -> None:
    """Draw a row of four panels for each person. Raises OSError: it cannot be written; ValueError: an unknown kind."""
    rows = len(result.people)
    figure = Figure(figsize=(15, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False)
    for row, person in zip(axes, result.people, strict=True):
        finest = person.finest()
        at = person.by_setting[finest]
        names = [model.name for model in result.plan.models]
        _counts(row[0], person, names)
        for n in range(2):
            _scatter(row[n + 1], person.codes[n], person.clusterings[finest][n])
            row[n + 1].set_title(
                f"{names[n]}: {at.clusters[n]} clusters, eps {finest.eps:g}, min_samples {finest.min_samples}",
                fontsize=9,
            )
        _matrix(row[3], at.novelty, names)
    figure.savefig(path, dpi=DPI)


def _counts(axes: Axes, person: PersonResult, names: list[str]) -> None:
    """Mean number of clusters at each eps, and the range over min_samples."""
    radii = sorted({setting.eps for setting in person.by_setting})
    for n, name in enumerate(names):
        counts = [
            [at.clusters[n] for setting, at in person.by_setting.items() if setting.eps == radius] for radius in radii
        ]
        axes.plot(radii, [np.mean(some) for some in counts], "o-", color=_COLOURS[n], markersize=4, label=name)
        axes.fill_between(radii, list(map(min, counts)), list(map(max, counts)), color=_COLOURS[n], alpha=0.15)
    axes.set_title(f"{person.person}: clusters by eps", fontsize=9)
    axes.set_xlabel("eps", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _scatter(axes: Axes, codes: NDArray[np.float64], labels: Labels) -> None:
    """Two principal components, noise in grey below the clusters."""
    plane = PCA(2, random_state=0).fit_transform(codes)
    across, up = plane.T
    is_noise = labels == NOISE
    axes.scatter(across[is_noise], up[is_noise], s=4, color="0.8", label="noise")
    for label in np.unique(labels[~is_noise]):
        there = labels == label
        marker = _MARKERS[label // len(_COLOURS) % len(_MARKERS)]
        colour = _COLOURS[label % len(_COLOURS)]
        axes.scatter(across[there], up[there], s=9, color=colour, marker=marker, label=str(label))
    axes.set_xticks([])
    axes.set_yticks([])
    if np.max(labels) < len(_COLOURS):
        axes.legend(fontsize=7, markerscale=1.5, handletextpad=0.1)


def _matrix(axes: Axes, novelty: Novelty, names: list[str]) -> None:
    """How alike each two clusters are; the names of novel ones have a star."""
    axes.imshow(novelty.likeness, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for place, profiles, novel, name in (
        (axes.set_yticks, novelty.first, novelty.novel_first, names[0]),
        (axes.set_xticks, novelty.second, novelty.novel_second, names[1]),
    ):
        words = [name_of(name, label) + (" *" if label in novel else "") for label in profiles.labels]
        place(range(len(words)), words, fontsize=7)
    axes.tick_params(axis="x", rotation=90)
    axes.set_title("likeness of profiles (* novel)", fontsize=9)
    for row, column in np.ndindex(novelty.likeness.shape):
        value = novelty.likeness[row, column]
        if novelty.likeness.size <= 150 and not np.isnan(value):
            colour = "black" if value > 0.6 else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
