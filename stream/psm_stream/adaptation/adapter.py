"""The adapter: what becomes of the recent faces, from the snapshot to the swap. A state machine of the main thread.

    idle -> snapshot -> training -> opening -> ready -> idle
              thread     process     thread    the next frame, or THAW

Nothing here waits. Whatever is slow runs aside and comes back through the inbox as `Said`, with the number of the
adaptation that it belongs to; what comes of one that was stopped meanwhile is left lying.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from psm_stream.adaptation.account import entry, entry_without_outcome, facts, left_s, plain
from psm_stream.adaptation.attempt import Attempt, Said, SnapshotWritten, State
from psm_stream.adaptation.events import Done, Failed, Outcome, Progress, Rejected, Started
from psm_stream.adaptation.layout import OUT, SNAPSHOT
from psm_stream.adaptation.plan import Plan
from psm_stream.adaptation.triggers import ENOUGH_FACES, Ended, Triggers
from psm_stream.adaptation.worker import WorkerProcess
from psm_stream.adaptation.workspace import Workspace
from psm_stream.align.crops import crops_of
from psm_stream.config import Settings
from psm_stream.encoder import Encoder
from psm_stream.errors import AdaptationError, PsmError
from psm_stream.faces import RecentFaces
from psm_stream.loader import SwapRefused, Terms, open_aside
from psm_stream.people import base_of
from psm_stream.people_keep import keep
from psm_stream.pipeline import Pipeline
from psm_stream.recording import Recording
from psm_stream.values import Embedding, Notice, SwapEncoder

TELL_EVERY_S = 1.0
"""Progress is published at most so often, but for a new phase or epoch."""
LONGEST_S = 4 * 3600.0
"""A worker whose recipe alone limits its time is killed after so long; the longest that ship train for an hour."""
LEAVING_S = 10.0
"""How long the folder of an adaptation waits for its worker to be gone."""


Post: TypeAlias = Callable[[Said], None]


class Adapter:
    """Starts, follows and ends adaptations, one at a time. For the main thread.

    Args:
        plan: Whether this run adapts.
        settings: Of the run.
        session: Its uuid, for the work folder.
        pipeline, faces, recording: What it reads, and where a training is recorded.
        post: Takes what comes from aside, from any thread.
        announce: Publishes a notice.
        swap: Feeds an order to the pipeline, for the next frame.
        prepare: Makes what a swap to an encoder needs, in the thread that opens it.
        clock: Monotonic, s.
    """

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        session: str,
        *,
        pipeline: Pipeline,
        faces: RecentFaces,
        recording: Recording,
        post: Post,
        announce: Callable[[Notice], None],
        swap: Callable[[SwapEncoder], object],
        prepare: Callable[[Encoder], None],
        clock: Callable[[], float],
    ) -> None:
        self.adaptations: list[dict[str, Any]] = []
        """The summary's: one entry for each adaptation that came to an end."""
        self.frozen = False
        self._plan = plan
        self._settings = settings
        self._pipeline = pipeline
        self._faces = faces
        self._recording = recording
        self._post = post
        self._announce = announce
        self._swap = swap
        self._prepare = prepare
        self._clock = clock
        self._triggers = Triggers(settings.adaptation, settings.faces.capacity)
        self._workspace = Workspace(session)
        self._state = State.IDLE
        self._attempt: Attempt | None = None
        self._count = 0
        self._retry_at = self._next_at = -math.inf

    def see(self, embedding: Embedding) -> None:
        """Take note of the first face's embedding of a frame."""
        if self._plan.mode == "auto":
            self._triggers.drift.see(embedding.vector, embedding.face.frame.t_capture)

    def beat(self, now: float) -> None:
        """Start an adaptation if a rule says so."""
        if self._plan.mode != "auto" or self.frozen or self._attempt is not None:
            return
        why = self._triggers.due(now, len(self._faces), self._faces.written)
        if why:
            try:
                self._begin(why)
            except PsmError as error:
                retry_s = self._triggers.ended(now, Ended.FAILED)
                self._retry_at = -math.inf if retry_s is None else now + retry_s
                self._tell("failed", {"reason": str(error), "stopped": False, "retry_s": retry_s})

    def take(self, said: Said) -> None:
        """Take what came from aside."""
        attempt = self._attempt
        if attempt is None or said.number != attempt.number:
            return
        match said.what:
            case SnapshotWritten():
                self._train(attempt, said.what.error)
            case Started():
                attempt.started = said.what
                self._tell("started", asdict(said.what) | {"trigger": attempt.trigger})
            case Progress():
                self._follow(attempt, said.what)
            case Done():
                self._accept(attempt, said.what)
            case Rejected():
                self._reject(attempt, said.what.outcome)
            case Failed():
                if said.what.is_for_good:
                    self._triggers.is_paused = True
                    self._fail(attempt, f"{said.what.reason}; nothing starts by itself before C", Ended.FAILED)
                else:
                    self._fail(attempt, said.what.reason, Ended.FAILED)
            case SwapEncoder():
                attempt.swap = said.what
                self._state = State.READY
            case SwapRefused():
                self._fail(attempt, f"the new model cannot be opened: {said.what.why}", Ended.FAILED)

    def adapt_now(self) -> str:
        """The order `C`: adapt, and let the rules start others from now on. Returns the answer."""
        if self._plan.mode == "off":
            return f"ERROR adaptation is off: {self._plan.why}"
        if self.frozen:
            return "ERROR frozen: nothing is adapted; send THAW first"
        if self._attempt is not None:
            return f"ERROR an adaptation runs already: {self._state.value}"
        enough = min(ENOUGH_FACES, self._settings.faces.capacity)
        if len(self._faces) < enough:
            return f"ERROR {len(self._faces)} faces so far; {enough} are needed"
        self._begin("asked to")
        self._triggers.is_paused = False
        return f"OK {len(self._faces)} faces"

    def stop_adapting(self) -> str:
        """The order `c`: stop what runs, and start nothing before `C`. Returns the answer."""
        was_running = self._attempt is not None
        if self._plan.mode != "auto" and not was_running:
            return "ERROR nothing is being adapted"
        self.pause("stopped by order")
        return "OK stopped" if was_running else "OK nothing is adapted until C"

    def pause(self, why: str) -> str:
        """Stop what runs, and start nothing of one's own accord before `C`. Returns what was stopped, or ""."""
        has_model = self._state in (State.OPENING, State.READY)
        stopped = "" if self._attempt is None else "the new model is not taken" if has_model else "training is stopped"
        was_paused, self._triggers.is_paused = self._triggers.is_paused, True
        self.stop(why)
        if self._plan.mode == "auto" and not was_paused:
            self._tell("waiting", {"model_id": "", "until": "C"})
        return stopped

    def stop(self, why: str) -> None:
        """Stop what runs. A model that waits is not taken."""
        if self._attempt is not None:
            self._fail(self._attempt, why, Ended.STOPPED)

    def before_frame(self) -> None:
        """Order the swap to a model that waits. Not before a frame is there: FREEZE and REVERT can still come first."""
        attempt = self._attempt
        if attempt is None or attempt.swap is None:
            return
        if self.frozen:
            self._hold_back(attempt)
            return
        swap, attempt.swap = attempt.swap, None  # its worker's thread still knows the attempt: a cycle with an encoder
        self._end(Ended.ACCEPTED)
        self._swap(swap)

    def _hold_back(self, attempt: Attempt) -> None:
        if not attempt.is_held_back and attempt.outcome is not None:
            attempt.is_held_back = True
            self._tell("waiting", {"model_id": attempt.outcome.model_id, "until": "THAW"})

    def swapped(self) -> None:
        """Take note that another encoder runs."""
        self._triggers.drift.restart()

    def status(self) -> dict[str, Any]:
        """Return where it stands, as plain values with always the same keys."""
        attempt = self._attempt
        progress = attempt.progress if attempt is not None else None
        return {
            "mode": self._plan.mode,
            "why": self._plan.why,
            "state": self._state.value,
            "paused": self._triggers.is_paused,
            "trigger": attempt.trigger if attempt is not None else "",
            "seconds": round(self._clock() - attempt.began, 1) if attempt is not None else 0.0,
            "phase": progress.phase if progress is not None else "",
            "epoch": progress.epoch if progress is not None else 0,
            "epochs": progress.epochs if progress is not None else 0,
            "loss": progress.loss if progress is not None else None,
            "left_s": None if attempt is None else left_s(attempt.progress, attempt.started),
            "retry_s": self._seconds_until(self._retry_at),
            "next_s": self._seconds_until(self._next_at),
            "drift": round(self._triggers.drift.value, 3),
        }

    def close(self) -> None:
        """End, after `stop`: no process is left, and no work folder. A model that is just being kept is kept."""
        self._workspace.close()

    def _seconds_until(self, then: float) -> float | None:
        """Seconds until a time that is still to come, if something may start by itself then."""
        waits = self._plan.mode == "auto" and self._attempt is None and not self._triggers.is_paused
        left = then - self._clock()
        return round(left, 1) if waits and left > 0 else None

    def _begin(self, trigger: str) -> None:
        """Write a snapshot aside. Raises PsmError: there is nothing to start from, or nowhere to work."""
        newest = self._pipeline.waiting or self._pipeline  # one that is ordered is taken by the next frame
        now, settings, bundle = self._clock(), self._settings.adaptation, newest.encoder.bundle
        base = base_of(bundle)
        if base is None:
            raise AdaptationError(f"the weights of {bundle.folder} are not there to train on from; send REVERT first")
        self._count += 1
        number = self._count
        folder = self._workspace.new(number)
        self._triggers.started(now, self._faces.written)
        self._next_at = now + settings.every_s
        job = {
            "base": base,
            "recipe": settings.recipe,
            "seed": settings.seed,
            "device": settings.device,
            "budget_s": settings.budget_s,
            "person": self._settings.person or None,
            "parent": bundle.manifest.model_id,
            "trigger": trigger,
        }
        written = self._faces.snapshot(folder / SNAPSHOT)
        self._attempt = Attempt(number, folder, trigger, len(self._faces), now, job, pending=[written.exception])
        self._state = State.SNAPSHOT
        written.add_done_callback(lambda future: self._post(Said(number, SnapshotWritten(future.exception()))))

    def _train(self, attempt: Attempt, error: BaseException | None) -> None:
        if error is not None:
            self._fail(attempt, str(error), Ended.FAILED)
            return
        settings = self._settings.adaptation
        attempt.worker = worker = WorkerProcess(
            self._command(attempt),
            lambda event: self._post(Said(attempt.number, event)),
            clock=self._clock,
            silence_s=settings.silence_s,
            budget_s=settings.budget_s or LONGEST_S,
            log=attempt.folder / "worker.log",
        )
        worker.start()
        attempt.pending.append(lambda: worker.join(LEAVING_S))
        self._state = State.TRAINING

    def _command(self, attempt: Attempt) -> list[str]:
        job = attempt.job
        given = {
            "--snapshot": attempt.folder / SNAPSHOT,
            "--base": job["base"],
            "--config": job["recipe"],
            "--out": attempt.folder / OUT,
            "--seed": job["seed"],
            "--device": job["device"],
            "--budget": job["budget_s"],
            "--person": job["person"],
            "--memory-mb": self._settings.adaptation.memory_mb,
        }
        return [*self._plan.command, *(str(part) for pair in given.items() if pair[1] is not None for part in pair)]

    def _follow(self, attempt: Attempt, progress: Progress) -> None:
        last, now = attempt.progress, self._clock()
        attempt.progress = progress
        is_new = last is None or (last.phase, last.epoch) != (progress.phase, progress.epoch)
        if attempt.started is not None and (is_new or now - attempt.told_at >= TELL_EVERY_S):
            attempt.told_at = now
            self._tell("progress", asdict(progress))

    def _accept(self, attempt: Attempt, done: Done) -> None:
        """The model passed: keep it, and open it beside the loop."""
        attempt.outcome = done.outcome
        self.adaptations.append(entry(done.outcome))
        self._tell("done", facts(done.outcome))
        attempt.pending.append(self._recording.adaptation(attempt.folder, attempt.job).exception)
        in_use = self._pipeline.encoder.bundle.folder
        kept: Future[None] = Future()
        attempt.pending.append(kept.exception)

        def keep_it() -> Path:
            try:
                person, out = self._settings.person, attempt.folder / OUT
                return keep(person, out) if person else self._workspace.keep(out, in_use)
            finally:
                kept.set_result(None)

        number, crops = attempt.number, crops_of(self._pipeline.encoder.bundle.manifest, self._settings.aligner.size_px)
        terms = Terms(self._settings.encoder, crops)
        open_aside(keep_it, terms, "adapt", lambda model: self._post(Said(number, model)), self._prepare)
        self._workspace.discard(attempt.folder, attempt.pending)
        self._state = State.OPENING

    def _reject(self, attempt: Attempt, outcome: Outcome) -> None:
        self.adaptations.append(entry(outcome))
        attempt.pending.append(self._recording.adaptation(attempt.folder, attempt.job).exception)
        self._workspace.discard(attempt.folder, attempt.pending)
        self._tell("rejected", facts(outcome) | {"retry_s": self._end(Ended.REJECTED)})

    def _fail(self, attempt: Attempt, reason: str, how: Ended) -> None:
        """End without a new model: it failed, or was stopped, at whatever point."""
        if attempt.outcome is not None:
            why = f"{attempt.outcome.reason}; but it is not taken: {reason}"
            self.adaptations[-1] |= {"accepted": how is Ended.STOPPED, "reason": why}
        else:
            self.adaptations.append(
                entry_without_outcome(
                    attempt.started, attempt.job, attempt.frames, self._clock() - attempt.began, reason
                )
                | {"stopped": how is Ended.STOPPED}
            )
            if attempt.worker is not None:
                attempt.worker.stop()
                recorded = self._recording.adaptation(attempt.folder, attempt.job, reason)
                attempt.pending.append(recorded.exception)
            self._workspace.discard(attempt.folder, attempt.pending)
        self._tell("failed", {"reason": reason, "stopped": how is Ended.STOPPED, "retry_s": self._end(how)})

    def _end(self, how: Ended) -> float | None:
        """Be idle again. Returns in how many seconds the next try is, if one is planned."""
        self._attempt = None
        self._state = State.IDLE
        now = self._clock()
        retry_s = self._triggers.ended(now, how)
        self._retry_at = -math.inf if retry_s is None else now + retry_s
        return retry_s if self._plan.mode == "auto" else None

    def _tell(self, subject: str, fields: Mapping[str, Any]) -> None:
        """Publish a notice."""
        as_wanted = {key: plain(key, value) for key, value in fields.items()}
        self._announce(Notice(f"adapt.{subject}", self._clock(), as_wanted))
