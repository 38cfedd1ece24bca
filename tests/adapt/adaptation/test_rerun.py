"""A real training, recorded, is repeated by the real worker to the bit; so is the next one, which started from it."""

import json
import shutil
from pathlib import Path

import pytest

from psm_adapt.adaptation.work import WorkJob, run
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.cli.replay import main
from psm_stream.encoder import open_encoder
from psm_stream.record.adaptations import Handover, adaptations, keep
from psm_stream.record.reader import Session
from psm_stream.record.testing import record_run, some_faces
from psm_stream.values import SwapEncoder

QUICK = {"run.epochs": "1", "run.batch_size": "8", "screen.fewest": "20"}
ANY = {"gate.gain": "0", "gate.informed": "-1", "gate.neutral": "9", "gate.rank": "0", "gate.spread": "0"}
"""A gate that lets through what is better at all."""
ANY |= {"gate.neighbours": "0"}


@pytest.fixture(scope="module")
def session(demo_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A session with two adaptations, the second from the first, and one that was refused; with their swaps."""
    root = tmp_path_factory.mktemp("rerun")
    general = open_encoder(open_bundle(general_bundle()), "cpu")
    first, second, third = (root / name for name in ("first", "second", "third"))
    jobs = (
        WorkJob(demo_snapshot, "general", "cpu", first / "out", seed=3, person="ann", overrides=QUICK | ANY),
        WorkJob(demo_snapshot, str(first / "out"), "cpu", second / "out", seed=4, overrides=QUICK | ANY),
        WorkJob(demo_snapshot, "general", "cpu", third / "out", seed=5, overrides={"screen.fewest": "49"}),
    )
    models = []
    for job in jobs:
        outcome = run(job)
        if outcome.exported is not None:
            models.append(open_encoder(open_bundle(outcome.exported.bundle), "cpu"))
    assert len(models) == 2
    swaps = [SwapEncoder(model, "adapt") for model in models]
    faces = [some_faces(index, size_px=128) for index in range(4)]
    revert = SwapEncoder(general, "revert")
    folder = record_run(root / "sessions", general, [faces[0], *swaps, faces[1], revert, faces[2], swaps[0], faces[3]])
    for number, job in enumerate(jobs, 1):
        keep(Handover(demo_snapshot, job.out, {"base": job.base, "seed": job.seed}), folder, f"{number:03d}")
    return Session(folder)


def test_real_trainings_are_repeated_to_the_bit(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(session.folder), "--verify", "--adapt", "rerun", "--json", "--quiet"]) == 0
    verified, repeated = map(json.loads, capsys.readouterr().out.splitlines())
    assert (verified["equal"], verified["embeddings"]) == (True, 4)
    recorded = [one.text("model_id") or "rejected" for one in adaptations(session.folder)]
    assert [one["repeated"] for one in repeated["adaptations"]] == recorded
    assert [one["verdict"] for one in repeated["adaptations"]] == ["same"] * 3
    for one in repeated["adaptations"][:2]:
        assert (one["distance"]["max_abs"], one["distance"]["weights_max_abs"], one["distance"]["crops"]) == (0, 0, 48)


def test_another_seed_is_said_and_measured(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(session.folder, tmp_path / "001", ignore=shutil.ignore_patterns("002", "003"))
    path = folder / "adaptations" / "001" / "adaptation.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"seed": 99}))
    main([str(folder), "--adapt", "rerun", "--json", "--quiet"])
    (one,) = json.loads(capsys.readouterr().out)["adaptations"]
    assert one["verdict"] in ("near", "far")
    assert one["repeated"] != one["recorded"] == said["model_id"]
    assert one["distance"]["max_abs"] > 0
    assert 0 < one["distance"]["weights_max_abs"] < 0.1
    assert 0.5 < one["distance"]["min_cosine"] < 1
