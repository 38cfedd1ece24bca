"""A swap in a real run: `--model OTHER --record DIR`, then REVERT; the recording replays to the same bytes."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.stream.cli.running import Running, balanced, tool

from psm_export import facecycle
from psm_export.untrained import draw_weights
from psm_export.write import Description, write_bundle
from psm_stream.bundle import Parity, general_bundle, open_bundle
from psm_stream.client import Control, Subscriber

EXACT = Parity(reference="itself", crops=0, max_abs=0.0, mean_abs=0.0, cosine=1.0, tolerance=1e-4)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The general encoder's architecture with other weights."""
    about = Description("other", "a test", "FaceCycle", "inside", "fp32", False, "MIT", "a test", {})
    write_bundle(tmp_path / "other", facecycle.build_model(draw_weights(seed=7)), about, EXACT)
    return tmp_path / "other"


def test_a_recording_verifies_through_a_revert(start: Callable[..., Running], other: Path, tmp_path: Path) -> None:
    ids = [open_bundle(folder).manifest.model_id for folder in (other, general_bundle())]
    running = start("--source", "demo", "--model", str(other), "--record", str(tmp_path / "sessions"))
    with (
        Control(running.address()) as control,
        Subscriber(running.address(), ["embedding.", "notify.model."]) as subscriber,
    ):
        before = next(message for message in subscriber if message.topic == "embedding.00")
        assert control.send("REVERT") == f"OK {ids[1]} is taken at the next frame"
        notice = next(message for message in subscriber if message.topic == "notify.model.swapped")
        after = next(message for message in subscriber if message.topic == "embedding.00")
    outcome = running.end(signal.SIGINT)

    assert (before.header["model_id"], before.header["model_epoch"]) == (ids[0], 0)
    assert (after.header["model_id"], after.header["model_epoch"]) == (ids[1], 1)
    swapped = {key: notice.header[key] for key in ("old", "new", "model_epoch", "frame_index", "reason")}
    first_new = after.header["frame_index"]
    assert swapped == {"old": ids[0], "new": ids[1], "model_epoch": 1, "frame_index": first_new, "reason": "revert"}
    assert (outcome.summary["model_ids"], outcome.summary["model_epoch"]) == (ids, 1)
    assert balanced(outcome.summary)

    (folder,) = (tmp_path / "sessions").glob("*/001")
    assert sorted(path.name for path in (folder / "models").iterdir()) == sorted(ids)
    verified = tool("replay", str(folder), "--verify", "--json", "--quiet")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    verdict = json.loads(verified.stdout)
    assert (verdict["equal"], verdict["embeddings"]) == (True, outcome.summary["published"]["embedding"])
