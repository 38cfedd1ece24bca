"""One adaptation under way: how far it is, what belongs to it, and what comes from aside for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from psm_stream.adaptation.events import Outcome, Progress, Started, WorkerEvent
from psm_stream.adaptation.worker import WorkerProcess
from psm_stream.loader import SwapRefused
from psm_stream.values import SwapEncoder


class State(Enum):
    """Where the adaptation is."""

    IDLE = "idle"
    SNAPSHOT = "snapshot"
    TRAINING = "training"
    OPENING = "opening"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class SnapshotWritten:
    """The recent faces are in a file. error: why they are not, or None."""

    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Said:
    """Something came from aside. number: of the adaptation that it belongs to."""

    number: int
    what: SnapshotWritten | WorkerEvent | SwapEncoder | SwapRefused


@dataclass
class Attempt:
    """One adaptation under way. frames: in the buffer at its start. job: what the worker is told, for the record."""

    number: int
    folder: Path
    trigger: str
    frames: int
    began: float
    job: Mapping[str, Any]
    pending: list[Callable[[], object]]
    """What must be over before the folder goes: each waits for something that uses it."""
    worker: WorkerProcess | None = None
    started: Started | None = None
    progress: Progress | None = None
    told_at: float = 0.0
    outcome: Outcome | None = None
    """Of an accepted model."""
    swap: SwapEncoder | None = None
    """An open encoder that waits for the next frame, or THAW."""
    is_held_back: bool = False
    """A frame came, and it was not taken, by FREEZE; this was told."""
