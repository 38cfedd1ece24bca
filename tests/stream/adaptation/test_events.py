"""A worker's lines: what is right comes out typed and whole, what is wrong is one line that says what."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psm_stream.adaptation.events import (
    PHASES,
    Done,
    Failed,
    Progress,
    Rejected,
    Started,
    one_line,
    read_event,
    read_outcome,
    shown,
)
from psm_stream.errors import AdaptationError

STARTED: dict[str, Any] = {
    **{"event": "started", "recipe": "cpu", "device": "cpu", "frames": 500, "held_out": 100, "epochs": 3, "steps": 75},
    **{"parent": "eeac21965211", "person": None, "seed": 0, "budget_s": None},
}
PROGRESS: dict[str, Any] = {
    **{"event": "progress", "phase": "training", "epoch": 1, "epochs": 3, "step": 30, "steps": 75},
    **{"loss": 0.25, "seconds": 12, "left_s": 30.5},
}
ABOUT: dict[str, Any] = {
    **{"schema": 1, "accepted": True, "reason": "better", "model_id": "0123456789ab", "checkpoint_id": "a" * 12},
    **{"parent": "eeac21965211", "parent_checkpoint": "b" * 12, "person": "ann", "seed": 0, "device": "cpu"},
    **{"recipe": {"run": {"epochs": 3}}, "recipe_name": "cpu", "frames": 500, "held_out": 100, "epochs": 2},
    **{"epochs_done": 3, "seconds": 80.5, "loss_before": 0.5, "loss_after": 0.4, "figures": {"rank": 12.0}},
}
DONE = {"event": "done", **ABOUT, "bundle": "/out/bundle", "checkpoint": "/out/checkpoint"}
REJECTED = {"event": "rejected", **ABOUT, "accepted": False, "model_id": None, "checkpoint_id": None}

ON_A_BUSY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def test_what_is_right() -> None:
    assert read_event(line(STARTED)) == Started("cpu", "cpu", 500, 100, 3, 75, "eeac21965211", None, 0, None)
    assert read_event(line(PROGRESS) + b"\r") == Progress("training", 1, 3, 30, 75, 0.25, 12.0, 30.5)
    done = read_event(line(DONE))
    assert isinstance(done, Done)
    assert (done.bundle, done.checkpoint) == (Path("/out/bundle"), Path("/out/checkpoint"))
    assert done.outcome == read_outcome(ABOUT)
    assert done.outcome.tree == ABOUT
    assert (done.outcome.recipe, done.outcome.epochs) == ("cpu", 2)
    rejected = read_event(line(REJECTED))
    assert isinstance(rejected, Rejected)
    assert (rejected.outcome.accepted, rejected.outcome.model_id) == (False, None)
    assert read_event(b'{"event": "failed", "reason": "a\\nb"}') == Failed("a b", was_stopped=False)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (b"loading weights", "the worker wrote 'loading weights', which is no line of JSON"),
        (b"caf\xe9", "the worker wrote 'caf\ufffd', which is no line of JSON"),
        (b"[" * 100_000, "which is no line of JSON"),
        (b"1" * 10_000, "which is no line of JSON"),
        (b'{"event": "progress", "loss": NaN}', "which is no line of JSON"),
        (b"[1, 2]", "the worker wrote '[1, 2]', which is no event; one of started, progress, done, rejected, failed"),
        (b"null", "which is no event"),
        (b'{"event": ["done"]}', "which is no event"),
        (b'{"event": "finished"}', "which is no event"),
        (b'{"event": "failed"}', "the worker's failed has no reason"),
        (b'{"event": "failed", "reason": 7}', "the worker's failed has reason 7, which is no text"),
        (line(PROGRESS | {"phase": "dreaming"}), "the worker's progress has phase 'dreaming'; one of reading, "),
        (line(PROGRESS | {"phase": None}), "the worker's progress has phase None, which is no text"),
        (line(PROGRESS | {"epoch": True}), "the worker's progress has epoch True, which is no whole number"),
        (line(PROGRESS | {"epoch": 1.5}), "the worker's progress has epoch 1.5, which is no whole number"),
        (line(PROGRESS | {"seconds": False}), "which is no finite number"),
        (line(PROGRESS | {"seconds": 10**400}), "which is no finite number"),
        (line(PROGRESS).replace(b"0.25", b"1e999"), "the worker's progress has loss inf, which is no finite number"),
        (line(DONE | {"accepted": False}), "with a model that was not accepted"),
        (line(DONE | {"accepted": 1}), "the worker's outcome has accepted 1, which is no true or false"),
        (line(DONE | {"model_id": None}), "has no model_id"),
        (line(DONE | {"bundle": None}), "the worker's done has bundle None, which is no text"),
        (line(REJECTED | {"accepted": True}), "rejected a model, and says that it is accepted"),
        (line(STARTED | {"frames": 2**70}), "which is no whole number"),
        (line(REJECTED | {"seed": 2**70}), "the worker's outcome has 1180591620717411303424, which cannot be publish"),
        (line(REJECTED | {"recipe": {"a": [2**70]}}), "which cannot be published"),
        (line(REJECTED | {"figures": None}), "the worker's outcome has figures None, which is no map of numbers"),
        (line(REJECTED | {"figures": {"rank": "high"}}), "which is no map of numbers"),
        (line(REJECTED | {"figures": {"\ud800": 1}}), "which is no map of numbers"),
        (line(REJECTED).replace(b'{"rank": 12.0}', b"[" * 50 + b"]" * 50), "which cannot be published"),
    ],
    ids=range(30),
)
def test_what_is_wrong_is_said_in_one_line(wrong: bytes, says: str) -> None:
    with pytest.raises(AdaptationError) as caught:
        read_event(wrong)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("event", [STARTED, PROGRESS, DONE, REJECTED], ids=lambda event: event["event"])
def test_each_field_that_is_used_must_be_there(event: dict[str, Any]) -> None:
    unused = {"schema", "checkpoint_id", "parent_checkpoint", "held_out", "epochs_done", "figures", "recipe"}
    unused |= {"person", "seed"}
    for key in event.keys() - {"event"} - (unused if "accepted" in event else set()):
        with pytest.raises(AdaptationError, match=f"has no {key}$"):
            read_event(line({name: value for name, value in event.items() if name != key}))


@ON_A_BUSY_MACHINE
@given(st.binary())
def test_any_bytes_are_an_event_or_an_error(something: bytes) -> None:
    with suppress(AdaptationError):
        read_event(something)
    assert shown(something).isprintable()


@ON_A_BUSY_MACHINE
@given(st.dictionaries(st.sampled_from(sorted({*STARTED, *PROGRESS, *DONE})), st.none() | st.text() | st.floats()))
def test_any_fields_are_an_event_or_an_error(fields: dict[str, Any]) -> None:
    for event in (STARTED, PROGRESS, DONE, REJECTED):
        with suppress(AdaptationError):
            read_event(line(event | fields))


@ON_A_BUSY_MACHINE
@given(st.text())
def test_a_line_is_one_that_a_terminal_can_show(text: str) -> None:
    assert one_line(text).isprintable()
    assert len(one_line(text * 100)) <= 500
    assert one_line("\x1b[31mred\n\n  and\tblue\r") == "[31mred and blue"


def test_the_phases_are_what_the_worker_goes_through() -> None:
    assert PHASES == ("reading", "training", "checking", "exporting")
