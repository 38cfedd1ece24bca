"""What happened in a session, in words, as it was published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psm_stream.adaptation import words as adaptation_words
from psm_stream.clusters import words as cluster_words

COUNTED = frozenset({"ready", "face.found", "face.lost", "adapt.progress"})
"""Subjects that are no events of their own: too many, or told elsewhere on the page."""


def words(subject: str, fields: Mapping[str, Any]) -> str:
    """Say what a notice means. fields: its header, which another version may have written."""
    try:
        if subject.startswith("cluster."):
            return cluster_words.news(subject, fields)
        said = adaptation_words.news(subject, fields)
        return said or _rest(subject, fields)
    except (KeyError, TypeError, ValueError):
        return subject


def _rest(subject: str, fields: Mapping[str, Any]) -> str:
    match subject:
        case "source.lost":
            return f"the source was lost: {fields['error']}"
        case "source.back":
            return "the source is back"
        case "recording.started":
            return "recording started"
        case "recording.stopped":
            return f"recording stopped: {fields['reason']}"
        case "recording.incomplete" | "recording.video":
            return f"the recording is incomplete: {fields['reason']}"
        case _:
            return subject
