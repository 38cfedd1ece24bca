"""An encoder opened beside the loop: it comes warm, or the reason comes why it does not."""

import queue
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from psm_stream.align.crops import Crops
from psm_stream.align.template import Template
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.config import EncoderSettings
from psm_stream.errors import AdaptationError
from psm_stream.loader import SwapRefused, Terms, open_aside
from psm_stream.values import SwapEncoder

PATIENCE_S = 30


def outcome_of(find: Callable[[], Path]) -> object:
    told: queue.SimpleQueue[object] = queue.SimpleQueue()
    open_aside(find, Terms(EncoderSettings(device="cpu"), Crops()), "revert", told.put)
    return told.get(timeout=PATIENCE_S)


def test_the_swap_comes_with_its_reason() -> None:
    swap = outcome_of(general_bundle)
    assert isinstance(swap, SwapEncoder)
    assert (swap.reason, swap.encoder.model_id) == ("revert", open_bundle(general_bundle()).manifest.model_id)


def test_a_bundle_that_changed_is_a_refusal(tmp_path: Path) -> None:
    shutil.copytree(general_bundle(), tmp_path / "bundle")
    (tmp_path / "bundle" / "encoder.onnx").write_bytes(b"another file")
    refused = outcome_of(lambda: tmp_path / "bundle")
    assert isinstance(refused, SwapRefused)
    assert "sha256" in refused.why or "digest" in refused.why


@pytest.mark.parametrize(
    ("crops", "why"),
    [
        (Crops(Template("wide", 0.25, 0.45), 128), "wants crops by eyes-level-1"),
        (Crops(size_px=32), "takes 64 px, and the crops are 32 px"),
    ],
)
def test_an_encoder_of_other_crops_is_a_refusal(crops: Crops, why: str) -> None:
    told: queue.SimpleQueue[object] = queue.SimpleQueue()
    open_aside(general_bundle, Terms(EncoderSettings(device="cpu"), crops), "adapt", told.put)
    refused = told.get(timeout=PATIENCE_S)
    assert isinstance(refused, SwapRefused)
    assert why in refused.why
    assert "by --model" in refused.why
    assert "\n" not in refused.why


def test_a_defect_is_a_refusal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("psm_stream.loader.open_encoder", fails)
    assert outcome_of(general_bundle) == SwapRefused("ZeroDivisionError: a defect")


def test_nothing_to_open_is_a_refusal() -> None:
    def fails() -> Path:
        raise AdaptationError("the disk is full")

    assert outcome_of(fails) == SwapRefused("the disk is full")
