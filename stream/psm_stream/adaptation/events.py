"""What an adaptation worker says: one JSON object a line, read into typed events and checked.

    started, progress ..., and at the end exactly one of done, rejected, failed

docs/adaptation.md is the place of record for the fields.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

from psm_stream.errors import AdaptationError

PHASES = ("reading", "training", "checking", "exporting")
"""What a worker does, in this order."""
_SHOWN = 80
"""Characters of a wrong line that an error quotes."""
_REASON = 500
"""Characters of a reason that are kept."""
_LARGE = 2**53
"""From here on a whole number is no float."""
_LARGEST = 2**63
_DEEPEST = 16
"""Maps and lists within each other."""
_KINDS = {bool: "true or false", int: "whole number", float: "finite number", str: "text"}

Tree: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Started:
    """The snapshot is read, and training begins. recipe: its name."""

    recipe: str
    device: str
    frames: int
    held_out: int
    epochs: int
    steps: int
    parent: str
    person: str | None
    seed: int
    budget_s: float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is. phase: one of PHASES. seconds: since its start. left_s: estimated, None when nobody knows."""

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    seconds: float
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What adaptation.json says of a training that ended; `tree` is all of it, the other fields what is used here.

    model_id: the new bundle's, None when the model was rejected. parent: the model that it was to beat. recipe: its
    name. epochs: those behind the weights that were kept.
    """

    accepted: bool
    reason: str
    model_id: str | None
    parent: str
    recipe: str
    device: str
    frames: int
    epochs: int
    seconds: float
    loss_before: float | None
    loss_after: float | None
    tree: Tree


@dataclass(frozen=True, slots=True)
class Done:
    """The model passed its gate and is exported. bundle, checkpoint: its folders."""

    outcome: Outcome
    bundle: Path
    checkpoint: Path


@dataclass(frozen=True, slots=True)
class Rejected:
    """The model, or the snapshot, did not pass; `outcome.reason` says why."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no result. reason: one line. was_stopped: because it was told to stop.

    is_for_good: its recipe or arguments are wrong, so that another like it would fail likewise.
    """

    reason: str
    was_stopped: bool = False
    is_for_good: bool = False


WorkerEvent: TypeAlias = Started | Progress | Done | Rejected | Failed


def read_event(line: bytes) -> WorkerEvent:
    """Read one line of a worker's stdout. Raises AdaptationError: it is no event, or a field is missing or wrong."""
    try:
        tree = json.loads(line.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise AdaptationError(f"the worker wrote {shown(line)}, which is no line of JSON") from None
    event = tree.get("event") if isinstance(tree, dict) else None
    read = _READERS.get(event) if isinstance(event, str) else None
    if read is None:
        raise AdaptationError(f"the worker wrote {shown(line)}, which is no event; one of {', '.join(_READERS)}")
    return read(tree)


def read_outcome(tree: Tree) -> Outcome:
    """Read adaptation.json. Raises AdaptationError: a field is missing or wrong, or a value cannot be published."""
    _check_plain(tree)
    figures = tree.get("figures", {})
    are_figures = isinstance(figures, dict) and all(
        name.isascii() and (value is None or type(value) in (int, float)) for name, value in figures.items()
    )
    if not are_figures:
        raise AdaptationError(f"the worker's outcome has figures {_cut(repr(figures))}, which is no map of numbers")
    return Outcome(
        accepted=_take(tree, "accepted", bool),
        reason=one_line(_take(tree, "reason", str)),
        model_id=_take_or_none(tree, "model_id", str),
        parent=_take(tree, "parent", str),
        recipe=_take(tree, "recipe_name", str),
        device=_take(tree, "device", str),
        frames=_take(tree, "frames", int),
        epochs=_take(tree, "epochs", int),
        seconds=_take(tree, "seconds", float),
        loss_before=_take_or_none(tree, "loss_before", float),
        loss_after=_take_or_none(tree, "loss_after", float),
        tree=dict(tree),
    )


def one_line(text: str) -> str:
    """Return a text as one line that a terminal can show: no control characters, not too long."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _REASON else f"{line[: _REASON - 3]}..."


def shown(line: bytes) -> str:
    """Return the beginning of what a worker wrote, as text in quotes."""
    return repr(_cut(one_line(line[: 4 * _SHOWN].decode(errors="replace"))))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _started(tree: Tree) -> Started:
    return Started(
        recipe=_take(tree, "recipe", str),
        device=_take(tree, "device", str),
        frames=_take(tree, "frames", int),
        held_out=_take(tree, "held_out", int),
        epochs=_take(tree, "epochs", int),
        steps=_take(tree, "steps", int),
        parent=_take(tree, "parent", str),
        person=_take_or_none(tree, "person", str),
        seed=_take(tree, "seed", int),
        budget_s=_take_or_none(tree, "budget_s", float),
    )


def _progress(tree: Tree) -> Progress:
    phase = _take(tree, "phase", str)
    if phase not in PHASES:
        raise AdaptationError(f"the worker's progress has phase {_cut(repr(phase))}; one of {', '.join(PHASES)}")
    return Progress(
        phase=phase,
        epoch=_take(tree, "epoch", int),
        epochs=_take(tree, "epochs", int),
        step=_take(tree, "step", int),
        steps=_take(tree, "steps", int),
        loss=_take_or_none(tree, "loss", float),
        seconds=_take(tree, "seconds", float),
        left_s=_take_or_none(tree, "left_s", float),
    )


def _done(tree: Tree) -> Done:
    outcome = read_outcome({key: value for key, value in tree.items() if key not in ("event", "bundle", "checkpoint")})
    if not outcome.accepted or outcome.model_id is None:
        raise AdaptationError("the worker is done, with a model that was not accepted or has no model_id")
    return Done(outcome, Path(_take(tree, "bundle", str)), Path(_take(tree, "checkpoint", str)))


def _rejected(tree: Tree) -> Rejected:
    outcome = read_outcome({key: value for key, value in tree.items() if key != "event"})
    if outcome.accepted:
        raise AdaptationError("the worker rejected a model, and says that it is accepted")
    return Rejected(outcome)


def _failed(tree: Tree) -> Failed:
    return Failed(one_line(_take(tree, "reason", str)))


_READERS: dict[str, Callable[[Tree], WorkerEvent]] = {
    "started": _started,
    "progress": _progress,
    "done": _done,
    "rejected": _rejected,
    "failed": _failed,
}


def _take_or_none(tree: Tree, key: str, kind: type[T]) -> T | None:
    return None if key in tree and tree[key] is None else _take(tree, key, kind)


def _take(tree: Tree, key: str, kind: type[T]) -> T:
    """Return a field of this type. A whole number counts as a float, true and false as no number."""
    value: Any = tree.get(key)
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGE:
        value = float(value)
    if not (isinstance(value, kind) and _is_plain(value)) or (isinstance(value, bool) and kind is not bool):
        what = f"no {key}" if key not in tree else f"{key} {_cut(repr(value))}, which is no {_KINDS[kind]}"
        raise AdaptationError(f"the worker's {tree.get('event', 'outcome')} has {what}")
    return value


def _is_plain(value: object) -> bool:
    """Whether it is no number, or one that the wire can carry: finite (1e999 is not), and not beyond 64 bits."""
    return math.isfinite(value) if isinstance(value, float) else not isinstance(value, int) or abs(value) < _LARGEST


def _check_plain(value: object, depth: int = 0) -> None:
    """Raise AdaptationError: something in it cannot be published."""
    if depth > _DEEPEST or not _is_plain(value):
        raise AdaptationError(f"the worker's outcome has {_cut(ascii(value))}, which cannot be published")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_plain(inner, depth + 1)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
