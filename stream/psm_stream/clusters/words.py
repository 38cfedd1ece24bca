"""What is said of clusters in the terminal: one line for each change, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psm_stream.config import ClustersSettings

_NEWS = {
    "cluster.born": "cluster {cluster} is new ({points} faces)",
    "cluster.returned": "cluster {cluster} is back",
    "cluster.merged": "{others} went into cluster {cluster}",
    "cluster.split": "{others} came out of cluster {cluster}",
    "cluster.moved": "cluster {cluster} has faces that were in {others}",
    "cluster.retired": "cluster {cluster} is gone",
}
_ASKED = {
    "first": "the first",
    "rule": "",
    "order": "asked for",
    "swap": "by the new model",
    "person": "as this person had them",
    "vocabulary": "of the vocabulary",
}


def intention(settings: ClustersSettings, person: str, known: int) -> str:
    """Say at the start of a run what it does of clusters. known: how many the person has from earlier sessions."""
    if settings.method == "off":
        return "clusters off: as asked"
    if settings.method == "vocabulary":
        return f"tokens of the vocabulary {settings.vocabulary}"
    if known:
        first = f"clusters by {settings.method}, beginning with {known} of earlier sessions"
    else:
        first = f"clusters by {settings.method} as soon as {settings.first_faces} faces are there"
    kept = f"; they are kept for {person}, with some faces of each" if person and settings.keep else ""
    return f"{first}, then every {settings.every_s:g} s{kept}"


def news(subject: str, fields: Mapping[str, Any]) -> str:
    """Return the line for a `cluster.*` notice."""
    if subject == "cluster.fitted":
        ids = fields["clusters"]
        asked = _ASKED.get(fields["reason"], fields["reason"])
        how = f", {asked}" if asked else ""
        return f"clusters {fields['cluster_version']}: {_counted(ids)} in {fields['points']} faces{how}"
    others = fields["others"]
    named = f"cluster{'s' * (len(others) > 1)} {', '.join(map(str, others))}"
    return _NEWS[subject].format(**{**fields, "others": named})


def standing(status: Mapping[str, Any]) -> str:
    """Return the line of the status."""
    if status["method"] == "off":
        return "off"
    if not status["version"]:
        fitting = ", being fitted" if status["fitting"] else ""
        return f"{status['faces']} of {status['first_faces']} faces for the first{fitting}"
    points = status["points"]  # none of a vocabulary, nor of what an earlier session left
    share = f"{status['noise'] / points:.0%} of faces in none" if points else ""
    soon = "being fitted" if status["fitting"] else ""
    soon = soon or ("" if status["next_s"] is None else f"again in {status['next_s']:.0f} s at the earliest")
    parts = (_counted(status["clusters"]), share, f"version {status['version']}", soon)
    return ", ".join(part for part in parts if part)


def _counted(ids: list[int]) -> str:
    if len(ids) > 40:
        return f"{len(ids)} clusters"
    return f"{len(ids)} ({', '.join(map(str, ids))})" if ids else "none"
