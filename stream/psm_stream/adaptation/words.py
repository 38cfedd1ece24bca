"""Adaptation in words, for the terminal: what is going to happen, what happens, and what has happened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from psm_stream.adaptation.plan import Plan
from psm_stream.config import Settings


def intention(plan: Plan, settings: Settings) -> str:
    """Say at the start of a run what adaptation is going to do in it, and why if it is nothing."""
    how = settings.adaptation
    recipe = "a recipe for this device" if how.recipe == "auto" else f"recipe {how.recipe}"
    if plan.mode == "off":
        return f"adaptation off: {plan.why}"
    if plan.mode == "manual":
        return f"adaptation when C asks for it, by {recipe}"
    return (
        f"adaptation by {recipe} as soon as {settings.faces.capacity} faces are there, then every {how.every_s:g} s "
        "or when the face has changed"
    )


def standing(adapting: Mapping[str, Any], faces: int, capacity: int) -> str:
    """Say where adaptation stands: phase, epoch and estimate while it trains. adapting: `Adapter.status`."""
    if adapting["state"] == "idle":
        return _idle(adapting, faces, capacity)
    epoch = f", epoch {adapting['epoch']} of {adapting['epochs']}" if adapting["epoch"] else ""
    left = "" if adapting["left_s"] is None else f", about {_minutes(adapting['left_s'])} left"
    sentences = {
        "snapshot": "taking the recent faces",
        "training": f"{adapting['phase'] or 'starting'}{epoch}{left}; {_minutes(adapting['seconds'])} so far",
        "opening": "opening the new model",
        "ready": "the new model waits for the next frame, or for THAW",
    }
    return sentences[adapting["state"]]


def news(subject: str, fields: Mapping[str, Any]) -> str:
    """Say in one line what a notice of an adaptation means; "" for progress, which the status shows."""
    match subject:
        case "adapt.started":
            how = f"{fields['epochs']} epochs from {fields['parent']} on {fields['device']}, recipe {fields['recipe']}"
            return f"adapting ({fields['trigger']}): {fields['frames']} faces, {how}"
        case "adapt.done":
            return f"adapted in {fields['seconds']:.0f} s: {fields['model_id']}; {fields['reason']}"
        case "adapt.rejected":
            what = f"adapted model rejected after {fields['seconds']:.0f} s"
            return f"{what}: {fields['reason']}{_again(fields)}"
        case "adapt.failed":
            return f"adaptation ended without a new model: {fields['reason']}{_again(fields)}"
    return ""


def _idle(adapting: Mapping[str, Any], faces: int, capacity: int) -> str:
    if adapting["mode"] == "off":
        return f"off: {adapting['why']}"
    if adapting["mode"] == "manual" or adapting["paused"]:
        return "when C asks for it"
    return f"waits for faces: {faces} of {capacity}" if faces < capacity else "waits for the next occasion"


def _again(fields: Mapping[str, Any]) -> str:
    retry_s = fields["retry_s"]
    return "" if math.isnan(retry_s) else f"; tries again in {retry_s:g} s at the earliest"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
