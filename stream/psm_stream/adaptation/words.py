"""Adaptation in words, for the terminal: what is going to happen, what happens, and what has happened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from psm_stream.adaptation.plan import Plan
from psm_stream.config import Settings

_AUTO = {"auto": ": gpu where torch finds CUDA, else cpu", "cpu": ": cpu", "cuda": ": gpu"}
"""What the recipe auto is, by the device that was asked for."""


def intention(plan: Plan, settings: Settings) -> str:
    """Say at the start of a run what adaptation is going to do in it, and why if it is nothing."""
    how = settings.adaptation
    recipe = f"recipe {how.recipe}" + (_AUTO[how.device] if how.recipe == "auto" else "")
    if plan.mode == "off":
        return f"adaptation off: {plan.why}"
    if plan.mode == "manual":
        return f"adaptation when C asks for it, by {recipe}"
    return (
        f"adaptation as soon as {settings.faces.capacity} faces are there, then every {how.every_s:g} s or when the "
        f"embeddings have drifted, by {recipe}"
    )


def standing(adapting: Mapping[str, Any], faces: int, capacity: int, is_frozen: bool = False) -> str:
    """Say where adaptation stands: phase, epoch and estimate while it trains. adapting: `Adapter.status`."""
    if adapting["state"] == "idle":
        return _idle(adapting, faces, capacity, is_frozen)
    epoch = f", epoch {adapting['epoch']} of {adapting['epochs']}" if adapting["epoch"] else ""
    left = "" if adapting["left_s"] is None else f", about {_minutes(adapting['left_s'])} left"
    sentences = {
        "snapshot": "taking the recent faces",
        "training": f"{adapting['phase'] or 'starting'}{epoch}{left}; {_minutes(adapting['seconds'])} so far",
        "opening": "opening the new model",
        "ready": f"the new model waits for {'THAW' if is_frozen else 'the next frame'}",
    }
    return sentences[adapting["state"]]


def news(subject: str, fields: Mapping[str, Any]) -> str:
    """Say in one line what a notice of an adaptation means; "" for progress, which the status shows."""
    line = ""
    match subject:
        case "model.swapped":
            line = _swap(fields)
        case "adapt.waiting":
            thaw = fields["until"] == "THAW"
            line = f"{fields['model_id']} is ready, and waits for THAW" if thaw else "no adaptation starts until C"
        case "adapt.started":
            how = f"{fields['epochs']} epochs from {fields['parent']} on {fields['device']}, recipe {fields['recipe']}"
            line = f"adapting ({fields['trigger']}): {fields['frames']} faces, {how}"
        case "adapt.done":
            line = f"adapted in {fields['seconds']:.0f} s: {fields['model_id']}; {fields['reason']}"
        case "adapt.rejected":
            what = f"adapted model rejected after {fields['seconds']:.0f} s"
            line = f"{what}: {fields['reason']}{_again(fields)}"
        case "adapt.failed":
            line = f"adaptation ended without a new model: {fields['reason']}{_again(fields)}"
    return line


def _idle(adapting: Mapping[str, Any], faces: int, capacity: int, is_frozen: bool) -> str:
    if adapting["mode"] == "off":
        return f"off: {adapting['why']}"
    if adapting["mode"] == "manual":
        return "when C asks for it"
    if adapting["paused"] or is_frozen:
        return f"nothing starts until {'C' if adapting['paused'] else 'THAW'}"
    return _next(adapting) if faces >= capacity else f"waits for faces: {faces} of {capacity}"


def _swap(fields: Mapping[str, Any]) -> str:
    back = "back by REVERT, " if fields["reason"] == "revert" else ""
    untrained = "" if fields["trained"] else "; it is UNTRAINED"
    return f"from frame {fields['frame_index']} on: {back}{fields['new']} instead of {fields['old']}{untrained}"


def _next(adapting: Mapping[str, Any]) -> str:
    if adapting["retry_s"] is not None:
        return f"tries again in {_minutes(adapting['retry_s'])} at the earliest"
    if adapting["next_s"] is not None:
        return f"again in {_minutes(adapting['next_s'])}, or when the embeddings have drifted"
    return "waits for new faces"


def _again(fields: Mapping[str, Any]) -> str:
    retry_s = fields["retry_s"]
    return "" if math.isnan(retry_s) else f"; tries again in {retry_s:g} s at the earliest"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
