"""psm-export bench: every row that was asked for, beside PyTorch, and what was not measured."""

import json
from pathlib import Path

import pytest

from psm_export.cli.bench import job
from psm_stream.errors import ConfigError, DeviceError
from psm_stream.gpu import has_nvidia_driver

QUICK = ["--rounds", "1", "--quiet"]


def test_each_batch_and_number_of_threads_has_its_rows_next_to_torch(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    options = ["--batches", "1,3", "--threads", "1,2", "--device", "cpu", "--json", str(out)]
    assert job([str(made), *options, *QUICK]) == 0
    report = json.loads(out.read_text())
    seen = {(row["name"], row["precision"], row["provider"], row["threads"], row["batch"]) for row in report["rows"]}
    wanted = {
        (name, "fp32", provider, threads, batch)
        for name, provider, batches in (
            ("bundle, live path", "CPUExecutionProvider", (1,)),
            ("bundle", "CPUExecutionProvider", (1, 3)),
            ("torch eager", "PyTorch, CPU", (1, 3)),
        )
        for threads in (1, 2)
        for batch in batches
    }
    assert seen == wanted
    for row in report["rows"]:
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["faces_per_s"] == pytest.approx(1e3 * row["batch"] / row["p50_ms"], rel=0.01)
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:4] == ["what", "precision", "provider", "threads"]
    assert sum("x eager" in line for line in table) == 6


def test_devices_that_are_not_here_are_named_with_the_reason(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if has_nvidia_driver():
        pytest.skip("this machine has an NVIDIA driver")
    assert job([str(made), "--batches", "1", "--threads", "1", "--json", "-", *QUICK]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {row["provider"] for row in report["rows"]} == {"CPUExecutionProvider", "PyTorch, CPU"}
    assert [reason.partition(":")[0] for reason in report["not_measured"]] == ["--device cuda", "--device tensorrt"]


def test_a_device_that_was_asked_for_and_is_not_here_is_said(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if has_nvidia_driver():
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        job([str(made), "--device", "cuda", "--batches", "1", "--threads", "1", *QUICK])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batches", "0"], "--batches '0': expected whole numbers from 1 to 4096"),
        (["--threads", "one"], "--threads 'one'"),
        (["--rounds", "1,2"], "--rounds '1,2': expected one whole number"),
        (["--device", "gpu"], "--device 'gpu': unknown"),
    ],
)
def test_numbers_that_are_none_are_one_line(options: list[str], said: str, made: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        job([str(made), *options])
    assert said in str(caught.value)
