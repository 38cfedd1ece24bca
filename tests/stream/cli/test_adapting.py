"""A whole adaptation as it is typed: the demo's face, the real worker, a model kept, verified and taken again."""

import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.stream.cli.running import Running, balanced, tool

from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.client import Control, Subscriber
from psm_stream.people import newest_model

RECIPE = """\
run: {epochs: 1}
screen: {fewest: 20}
gate: {gain: 0, informed: -1, neutral: 100, rank: 0, spread: 0, neighbours: 0}
"""


@pytest.mark.timeout(600)
def test_an_adaptation_from_the_first_face_to_the_next_run(
    start: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    (tmp_path / "quick.yaml").write_text(RECIPE)
    options = ["--source", "demo", "--person", "ada", "--record", str(tmp_path / "sessions"), "--faces.capacity", "50"]
    running = start(*options, "--adapt", "auto", "--adaptation.recipe", str(tmp_path / "quick.yaml"))
    address = running.address()
    with (
        Subscriber(address, ["notify.adapt.", "notify.model.", "embedding."]) as subscriber,
        Control(address) as control,
    ):
        told = []
        while not told or told[-1].topic != "notify.model.swapped":
            message = subscriber.receive(120.0)
            assert message is not None
            if message.topic.startswith("notify."):
                told.append(message)
        after = next(message for message in subscriber if message.topic == "embedding.00")
        assert control.send("QUIT") == "OK"
    outcome = running.end()
    subjects = [message.topic.removeprefix("notify.") for message in told]
    assert (subjects[0], subjects[-2:]) == ("adapt.started", ["adapt.done", "model.swapped"])
    assert set(subjects[1:-2]) == {"adapt.progress"}
    done, swapped = told[-2].header, told[-1].header
    general = open_bundle(general_bundle()).manifest.model_id
    assert (swapped["old"], swapped["new"]) == (general, done["model_id"])
    assert (after.header["frame_index"], after.header["model_id"]) == (swapped["frame_index"], done["model_id"])
    assert balanced(outcome.summary)
    (entry,) = outcome.summary["adaptations"]
    assert (entry["accepted"], entry["model_id"], entry["parent"]) == (True, done["model_id"], general)
    assert outcome.summary["model_ids"] == [general, done["model_id"]]
    assert list((tmp_path / "home" / "work").iterdir()) == []
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in (one.info["cmdline"] or [])]

    kept = newest_model("ada")
    assert kept is not None
    assert open_bundle(kept).manifest.model_id == done["model_id"]
    (folder,) = (tmp_path / "sessions").glob("*/001")
    verified = tool("replay", str(folder), "--verify", "--json", "--quiet")
    assert json.loads(verified.stdout)["equal"], verified.stdout + verified.stderr
    again = start(*options, "--frames", "5").end()
    assert again.summary["model_ids"] == [done["model_id"]]
