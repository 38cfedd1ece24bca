"""Rerun: each training of a recorded session is done again by the worker, and compared with what came of it then.

The worker is a process of its own, as beside the live stream, so torch stays out of this one. It is given the recorded
snapshot, base, recipe, seed and device. Same versions and same machine: the same weights.
"""

from __future__ import annotations

import json
import queue
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from psm_stream.adaptation.events import Done, Failed, Outcome, Progress, Rejected, WorkerEvent
from psm_stream.adaptation.layout import CHECKPOINT, CHECKPOINT_ABOUT
from psm_stream.adaptation.plan import WORKER, missing
from psm_stream.adaptation.worker import WorkerProcess
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import AdaptationError, PsmError, SessionError
from psm_stream.faces import read_snapshot
from psm_stream.record.adaptations import (
    Recorded,
    checkpoint_files,
    read_json,
)
from psm_stream.record.reader import Session
from psm_stream.record.session import MODELS
from psm_stream.values import Image

Verdict = Literal["same", "near", "far", "failed", "left out"]
"""same: equal to the bit. near: within the tolerance of the recorded bundle. far: not. failed: it could not be done
again. left out: there is nothing to compare with, since it failed when it was recorded."""

Tell = Callable[[float, str], None]
"""Told how far a training is, 0..1, and in which phase."""

SILENCE_S = 300.0
"""Nobody waits for a frame here, so a worker on a busy machine is given more time than beside a stream."""
LONGEST_S = 24 * 3600.0

_SHARES = {"reading": 0.0, "training": 0.05, "checking": 0.9, "exporting": 0.95}
"""How far a training is when a phase begins."""
_TICK_S = 0.2
_STOP_S = 5.0
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


@dataclass(frozen=True, slots=True)
class Distance:
    """How far the new model is from the recorded one.

    crops: of the snapshot, encoded by both. max_abs: largest difference in a value. mean_cosine, min_cosine: over the
    crops. tolerance: what max_abs may be, from the recorded bundle's manifest. weights_max_abs: largest difference
    between their checkpoints' weights; None: one of them is not there, or of another shape.
    """

    crops: int
    max_abs: float
    mean_cosine: float
    min_cosine: float
    tolerance: float
    weights_max_abs: float | None


@dataclass(frozen=True, slots=True)
class Rerun:
    """What became of one adaptation. recorded, repeated: model_id, "rejected" or "failed". reason: in one line."""

    number: str
    verdict: Verdict
    recorded: str
    repeated: str
    reason: str
    seconds: float = 0.0
    distance: Distance | None = None

    @property
    def is_repeated(self) -> bool:
        """Whether nothing speaks against the recording."""
        return self.verdict not in ("far", "failed")


def check_can_train() -> None:
    """Raise AdaptationError: nothing can be trained here."""
    if missing():
        raise AdaptationError(
            f"--adapt rerun trains again, which needs {', '.join(missing())}: pip install 'psm-stream[adapt]'"
        )


def rerun(
    session: Session,
    recorded: Recorded,
    tell: Tell = lambda *_: None,
    *,
    device: str | None = None,
    worker: Sequence[str] | None = None,
) -> Rerun:
    """Repeat an adaptation of a session, and say how far the result is from the recorded one.

    device: cpu, cuda or auto; None: as it was recorded. worker: its command; None: the
    one that the live path runs.
    """
    if recorded.has_failed:
        return Rerun(recorded.number, "left out", "failed", "", f"it failed then: {recorded.text('reason')}")
    with tempfile.TemporaryDirectory(prefix="psm-rerun-") as folder:
        return _repeat(session, recorded, _Attempt(Path(folder), device, worker or WORKER, tell))


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Where and how an adaptation is repeated. folder: empty, and gone afterwards."""

    folder: Path
    device: str | None
    worker: Sequence[str]
    tell: Tell

    @property
    def out(self) -> Path:
        """Where the worker writes."""
        return self.folder / "out"


def _repeat(session: Session, recorded: Recorded, attempt: _Attempt) -> Rerun:
    then = recorded.text("model_id") or "rejected"
    start = time.monotonic()
    try:
        outcome = _train(session, recorded, attempt)
        seconds = time.monotonic() - start
        again = outcome.model_id or "rejected"
        if not recorded.is_accepted or not outcome.accepted:
            verdict, reason = _without_a_model(recorded, outcome)
            return Rerun(recorded.number, verdict, then, again, reason, seconds)
        distance = _distance(session, recorded, attempt.out)
    except PsmError as error:
        return Rerun(recorded.number, "failed", then, "failed", str(error), time.monotonic() - start)
    if again == then and not distance.weights_max_abs:
        return Rerun(recorded.number, "same", then, again, "equal to the bit", seconds, distance)
    verdict = "near" if distance.max_abs <= distance.tolerance else "far"  # far for NaN
    return Rerun(recorded.number, verdict, then, again, _in_words(distance), seconds, distance)


def _train(session: Session, recorded: Recorded, attempt: _Attempt) -> Outcome:
    """Run the worker, and return what it says of the outcome. Raises PsmError: it cannot be repeated."""
    command = [*attempt.worker, *_arguments(session, recorded, attempt)]
    events: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
    process = WorkerProcess(
        command,
        events.put,
        clock=time.monotonic,
        silence_s=SILENCE_S,
        budget_s=LONGEST_S,
        log=attempt.folder / "worker.log",
    )
    process.start()
    try:
        while True:
            try:
                event = events.get(timeout=_TICK_S)  # in slices, so that Ctrl-C is heard on every system
            except queue.Empty:
                continue
            if isinstance(event, Progress):
                attempt.tell(_share(event), event.phase)
            elif isinstance(event, Done | Rejected):
                _check_parent(recorded, event.outcome)
                return event.outcome
            elif isinstance(event, Failed):
                raise AdaptationError(f"the worker failed: {event.reason}")
    finally:
        process.stop()
        process.join(_STOP_S)


def _arguments(session: Session, recorded: Recorded, attempt: _Attempt) -> list[str]:
    outcome = recorded.outcome
    name = recorded.text("recipe_name")  # by whoever made the session: it must not lead out of our folder
    recipe = attempt.folder / f"{name if _NAME.fullmatch(name) else 'recipe'}.yaml"
    recipe.write_text(yaml.safe_dump(_recipe(recorded)), encoding="utf-8")
    arguments = {
        "--snapshot": recorded.snapshot.absolute(),
        "--base": _base(session, recorded),
        "--config": recipe,
        "--out": attempt.out,
        "--seed": outcome.get("seed"),
        "--device": attempt.device or outcome.get("device"),
        "--person": outcome.get("person"),
    }
    given = {name: str(value) for name, value in arguments.items() if value is not None}
    return [word for pair in given.items() for word in pair]


def _recipe(recorded: Recorded) -> dict[str, Any]:
    """Return the recipe as it was resolved then, with time for all that was done, and no epoch more."""
    recipe = recorded.outcome.get("recipe")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("run"), dict):
        raise SessionError(f"{recorded.folder} names no recipe")
    run = {**recipe["run"], "budget_s": LONGEST_S}
    done = recorded.outcome.get("epochs_done")
    if isinstance(done, int) and done < run.get("epochs", 0):  # its time was up then
        run["stop_after"] = done
    return {**recipe, "run": run}


def _base(session: Session, recorded: Recorded) -> str:
    """Find what a training started from, by the id of its weights. Raises SessionError: it is not to be had."""
    wanted = recorded.text("parent_checkpoint")
    for about in sorted((session.folder / MODELS).glob(f"*/{CHECKPOINT}/{CHECKPOINT_ABOUT}")):
        if read_json(about).get("model_id") == wanted:
            return str(about.parent.absolute())
    parent = recorded.text("parent")
    shipped = open_bundle(general_bundle()).manifest.model_id
    if parent == shipped:
        return "general"
    if recorded.job.get("base") == "general":
        raise SessionError(
            f"it started from the general model {parent}, and this psm-stream ships {shipped}; install "
            f"{session.info.versions.get('psm-stream', 'the version that recorded it')} to repeat it"
        )
    raise SessionError(f"the session has no weights of {parent}, which it started from")


def _check_parent(recorded: Recorded, outcome: Outcome) -> None:
    then, now = recorded.text("parent_checkpoint"), outcome.tree.get("parent_checkpoint")
    if then != now:
        raise SessionError(f"it started from the weights {then}, which have changed since: now they are {now}")


def _share(at: Progress) -> float:
    """How far a training is, 0..1."""
    begin = _SHARES[at.phase]
    end = min((share for share in _SHARES.values() if share > begin), default=1.0)
    return begin + (end - begin) * min(at.step / at.steps, 1.0) if at.steps else begin


def _without_a_model(recorded: Recorded, outcome: Outcome) -> tuple[Verdict, str]:
    """Compare two verdicts of which one is a rejection at least."""
    if recorded.is_accepted != outcome.accepted:
        then = "accepted" if recorded.is_accepted else f"rejected ({recorded.text('reason')})"
        now = "accepted" if outcome.accepted else f"rejected ({outcome.reason})"
        return "far", f"it was {then}, and is {now}"
    losses = [(recorded.outcome.get(key), getattr(outcome, key)) for key in ("loss_before", "loss_after")]
    if all(one == other for one, other in losses):
        return "same", f"the same figures: {outcome.reason}"
    before, after = recorded.outcome.get("loss_after"), outcome.loss_after
    return "near", f"with a loss of {after} and not {before}: {outcome.reason}"


def _distance(session: Session, recorded: Recorded, out: Path) -> Distance:
    """Encode the snapshot's crops with both models. Raises PsmError: one of them cannot run."""
    then = session.model_folder(recorded.text("model_id"))
    crops = read_snapshot(recorded.snapshot)["crops"]
    one, other = (_codes(folder, crops) for folder in (then, out / "bundle"))
    if one.shape != other.shape:
        raise SessionError(f"the new model gives {other.shape[1]} values, the recorded one {one.shape[1]}")
    cosines = np.sum(one * other, axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return Distance(
        crops=len(crops),
        max_abs=float(np.max(np.abs(one - other))),
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        tolerance=open_bundle(then).manifest.parity.tolerance,
        weights_max_abs=weights_apart(then / CHECKPOINT, out / CHECKPOINT),
    )


def _codes(folder: Path, crops: Iterable[Image]) -> NDArray[np.float64]:
    """Return [n, D] float64: the codes of crops by the model in a bundle's folder, on the CPU."""
    encoder = open_encoder(open_bundle(folder), "cpu")
    return np.stack([encoder.encode(crop) for crop in crops]).astype(np.float64)


def weights_apart(one: Path, other: Path) -> float | None:
    """Return the largest difference between the weights of two checkpoints' folders; None if they do not compare.

    Raises SessionError: a file in one of them is not what it should be.
    """
    if not ((one / CHECKPOINT_ABOUT).is_file() and (other / CHECKPOINT_ABOUT).is_file()):
        return None
    files = checkpoint_files(one)
    if files.keys() != checkpoint_files(other).keys():
        return None
    if files == checkpoint_files(other):
        return 0.0
    worst = 0.0
    for name in files:
        ours, theirs = _weights(one / name), _weights(other / name)
        if {key: value.shape for key, value in ours.items()} != {key: value.shape for key, value in theirs.items()}:
            return None
        for key, value in ours.items():
            worst = max(worst, float(np.max(np.abs(value - theirs[key]), initial=0.0)))
    return worst


def _weights(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the floating-point tensors of a safetensors file: a length, a JSON header, and raw little-endian numbers.

    Raises SessionError: it is not one.
    """
    try:
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        tensors = {key: about for key, about in header.items() if key != "__metadata__" and about["dtype"] in _FLOATS}
        return {
            key: np.frombuffer(content[start:][slice(*about["data_offsets"])], _FLOATS[about["dtype"]])
            .reshape(about["shape"])
            .astype(np.float64)
            for key, about in tensors.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SessionError(f"{path} is no safetensors file: {' '.join(str(error).split())}") from None


def _in_words(distance: Distance) -> str:
    weights = "" if distance.weights_max_abs is None else f"; weights by up to {distance.weights_max_abs:.3g}"
    return (
        f"codes of {distance.crops} crops are off by up to {distance.max_abs:.3g} (tolerance "
        f"{distance.tolerance:g}), cosine {distance.mean_cosine:.6f} on average and {distance.min_cosine:.6f} at "
        f"least{weights}"
    )
