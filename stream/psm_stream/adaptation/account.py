"""The account of adaptations: what notices and the summary say of them, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psm_stream.adaptation.events import Outcome, Progress, Started, one_line
from psm_stream.values import NAN

_NUMBERS = frozenset({"loss", "left_s", "retry_s", "budget_s", "loss_before", "loss_after"})
_FACTS = (
    "model_id", "checkpoint_id", "parent", "parent_checkpoint", "person", "seed", "device", "frames", "held_out",
    "epochs", "epochs_done", "seconds", "loss_before", "loss_after", "snapshot_sha256",
)  # fmt: skip
_ENTRY = ("model_id", "parent", "frames", "epochs", "seconds", "accepted", "reason", "loss_before", "loss_after")


def left_s(progress: Progress | None, started: Started | None) -> float | None:
    """Return what a training thinks that it takes yet, s, but no more than its budget leaves."""
    if progress is None or progress.left_s is None:
        return None
    budget_s = started.budget_s if started is not None else None
    if budget_s is None or progress.phase != "training":
        return progress.left_s
    return min(progress.left_s, round(max(budget_s - progress.seconds, 0.0), 3))


def plain(key: str, value: object) -> object:
    """Return a value as the wire wants it: what is missing is NaN for a number, "" for a text; texts are UTF-8."""
    if value is None:
        return NAN if key in _NUMBERS else ""
    return one_line(value) if isinstance(value, str) else value


def facts(outcome: Outcome) -> dict[str, Any]:
    """Return what is published of adaptation.json."""
    tree = outcome.tree
    figures = {key: NAN if value is None else value for key, value in dict(tree.get("figures", {})).items()}
    facts = {key: tree[key] for key in _FACTS if key in tree and not isinstance(tree[key], dict | list)}
    return facts | {"recipe": outcome.recipe, "reason": outcome.reason, "figures": figures}


def entry(outcome: Outcome) -> dict[str, Any]:
    """Return what the summary says of an adaptation."""
    return {key: getattr(outcome, key) for key in (*_ENTRY, "recipe", "device")} | {"stopped": False}


def entry_without_outcome(
    started: Started | None, job: Mapping[str, Any], frames: int, seconds: float, reason: str
) -> dict[str, Any]:
    """Return what the summary says of an adaptation that failed or was stopped.

    started: what its worker said, if it came so far. job: what it was told. frames: in the buffer at its start.
    """
    return {
        "model_id": None,
        "parent": job["parent"],
        "frames": started.frames if started is not None else frames,
        "epochs": 0,
        "seconds": round(seconds, 3),
        "accepted": False,
        "reason": reason,
        "loss_before": None,
        "loss_after": None,
        "recipe": started.recipe if started is not None else job["recipe"],
        "device": started.device if started is not None else job["device"],
    }
