"""Any bundle runs behind --model: another input size, dimension and template, from the camera's side to the replay."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.stream.cli.running import Running, balanced, run, tool
from tests.stream.people_models import kept
from tests.stream.tiny_bundles import WIDE, ours, tiny

from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.client import Control, Subscriber
from psm_stream.record.reader import Session
from psm_stream.values import Faces

GENERAL_ID = open_bundle(general_bundle()).manifest.model_id
CLUSTERS = ("--clusters.first_faces", "60", "--clusters.min_cluster_size", "8")


def eyes_of(session: Path) -> tuple[float, float, int]:
    """Where the eyes lie in a session's crops, as shares of the side, and how large the crops are."""
    found = []
    for item in Session(session).inputs():
        if isinstance(item, Faces):
            face = item.faces[0]
            eyes = [face.landmarks[list(corners)].mean(axis=0) for corners in ((33, 133), (362, 263))]
            (left_x, left_y), (right_x, right_y) = (face.to_crop[:, :2] @ eye + face.to_crop[:, 2] for eye in eyes)
            side = face.crop.shape[0]
            found.append(((right_x - left_x) / side, ((left_y + right_y) / 2 + 0.5) / side))
    across, down = (sum(values) / len(found) for values in zip(*found, strict=True))
    return across, down, side


def test_another_size_dimension_and_template_run_record_and_replay(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    bundle = tiny(tmp_path / "tiny")
    model_id = bundle.manifest.model_id
    running = start("--model", str(bundle.folder), "--record", str(tmp_path / "sessions"), *CLUSTERS)
    with (
        Control(running.address()) as control,
        Subscriber(running.address(), ["embedding.", "notify."]) as subscriber,
    ):
        first = next(message for message in subscriber if message.topic == "embedding.00")
        assert first.array.shape == (768,)
        assert control.send("REVERT") == (
            "OK the encoder that this run started with (the general one takes other crops) runs already"
        )
        assert control.send("C").startswith("ERROR adaptation is off: ")
        next(message for message in subscriber if message.topic == "notify.cluster.fitted")
    outcome = running.end(signal.SIGINT)
    assert (outcome.code, outcome.errors) == (130, [])
    assert balanced(outcome.summary)
    assert outcome.summary["model_ids"] == [model_id]
    assert outcome.summary["model_licence"] == "CC0"
    assert outcome.summary["model_training_data"] == ["nothing at all"]
    assert "licence CC0; trained on: nothing at all; crops of 256 px by wide" in outcome.stderr
    assert "adaptation off: " in outcome.stderr

    (folder,) = (tmp_path / "sessions").glob("*/001")
    info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    assert info["terms"] == {model_id: "licence CC0; trained on: nothing at all"}
    assert info["config"]["aligner"]["size_px"] == 256
    assert info["config"]["aligner"]["template"] == {"name": "wide", "eye_distance": 0.25, "eye_line_y": 0.45}
    across, down, side = eyes_of(folder)
    assert (across, down, side) == (pytest.approx(0.25, abs=0.02), pytest.approx(0.45, abs=0.02), 256)
    verified = tool("replay", str(folder), "--verify", "--json", "--quiet")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["embeddings"] == outcome.summary["published"]["embedding"]


def test_a_larger_input_by_our_template_reverts_to_the_general_encoder(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    bundle = ours(tmp_path / "ours")
    options = ("--clusters.method", "off", "--adapt", "off")
    running = start("--model", str(bundle.folder), "--record", str(tmp_path / "sessions"), *options)
    with (
        Control(running.address()) as control,
        Subscriber(running.address(), ["embedding.", "notify.model."]) as subscriber,
    ):
        next(message for message in subscriber if message.topic == "embedding.00")
        assert control.send("REVERT") == f"OK {GENERAL_ID} is taken at the next frame"
        next(message for message in subscriber if message.topic == "notify.model.swapped")
        next(message for message in subscriber if message.topic == "embedding.00")
    assert running.end(signal.SIGINT).summary["model_ids"] == [bundle.manifest.model_id, GENERAL_ID]
    (folder,) = (tmp_path / "sessions").glob("*/001")
    verified = tool("replay", str(folder), "--verify", "--quiet")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_crops_that_are_too_small_are_refused_at_the_start(tmp_path: Path) -> None:
    bundle = ours(tmp_path / "ours")
    outcome = run(tmp_path, "--model", str(bundle.folder), "--aligner.size_px", "128")
    assert outcome.code == 2
    (error,) = outcome.errors
    assert "aligner.size_px 128 is smaller than the input of encoder" in error
    assert "set 256 or more" in error


def test_a_person_s_model_of_another_template_is_left_aside_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    kept(tmp_path, "ada", "a" * 12)
    bundle = tiny(tmp_path / "tiny", size_px=64, dimension=8)
    options = ("--person", "ada", "--model", str(bundle.folder), "--frames", "5", "--clusters.method", "off")
    outcome = run(tmp_path, *options)
    assert (outcome.code, outcome.errors) == (0, [])
    assert f"ada's newest model is left aside: encoder {'a' * 12} wants crops by eyes-level-1" in outcome.stderr
    assert f"these are by {WIDE}" in outcome.stderr
