"""What a person reads of an adaptation."""

from typing import Any

import pytest

from psm_stream.adaptation import words
from psm_stream.values import NAN

IDLE: dict[str, Any] = {
    "mode": "auto", "why": "", "state": "idle", "paused": False, "trigger": "", "seconds": 0.0, "phase": "",
    "epoch": 0, "epochs": 0, "loss": None, "left_s": None, "retry_s": None, "next_s": None, "drift": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "faces", "says"),
    [
        ({"mode": "off", "why": "as asked"}, 9, "off: as asked"),
        ({}, 312, "waits for faces: 312 of 500"),
        ({}, 500, "waits for new faces"),
        ({"retry_s": 54.0}, 500, "tries again in 0:54 at the earliest"),
        ({"next_s": 540.0}, 500, "again in 9:00, or when the embeddings have drifted"),
        ({"mode": "manual"}, 500, "when C asks for it"),
        ({"paused": True}, 500, "nothing starts until C"),
        ({"state": "snapshot"}, 500, "taking the recent faces"),
        ({"state": "training"}, 500, "starting; 0:00 so far"),
        (
            {"state": "training", "phase": "training", "epoch": 3, "epochs": 10, "left_s": 112.4, "seconds": 61.0},
            500,
            "training, epoch 3 of 10, about 1:52 left; 1:01 so far",
        ),
        ({"state": "opening"}, 500, "opening the new model"),
        ({"state": "ready"}, 500, "the new model waits for the next frame"),
    ],
)
def test_the_status(changes: dict[str, Any], faces: int, says: str) -> None:
    assert words.standing(IDLE | changes, faces, 500) == says


def test_the_status_while_frozen() -> None:
    assert words.standing(IDLE, 500, 500, is_frozen=True) == "nothing starts until THAW"
    assert words.standing(IDLE | {"state": "ready"}, 500, 500, is_frozen=True) == "the new model waits for THAW"


def test_the_news() -> None:
    started = {"trigger": "first fill", "frames": 486, "epochs": 10, "parent": "a", "device": "cpu", "recipe": "paper"}
    assert words.news("adapt.started", started) == (
        "adapting (first fill): 486 faces, 10 epochs from a on cpu, recipe paper"
    )
    result = {"seconds": 61.2, "model_id": "b", "reason": "better"}
    assert words.news("adapt.done", result) == "adapted in 61 s: b; better"
    rejected = result | {"reason": "too few faces", "retry_s": 60.0}
    assert words.news("adapt.rejected", rejected) == (
        "adapted model rejected after 61 s: too few faces; tries again in 60 s at the earliest"
    )
    failed = {"reason": "killed", "retry_s": NAN}
    assert words.news("adapt.failed", failed) == "adaptation ended without a new model: killed"
    assert words.news("adapt.waiting", {"until": "THAW", "model_id": "b"}) == "b is ready, and waits for THAW"
    assert words.news("adapt.waiting", {"until": "C", "model_id": ""}) == "no adaptation starts until C"
    swapped = {"old": "a", "new": "b", "model_epoch": 1, "trained": True, "frame_index": 7, "reason": "adapt"}
    assert words.news("model.swapped", swapped) == "from frame 7 on: b instead of a"
    assert words.news("adapt.progress", {}) == ""
