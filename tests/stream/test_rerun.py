"""A recorded training is done again by a worker process, and told apart from the recorded one as far as it differs."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from psm_export import facecycle
from psm_export.untrained import draw_weights
from psm_export.write import Description, write_bundle
from psm_stream import rerun as rerun_module
from psm_stream.bundle import Parity, general_bundle, open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import AdaptationError, SessionError
from psm_stream.record.adaptations import Handover, Recorded, adaptations, keep
from psm_stream.record.reader import Session
from psm_stream.record.testing import a_checkpoint, a_training, record_run, some_faces
from psm_stream.rerun import check_can_train, rerun, weights_apart

TOLERANCE = 0.05
GENERAL = open_bundle(general_bundle()).manifest.model_id

WORKER = """
import json, shutil, sys
from pathlib import Path
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
plan = json.loads(Path(PLAN).read_text())
Path(PLAN).with_name("given.json").write_text(json.dumps(given | {"recipe": Path(given["--config"]).read_text()}))
def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)
for step in range(3):
    say("progress", phase="training", epoch=1, epochs=1, step=step, steps=2, loss=1.0, seconds=0.1, left_s=None)
if plan["event"] == "failed":
    say("failed", reason=plan["reason"])
    sys.exit(1)
out = Path(given["--out"])
shutil.copytree(plan["out"], out)
about = json.loads((out / "adaptation.json").read_text()) | plan.get("about", {})
paths = {"bundle": str(out / "bundle"), "checkpoint": str(out / "checkpoint")}
say(plan["event"], **about, **(paths if plan["event"] == "done" else {}))
"""


def a_bundle(folder: Path, seed: int, step: float = 0.0):
    """A small change of the same weights gives a near model."""
    weights = draw_weights(seed=seed)
    moved = {name: (value * (1 + step)).astype(value.dtype) for name, value in weights.items()}
    about = Description("other", "a test", "FaceCycle", "inside", "fp32", True, "MIT", "a test", {})
    parity = Parity(reference="itself", crops=0, max_abs=0.0, mean_abs=0.0, cosine=1.0, tolerance=TOLERANCE)
    write_bundle(folder, facecycle.build_model(moved), about, parity)
    return open_bundle(folder)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """The recorded model, one that is nearly the same, and another one."""
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "it": a_bundle(folder / "it", 7),
        "near": a_bundle(folder / "near", 7, 1e-6),
        "far": a_bundle(folder / "far", 8),
    }


class Lab:
    """A session with one adaptation, and a worker that does as it is told."""

    def __init__(self, root: Path, bundles) -> None:
        self.root = root
        self.bundles = bundles
        general = open_encoder(open_bundle(general_bundle()), "cpu")
        self.session = Session(record_run(root, general, [some_faces(0, size_px=128)]))
        self.script = root / "worker.py"
        self.script.write_text(f"PLAN = {str(root / 'plan.json')!r}\n{WORKER}")
        self.told: list[tuple[float, str]] = []

    def record(self, bundle="it", failure="", base="general", **outcome) -> Recorded:
        """Record an adaptation. bundle: its model's name, or None: rejected."""
        number = f"{len(adaptations(self.session.folder)) + 1:03d}"
        model = None if bundle is None else self.bundles[bundle]
        about = {"parent": GENERAL, "recipe": {"run": {"epochs": 2, "budget_s": 9.0}}, **outcome}
        training = a_training(self.root / f"work{number}", model, crops_px=128, **about)
        handover = Handover(training / "snapshot.npz", training / "out", {"base": base}, failure)
        return keep(handover, self.session.folder, number)

    def plan(self, event="done", bundle="it", reason="", **about) -> None:
        """Say what the worker will do."""
        out = self.root / f"again{len(list(self.root.glob('again*')))}"
        if event != "failed":
            out = a_training(out, self.bundles[bundle] if event == "done" else None, **about) / "out"
        (self.root / "plan.json").write_text(json.dumps({"event": event, "out": str(out), "reason": reason}))

    def run(self, recorded: Recorded, **options):
        def tell(done: float, phase: str) -> None:
            self.told.append((done, phase))

        worker = (sys.executable, "-I", str(self.script))
        return rerun(self.session, recorded, tell, worker=worker, **options)

    def given(self) -> dict[str, str]:
        return json.loads((self.root / "given.json").read_text())


@pytest.fixture
def lab(tmp_path, bundles):
    return Lab(tmp_path, bundles)


def test_the_same_model_is_equal_to_the_bit(lab):
    recorded = lab.record()
    lab.plan()
    one = lab.run(recorded)
    model_id = lab.bundles["it"].manifest.model_id
    assert (one.verdict, one.recorded, one.repeated, one.number) == ("same", model_id, model_id, "001")
    assert (one.distance.max_abs, one.distance.weights_max_abs, one.distance.crops) == (0.0, 0.0, 10)
    assert one.distance.min_cosine == pytest.approx(1.0)
    assert one.is_repeated
    assert [phase for _, phase in lab.told] == ["training"] * 3
    assert [done for done, _ in lab.told] == sorted(done for done, _ in lab.told)


def test_the_worker_is_given_what_was_recorded(lab):
    recorded = lab.record(seed=11, person="ann", recipe_name="cpu")
    lab.plan(person="ann")
    lab.run(recorded)
    given = lab.given()
    assert given["--snapshot"] == str(recorded.snapshot)
    assert (given["--base"], given["--seed"], given["--device"], given["--person"]) == ("general", "11", "cpu", "ann")
    assert Path(given["--config"]).stem == "cpu"
    assert "epochs: 2" in given["recipe"]
    assert "stop_after" not in given["recipe"]
    assert "budget_s: 86400.0" in given["recipe"]  # whoever repeats has time
    assert not Path(given["--out"]).parent.exists()  # and leaves nothing


def test_what_ran_out_of_time_stops_after_the_same_epoch(lab):
    recorded = lab.record(epochs_done=1, epochs=1)
    lab.plan()
    lab.run(recorded)
    assert "stop_after: 1" in lab.given()["recipe"]


def test_another_device_can_be_asked_for(lab):
    recorded = lab.record(device="cuda")
    lab.plan()
    lab.run(recorded, device="cpu")
    assert lab.given()["--device"] == "cpu"


def test_a_model_within_the_tolerance_is_near(lab):
    recorded = lab.record()
    lab.plan(bundle="near")
    one = lab.run(recorded)
    assert one.verdict == "near"
    assert one.is_repeated
    assert 0 < one.distance.max_abs <= TOLERANCE == one.distance.tolerance
    assert "off by up to" in one.reason


def test_another_model_is_far_by_what_both_make_of_the_snapshot(lab):
    recorded = lab.record()
    lab.plan(bundle="far")
    one = lab.run(recorded)
    assert (one.verdict, one.is_repeated) == ("far", False)
    with np.load(recorded.snapshot) as stored:
        crops = stored["crops"]
    codes = [
        np.stack([open_encoder(lab.bundles[name], "cpu").encode(crop) for crop in crops]).astype(np.float64)
        for name in ("it", "far")
    ]
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(*codes, strict=True)]
    assert one.distance.max_abs == np.abs(codes[0] - codes[1]).max() > TOLERANCE
    assert one.distance.mean_cosine == pytest.approx(np.mean(cosines))
    assert one.distance.min_cosine == pytest.approx(min(cosines))
    assert one.distance.weights_max_abs > 0.1


def test_rejected_again_with_the_same_figures_is_the_same(lab):
    recorded = lab.record(bundle=None)
    lab.plan(event="rejected")
    one = lab.run(recorded)
    assert (one.verdict, one.recorded, one.repeated) == ("same", "rejected", "rejected")
    lab.plan(event="rejected", loss_after=1.25)
    other = lab.run(recorded)
    assert (other.verdict, other.is_repeated) == ("near", True)
    assert other.reason == "with a loss of 1.25 and not 1.0: no better than its parent"


def test_another_verdict_is_far(lab):
    accepted, rejected = lab.record(), lab.record(bundle=None)
    lab.plan(event="rejected")
    one = lab.run(accepted)
    lab.plan()
    other = lab.run(rejected)
    assert (one.verdict, other.verdict) == ("far", "far")
    assert one.reason == "it was accepted, and is rejected (no better than its parent)"
    assert other.reason == "it was rejected (no better than its parent), and is accepted"


def test_what_failed_then_is_left_out(lab):
    one = lab.run(lab.record(failure="killed by signal 9"))
    assert (one.verdict, one.is_repeated, one.reason) == ("left out", True, "it failed then: killed by signal 9")
    assert not (lab.root / "given.json").exists()


def test_a_worker_that_fails_is_one_line(lab):
    recorded = lab.record()
    lab.plan(event="failed", reason="no memory\nleft")
    one = lab.run(recorded)
    assert (one.verdict, one.repeated, one.is_repeated) == ("failed", "failed", False)
    assert one.reason == "the worker failed: no memory left"


def test_a_second_training_starts_from_the_first_ones_weights_in_the_session(lab):
    first = lab.record()
    parent = {"parent": first.text("model_id"), "parent_checkpoint": first.text("checkpoint_id")}
    second = lab.record(bundle="near", base="/a/folder/of/then", **parent)
    lab.plan(bundle="near", parent_checkpoint=first.text("checkpoint_id"))
    assert lab.run(second).verdict == "same"
    base = lab.session.folder / "models" / first.text("model_id") / "checkpoint"
    assert lab.given()["--base"] == str(base.absolute())
    (base / "checkpoint.json").unlink()
    one = lab.run(second)
    assert one.verdict == "failed"
    assert one.reason == f"the session has no weights of {first.text('model_id')}, which it started from"


def test_a_general_model_that_changed_since_is_named(lab):
    recorded = lab.record(parent="f" * 12)
    one = lab.run(recorded)
    assert one.verdict == "failed"
    assert f"from the general model {'f' * 12}, and this psm-stream ships {GENERAL}; install 0." in one.reason


def test_general_weights_that_changed_under_the_same_encoder_are_named(lab):
    recorded = lab.record(parent_checkpoint="1" * 12)
    lab.plan(parent_checkpoint="2" * 12)
    one = lab.run(recorded)
    assert one.verdict == "failed"
    assert one.reason == f"it started from the weights {'1' * 12}, which have changed since: now they are {'2' * 12}"


def test_a_recorded_outcome_without_a_recipe_is_one_line(lab):
    one = lab.run(lab.record(recipe={}))
    assert (one.verdict, "names no recipe" in one.reason) == ("failed", True)


def test_without_torch_it_is_said(monkeypatch):
    monkeypatch.setattr(rerun_module, "missing", lambda: ["torch", "onnx"])
    with pytest.raises(AdaptationError, match=r"needs torch, onnx: pip install 'psm-stream\[adapt\]'"):
        check_can_train()


def test_an_interrupt_ends_the_worker_and_leaves_nothing(lab):
    recorded = lab.record()
    lab.script.write_text(
        "import json, os, sys, time\n"
        f"open({str(lab.root / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "about = dict(epoch=1, epochs=1, step=0, steps=2, loss=None, seconds=0.1, left_s=None)\n"
        "print(json.dumps(dict(event='progress', phase='training', **about)), flush=True)\n"
        "time.sleep(60)\n"
    )

    def interrupted(_done: float, _phase: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rerun(lab.session, recorded, interrupted, worker=(sys.executable, "-I", str(lab.script)))
    pid = int((lab.root / "pid").read_text())
    gone = subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode
    assert gone != 0


def test_weights_apart(tmp_path):
    for name, seed in (("a", 1), ("same", 1), ("b", 2)):
        a_checkpoint(tmp_path / name, seed)
    a, b = (np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float16) for seed in (1, 2))
    assert weights_apart(tmp_path / "a", tmp_path / "same") == 0.0
    assert weights_apart(tmp_path / "a", tmp_path / "b") == np.abs(a.astype(np.float64) - b.astype(np.float64)).max()
    assert weights_apart(tmp_path / "a", tmp_path / "none") is None
    (tmp_path / "b" / "encoder.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(SessionError, match="no safetensors file"):
        weights_apart(tmp_path / "a", tmp_path / "b")


def test_weights_are_read_as_the_safetensors_package_reads_them(tmp_path):
    stored = pytest.importorskip("safetensors.numpy")
    tensors = {"a.weight": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.array(2.5, np.float32)}
    path = tmp_path / "w.safetensors"
    path.write_bytes(stored.save(tensors, {"format": "pt"}))
    read = rerun_module._weights(path)
    assert read.keys() == tensors.keys()
    assert all(np.array_equal(read[key], value) for key, value in tensors.items())


def test_verdicts_that_count():
    one = rerun_module.Rerun("001", "same", "a", "a", "")
    assert [replace(one, verdict=name).is_repeated for name in ("same", "near", "left out", "far", "failed")] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", ".hidden", "a/b", ""])
def test_a_recorded_name_leads_nowhere_else(lab, name):
    """The session may be somebody else's, and the recipe is written to a file of its name."""
    recorded = lab.record(recipe_name=name)
    lab.plan()
    assert lab.run(recorded).verdict == "same"
    assert Path(lab.given()["--config"]).name == "recipe.yaml"
