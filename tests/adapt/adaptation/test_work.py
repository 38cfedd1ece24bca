"""An adaptation as a whole: what is written, told and refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from psm_adapt.adaptation.snapshot import load_snapshot
from psm_adapt.adaptation.work import Outcome, WorkJob, open_base, run
from psm_adapt.checkpoint import open_checkpoint
from psm_stream.adaptation.layout import ADAPTATION
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import AdaptationError, CheckpointError, ConfigError

QUICK = {"run.epochs": "1", "run.batch_size": "8", "screen.fewest": "20"}
ANY = {"gate.gain": "0", "gate.informed": "-1", "gate.neutral": "9", "gate.rank": "0", "gate.spread": "0"}
"""A gate that lets through what is better at all."""


def adapt(snapshot: Path, out: Path, overrides: Mapping[str, str], **job: Any) -> tuple[Outcome, list[dict[str, Any]]]:
    told: list[dict[str, Any]] = []
    given = {"base": "general", "config": "cpu", "seed": 3, **job}
    return run(WorkJob(snapshot, out=out, overrides=overrides, **given), told.append), told


@pytest.fixture(scope="module")
def done(demo_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("work") / "out"
    return out, *adapt(demo_snapshot, out, QUICK | ANY | {"gate.neighbours": "0"}, person="ann")


def test_a_model_comes_out_that_the_live_path_runs(
    done: tuple[Path, Outcome, list[dict[str, Any]]], demo_snapshot: Path
) -> None:
    out, outcome, told = done
    assert outcome.adaptation.accepted, outcome.adaptation.reason
    bundle = open_bundle(out / "bundle")
    about = open_checkpoint(out / "checkpoint").about
    general = open_bundle(general_bundle()).manifest
    assert bundle.manifest.model_id == outcome.adaptation.model_id == told[-1]["model_id"]
    assert bundle.manifest.parent == outcome.adaptation.parent == general.model_id
    assert about.model_id == outcome.adaptation.checkpoint_id
    assert (about.person, bundle.manifest.person) == ("ann", "ann")
    assert about.parent == outcome.adaptation.parent_checkpoint
    encoders = [open_encoder(open_bundle(folder), "cpu", 1) for folder in (out / "bundle", general_bundle())]
    vectors = [encoder.encode(load_snapshot(demo_snapshot).crops[0]) for encoder in encoders]
    assert np.isfinite(vectors[0]).all()
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01  # it has learned something
    assert vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1]) > 0.5  # and is its child


def test_what_happened_is_told_and_written(done: tuple[Path, Outcome, list[dict[str, Any]]]) -> None:
    out, outcome, told = done
    assert [event["event"] for event in told if event["event"] != "progress"] == ["started", "done"]
    phases = [event["phase"] for event in told if event["event"] == "progress"]
    assert list(dict.fromkeys(phases)) == ["reading", "training", "checking", "exporting"]
    written = json.loads((out / ADAPTATION).read_text())
    assert written == {key: value for key, value in told[-1].items() if key not in ("event", "bundle", "checkpoint")}
    assert written["loss_after"] < written["loss_before"]
    assert written["recipe"]["run"]["epochs"] == 1
    assert sum(written["seconds_by_phase"].values()) == pytest.approx(written["seconds"], abs=0.01)
    assert written["frames"] == 48
    assert written["snapshot_sha256"] == outcome.snapshot.sha256


def test_the_next_adaptation_starts_from_the_last(
    done: tuple[Path, Outcome, list[dict[str, Any]]], tmp_path: Path
) -> None:
    out, outcome, _ = done
    base = open_base(str(out))
    assert base.checkpoint.about.model_id == outcome.adaptation.checkpoint_id
    with pytest.raises(CheckpointError):
        open_base(str(tmp_path))


def test_same_snapshot_and_seed_give_the_same_model(
    done: tuple[Path, Outcome, list[dict[str, Any]]], demo_snapshot: Path, tmp_path: Path
) -> None:
    _, outcome, _ = done
    again, _ = adapt(demo_snapshot, tmp_path / "again", QUICK | ANY | {"gate.neighbours": "0"}, person="ann")
    assert again.adaptation.checkpoint_id == outcome.adaptation.checkpoint_id
    assert again.adaptation.model_id == outcome.adaptation.model_id


def test_what_the_gate_refuses_leaves_no_model(demo_snapshot: Path, tmp_path: Path) -> None:
    outcome, told = adapt(demo_snapshot, tmp_path / "out", QUICK | {"gate.gain": "0.9"})
    assert told[-1]["event"] == "rejected"
    assert not outcome.adaptation.accepted
    assert outcome.adaptation.loss_before is not None
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [ADAPTATION]


def test_a_snapshot_that_shows_too_little_is_rejected_before_any_training(demo_snapshot: Path, tmp_path: Path) -> None:
    outcome, told = adapt(demo_snapshot, tmp_path / "out", {"screen.fewest": "49"})
    assert [event["event"] for event in told] == ["progress", "rejected"]
    assert "48" in outcome.adaptation.reason
    assert outcome.adaptation.epochs_done == 0


def test_nothing_is_written_over(demo_snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        adapt(demo_snapshot, tmp_path, QUICK)
    with pytest.raises(AdaptationError, match="snapshot"):
        adapt(tmp_path / "none.npz", tmp_path / "new", QUICK)


def test_general_is_the_shipped_model_whatever_lies_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "general").mkdir()
    monkeypatch.chdir(tmp_path)
    assert open_base("general").model_id == open_bundle(general_bundle()).manifest.model_id
