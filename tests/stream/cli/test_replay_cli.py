"""psm-replay as people run it: outcomes, exit codes, one-line errors, killed recordings, Ctrl-C."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.cli.replay import main
from psm_stream.encoder import open_encoder
from psm_stream.record.adaptations import Handover, keep
from psm_stream.record.reader import Session
from psm_stream.record.testing import a_training, record_run, rewrite, some_faces
from psm_stream.values import Marker, NoFace

FRAMES = 5

# Ctrl-C as from a terminal, even where the tests run with it ignored
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from psm_stream.cli.replay import main
sys.exit(main())
"""

RECORDS_FOR_EVER = """
import sys, time
from pathlib import Path
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.config import RecordSettings
from psm_stream.encoder import open_encoder
from psm_stream.pipeline import Pipeline
from psm_stream.record.testing import some_faces
from psm_stream.record.writer import Opening, Recorder
from psm_stream.wire.messages import MessageBuilder

encoder = open_encoder(open_bundle(general_bundle()), "cpu")
builder, pipeline = MessageBuilder("ab" * 16, "msgpack", time.monotonic), Pipeline(encoder)
settings = RecordSettings(root=Path(sys.argv[1]), min_free_gb=0)
recorder = Recorder.start(settings, Opening("ab" * 16, {}, "fake", encoder), lambda notice: None)
print(recorder.folder, flush=True)
for index in range(10_000):
    item = some_faces(index, size_px=128)
    recorder.input(item)
    for result in pipeline.step(item):
        for message in builder.build(result):
            recorder.message(message)
    print(index, flush=True)
"""


@pytest.fixture(scope="module")
def encoder():
    return open_encoder(open_bundle(general_bundle()), "cpu")


@pytest.fixture
def folder(tmp_path, encoder):
    faces = [some_faces(index, size_px=128) for index in range(FRAMES)]
    items = [*faces, Marker("m", 100.0, "control"), NoFace(some_faces(FRAMES).frame, "none")]
    return record_run(tmp_path, encoder, items, name="trial 1")


def one_error(capsys) -> str:
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    return lines[0]


def test_verify_passes_what_the_real_encoder_recorded(folder, capsys, encoder):
    assert main([str(folder), "--verify"]) == 0
    captured = capsys.readouterr()
    assert captured.out == (
        f"{FRAMES} embeddings compared on {encoder.provider}, equal to the byte, {2 * FRAMES} messages in all\n"
    )
    assert "(trial 1): fake" in captured.err
    assert f"{FRAMES + 2} inputs" in captured.err
    assert ("UNTRAINED" in captured.err) == (not encoder.trained)


def test_verify_as_json(folder, capsys):
    assert main([str(folder), "--verify", "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    outcome = json.loads(captured.out)
    assert (outcome["equal"], outcome["embeddings"], outcome["finished"]) == (True, FRAMES, True)
    assert captured.err == ""


def test_verify_names_the_first_difference_and_exits_1(folder, capsys):
    def flip(entries):
        place = [n for n, entry in enumerate(entries) if entry.channel == "embedding.00"][3]
        body = entries[place].body
        entries[place] = type(entries[place])(
            **{name: getattr(entries[place], name) for name in ("channel", "encoding", "log_ns", "sequence", "offset")},
            body=body[:-1] + bytes([body[-1] ^ 1]),
        )
        return entries

    rewrite(folder, flip)
    assert main([str(folder), "--verify"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("DIFFERENT after 3 equal embeddings: frame 3, embedding.00: value 255 is ")
    assert main([str(folder), "--verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["difference"].startswith("frame 3, embedding.00")


def test_nothing_to_verify_is_said(tmp_path, capsys, encoder):
    empty = record_run(tmp_path, encoder, [NoFace(some_faces(0).frame, "none")])
    assert main([str(empty), "--verify"]) == 0
    assert capsys.readouterr().out == "0 embeddings compared: none were recorded\n"


def test_export_says_where(folder, capsys):
    assert main([str(folder), "--export", "csv"]) == 0
    assert capsys.readouterr().out == f"{FRAMES + 1} rows and 1 markers in {folder / 'exports' / '001'}\n"
    assert main([str(folder), "--export", "parquet", "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported == {"folder": str(folder / "exports" / "002"), "rows": FRAMES + 1, "markers": 1, "missing": 0}


def test_verify_and_export_in_one_go(folder, tmp_path, capsys):
    assert main([str(folder), "--verify", "--export", "csv", "--out", str(tmp_path / "tables")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert (tmp_path / "tables" / "faces.csv").exists()


def test_report_says_where(folder, tmp_path, capsys):
    assert main([str(folder), "--report", "--quiet"]) == 0
    page = folder / "exports" / "001" / "report.html"
    assert capsys.readouterr().out == f"report in {page}\n"
    assert "<h1>Session trial 1</h1>" in page.read_text(encoding="utf-8")
    out = tmp_path / "there.html"
    assert main([str(folder), "--report", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"session": str(folder), "report": str(out)}
    assert out.read_bytes() == page.read_bytes()
    assert main([str(folder), "--report", "--out", str(out)]) == 1
    assert "is there already; name another file with --out FILE" in one_error(capsys)


def test_publish_at_the_fast_pace(folder, capsys):
    assert main([str(folder), "--pace", "fast", "--control-port", "auto"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"published {FRAMES} embeddings of {FRAMES + 1} frames\n"
    assert "control on port" in captured.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--verfy"], "did you mean --verify"),
        (["--export", "xls"], "expected parquet or csv"),
        (["--pace", "quick"], "expected live or fast"),
        (["--device", "gpu"], "expected cpu or cuda"),
        (["--adapt", "again"], "expected rerun"),
        (["--adapt", "rerun", "--device", "tensorrt"], "training runs on cpu or cuda"),
        (["--header", "xml"], "expected msgpack or json"),
        (["--out", "there"], "add --export FORMAT or --report"),
        (["--out", "there", "--report", "--export", "csv"], "one at a time"),
        (["--control-port", "none"], "control_port"),
    ],
)
def test_wrong_options_are_one_line_and_exit_2(folder, capsys, options, says):
    assert main([str(folder), *options]) == 2
    assert says in one_error(capsys)


def test_no_session_is_one_line(capsys):
    assert main([]) == 2
    assert "SESSION" in one_error(capsys)


def test_a_foreign_folder_is_one_line_and_exits_1(tmp_path, capsys):
    assert main([str(tmp_path), "--verify"]) == 1
    assert "is not a session" in one_error(capsys)
    assert main([str(tmp_path / "nothing")]) == 1
    assert "does not exist" in one_error(capsys)


def test_the_folder_above_names_the_session(folder, tmp_path, capsys):
    assert main([str(tmp_path), "--verify"]) == 1
    assert str(folder) in one_error(capsys)


def test_damage_is_one_line_that_names_the_place(folder, capsys):
    log = bytearray((folder / "session.mcap").read_bytes())
    log[len(log) // 2] ^= 1
    (folder / "session.mcap").write_bytes(log)
    for options in (["--verify"], ["--export", "csv"], ["--pace", "fast", "--control-port", "auto"]):
        assert main([str(folder), *options]) == 1
        error = one_error(capsys)
        assert "damaged at byte" in error
        assert "CRC" in error


def test_a_changed_model_is_one_line(folder, capsys):
    (copy,) = (folder / "models").glob("*/encoder.onnx")
    copy.write_bytes(copy.read_bytes()[:-1] + b"\0")
    assert main([str(folder), "--verify"]) == 1
    assert "encoder.onnx" in one_error(capsys)


needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


@needs_sigkill
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_killed_recording_verifies_up_to_the_cut(tmp_path, capsys, seed):
    after = random.Random(seed).randrange(60, 150)
    command = [sys.executable, "-c", RECORDS_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        folder = Path(child.stdout.readline().strip())
        for _ in range(after):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert not Session(folder).is_finished
    assert main([str(folder), "--verify", "--json"]) == 0
    captured = capsys.readouterr()
    outcome = json.loads(captured.out)
    recorded = sum(message.kind == "embedding" for message in Session(folder).messages())
    assert (outcome["equal"], outcome["finished"], outcome["embeddings"]) == (True, False, recorded)
    assert "CUT OFF" in captured.err


@pytest.mark.skipif(os.name == "nt", reason="signals to a console process differ")
def test_ctrl_c_ends_a_publication_cleanly(tmp_path, encoder):
    items = [some_faces(0, size_px=128), Marker("much later", 1e6, "control")]
    folder = record_run(tmp_path, encoder, items)
    command = [sys.executable, "-c", COMMAND, str(folder), "--control-port", "auto"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        line = ""
        while "control on port" not in line:
            line = child.stderr.readline()
            assert line
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in err


def test_values_in_the_table_are_those_that_the_encoder_gave(folder, encoder, tmp_path):
    """End to end: crop to CSV."""
    assert main([str(folder), "--export", "csv", "--out", str(tmp_path / "t"), "--quiet"]) == 0
    header, first, *_ = (tmp_path / "t" / "faces.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    vector = np.array([row[f"emb_{number}"] for number in range(encoder.dimension)], np.float32)
    assert np.array_equal(vector, encoder.encode(some_faces(0, size_px=128).faces[0].crop))


@pytest.fixture
def adapted(tmp_path, encoder):
    """A session with a rejected and a failed adaptation, which need no model."""
    folder = record_run(tmp_path, encoder, [some_faces(0, size_px=128)])
    for number, failure in (("001", ""), ("002", "killed by signal 9")):
        training = a_training(tmp_path / number, None, crops_px=128, parent=encoder.model_id)
        keep(Handover(training / "snapshot.npz", training / "out", {"base": "general"}, failure), folder, number)
    return folder


def answers_with(monkeypatch, root, **changes):
    """Put a worker in place of the real one: it rejects with the figures of the first adaptation, but for changes."""
    about = json.loads((root / "001" / "out" / "adaptation.json").read_text()) | changes
    script = root / "worker.py"
    script.write_text(f"import json\nprint(json.dumps({{'event': 'rejected', **{about!r}}}), flush=True)\n")
    monkeypatch.setattr("psm_stream.rerun.WORKER", (sys.executable, "-I", str(script)))


def test_repeated_trainings_are_one_line_each(adapted, tmp_path, capsys, monkeypatch):
    answers_with(monkeypatch, tmp_path)
    assert main([str(adapted), "--adapt", "rerun", "--quiet"]) == 0
    one, two = capsys.readouterr().out.splitlines()
    assert one.startswith("adaptation 001: rejected again, the same figures: no better than its parent (")
    assert two == "adaptation 002: not repeated, it failed then: killed by signal 9"


def test_a_training_that_ends_otherwise_exits_1(adapted, tmp_path, capsys, monkeypatch):
    answers_with(monkeypatch, tmp_path, parent_checkpoint="1" * 12)
    assert main([str(adapted), "--verify", "--adapt", "rerun", "--json", "--quiet"]) == 1
    verified, repeated = map(json.loads, capsys.readouterr().out.splitlines())
    assert verified["equal"]
    assert (repeated["session"], repeated["repeated"]) == (str(adapted), False)
    assert [one["verdict"] for one in repeated["adaptations"]] == ["failed", "left out"]
    assert "weights 000000000000, which have changed" in repeated["adaptations"][0]["reason"]


def test_no_adaptations_are_said(folder, capsys):
    assert main([str(folder), "--adapt", "rerun"]) == 0
    assert capsys.readouterr().out == "no adaptations are recorded\n"


def test_rerun_without_torch_is_one_line(adapted, capsys, monkeypatch):
    monkeypatch.setattr("psm_stream.rerun.missing", lambda: ["torch"])
    assert main([str(adapted), "--adapt", "rerun"]) == 1
    assert "needs torch: pip install 'psm-stream[adapt]'" in one_error(capsys)
