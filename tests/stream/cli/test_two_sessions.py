"""Two sessions of one person as they are typed: the demo's face on two days, and what was cluster 3 is cluster 3."""

from collections import Counter
from pathlib import Path

import pytest
from tests.stream.cli.running import Running

from psm_stream.people_clusters import load
from psm_stream.record.reader import Session
from psm_stream.replay import Replay, model_opener
from psm_stream.values import Embedding, Faces


def session(folder: Path, script: int, frames: int) -> Session:
    """Record a run with Ada's clusters, five frames a second of one of the demo's scripts."""
    demo = ["--source", "demo", "--source.fps", "5", "--source.seed", str(script), "--pace", "fast"]
    options = ["--person", "ada", "--clusters.every_s", "30", "--record", str(folder / str(script))]
    assert Running(folder, *demo, *options, "--frames", str(frames)).end().code == 0
    return Session(next((folder / str(script)).glob("*/001")))


def expression(label: str) -> str:
    """What a label of the demo shows clearly, or "" for something between."""
    name, strength = label.split()
    return "neutral" if float(strength) < 0.1 else name if float(strength) >= 0.4 else ""


@pytest.mark.timeout(300)
def test_what_was_cluster_3_is_cluster_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    monday = session(tmp_path, script=0, frames=900)
    sightings = [one.value for one in monday.entries() if isinstance(one.value, Faces)]
    shown = {one.faces[0].crop.tobytes(): expression(one.frame.label) for one in sightings}
    stored = load("ada")
    assert stored is not None
    kept: dict[int, Counter[str]] = {}
    for row in stored.rows:  # whose pictures tell which of Monday's frames they are
        kept.setdefault(row.known, Counter())[shown[row.crop.tobytes()]] += 1
    meant = {max(counts.keys() - {""}, key=counts.__getitem__): cluster for cluster, counts in kept.items()}
    assert len(meant) == len(kept) >= 4

    tuesday = session(tmp_path, script=1, frames=200)
    steps = Replay(tuesday, model_opener(tuesday.info)).steps()
    seen = [one for _, results in steps for one in results if isinstance(one, Embedding)]
    assert seen[0].assignment.version == 1  # from the first face on
    means: dict[str, Counter[int]] = {}
    for one in seen:
        means.setdefault(expression(one.face.frame.label), Counter())[one.assignment.cluster] += 1
    again = means.keys() & meant.keys() - {""}
    assert len(again) >= 3
    assert {name: means[name].most_common(1)[0][0] for name in again} == {name: meant[name] for name in again}
