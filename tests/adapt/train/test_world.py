"""Several processes: two train as one does with the same global batch, started by torchrun as users start it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tests.adapt.train import toy

from psm_adapt.train.folder import read_losses
from psm_adapt.train.world import World, join, pick_precision
from psm_stream.errors import ConfigError, DeviceError

PROJECT = Path(__file__).resolve().parents[3]


def torchrun(*command: str) -> str:
    """Train with two processes on this machine. Returns what they printed."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        launch, cwd=PROJECT, env=environment, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, start_new_session=True
    ) as running:
        try:
            printed = running.communicate(timeout=280)[0].decode()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, printed
    return printed


@pytest.mark.timeout(300)
def test_two_processes_have_the_gradients_and_weights_of_one(tmp_path: Path) -> None:
    """In float64, so that the order of sums does not show; noise, dropout and batch statistics are out."""
    one = toy.train_in(toy.ALONE, tmp_path / "one")
    torchrun(str(PROJECT / "tests/adapt/train/toy.py"), str(tmp_path / "two"))
    alone, together = (read_losses(tmp_path / name) for name in ("one", "two"))
    assert [row.steps for row in together] == [4, 8] == [row.steps for row in alone]
    for row, expected in zip(together, alone, strict=True):
        assert row.terms == pytest.approx(
            expected.terms, rel=1e-6
        )  # told in float32; the gradient's norm is one of them
    assert one.steps == 8
    a, b = (toy.read_weights(tmp_path / name) for name in ("one", "two"))
    assert a.keys() == b.keys()
    assert len(a) == 8
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, rtol=0, atol=1e-7)


def test_a_batch_must_divide_over_the_processes() -> None:
    assert World(1, 3, torch.device("cpu")).share(12) == 4
    with pytest.raises(ConfigError, match=r"run\.batch_size 16 cannot be split evenly over 3 processes"):
        World(1, 3, torch.device("cpu")).share(16)


def test_alone_there_is_nothing_to_average() -> None:
    with join("cpu") as world:
        assert (world.rank, world.size, world.is_first) == (0, 1, True)
        values = torch.tensor([1.0, 2.0])
        assert world.mean(values) is values


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_that_is_not_there_is_one_line() -> None:
    with pytest.raises(DeviceError, match=r"run\.device cuda: torch finds no CUDA device here"), join("cuda"):
        pass


def test_precision_is_told_with_its_reason() -> None:
    cpu = torch.device("cpu")
    assert pick_precision("fp32", cpu) == (False, "fp32, as asked for")
    assert pick_precision("bf16", cpu) == (True, "bf16, as asked for")
    uses_bf16, why = pick_precision("auto", cpu)
    assert why.startswith("bf16: the CPU has a" if uses_bf16 else "fp32: ")


def test_auto_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, expected in (({"avx2", "amx_bf16"}, True), ({"avx512_bf16"}, True), ({"avx2"}, False)):
        monkeypatch.setattr("psm_adapt.train.world._cpu_flags", lambda flags=flags: flags)
        assert pick_precision("auto", torch.device("cpu"))[0] is expected
