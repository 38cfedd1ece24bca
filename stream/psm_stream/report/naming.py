"""Which clusters have a place of their own on the page, and what each is called there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psm_stream.clusters.vocabulary import UNKNOWN
from psm_stream.report.story import NOISE, UNSORTED, Story

MOST = 40
"""Clusters with a place of their own: those with the most frames. The rest share a row."""


class Naming:
    """The clusters of a story, in order of their ids."""

    REST = -3

    def __init__(self, story: Story, most: int = MOST) -> None:
        seen = [entry for entry in story.table["clusters"] if entry["frames"]]
        often = sorted(seen, key=lambda entry: -entry["frames"])[:most]
        self.shown: Sequence[int] = sorted(entry["cluster"] for entry in often)
        self.hidden = len(seen) - len(self.shown)
        self._labels: Mapping[int, str] = story.labels
        self._tokens: Mapping[int, str] = story.tokens
        self.noise = UNKNOWN if story.tokens else "noise"
        self._rows = frozenset((*self.shown, NOISE, UNSORTED))

    def row_of(self, cluster: int) -> int:
        """Return the row that a cluster is drawn in."""
        return cluster if cluster in self._rows else self.REST

    def short(self, cluster: int) -> str:
        """Return a cluster's token, or its id where there is no vocabulary; a dash for noise."""
        return "–" if cluster == NOISE else self._tokens.get(cluster, f"{cluster}")

    def name(self, row: int) -> str:
        """Return what a row is called."""
        special = {NOISE: self.noise, UNSORTED: "no clusters", self.REST: f"{self.hidden} rarer"}
        return special.get(row) or f"{self.short(row)} {self._labels.get(row, '')}".rstrip()
