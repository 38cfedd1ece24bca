"""A worker as the stream starts it: a process with its own priority, watched, until its model is there."""

import json
import queue
import sys
import time
from pathlib import Path

import pytest
from tests.adapt.adaptation.test_work import ANY, QUICK

from psm_stream.adaptation.events import Done, Failed, Progress, Rejected, Started, WorkerEvent
from psm_stream.adaptation.worker import WorkerProcess
from psm_stream.bundle import open_bundle


@pytest.mark.timeout(600)
def test_a_real_adaptation_from_end_to_end(demo_snapshot: Path, tmp_path: Path) -> None:
    told: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
    given = {"snapshot": demo_snapshot, "base": "general", "config": "cpu", "out": tmp_path / "out", "person": "ann"}
    options = {**given, **QUICK, **ANY, "gate.neighbours": "0"}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "psm_adapt", "worker", *words]
    log = tmp_path / "worker.log"
    worker = WorkerProcess(command, told.put, clock=time.monotonic, silence_s=120.0, budget_s=480.0, log=log)
    worker.start()
    try:
        events = [told.get(timeout=590)]
        while not isinstance(events[-1], Done | Rejected | Failed):
            events.append(told.get(timeout=590))
    finally:
        worker.stop()
        assert worker.join(30)
    done = events[-1]
    assert isinstance(done, Done), (done, log.read_text())
    assert open_bundle(done.bundle).manifest.model_id == done.outcome.model_id
    assert json.loads((tmp_path / "out/adaptation.json").read_text()) == done.outcome.tree
    (begun,) = [event for event in events if isinstance(event, Started)]
    assert (begun.recipe, begun.person, begun.parent) == ("cpu", "ann", done.outcome.parent)
    phases = dict.fromkeys(event.phase for event in events if isinstance(event, Progress))
    assert list(phases) == ["reading", "training", "checking", "exporting"]
