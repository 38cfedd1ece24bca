"""The published layout: three or five state dicts, with or without `module.`, every key and shape, and nothing else."""

import math
import os
import re
from ast import literal_eval
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from psm_adapt.authors import EXPRESSION, NETWORKS, OURS, layout, read_authors, write_authors
from psm_export.facecycle import weight_shapes
from psm_stream.errors import CheckpointError

GOLDEN = Path(os.environ.get("PSM_GOLDEN", Path(__file__).resolve().parents[3] / "shared" / "golden"))
KEYS = GOLDEN.parent / "spec" / "facecycle-keys.txt"

Saved = dict[str, Any]


@pytest.fixture
def saved() -> Saved:
    """All five networks of one number per tensor, which takes a few kB in a file."""
    states = {}
    for count, (theirs, ours) in enumerate(NETWORKS.items()):
        tensors = {key: torch.tensor([count + 0.5]).expand(shape) for key, shape in layout()[ours].items()}
        states[theirs] = OrderedDict(tensors)
    return states


def written(folder: Path, saved: object) -> Path:
    path = folder / "ExpCode_19.tar"
    torch.save(saved, path)
    return path


def refusal(folder: Path, saved: object) -> str:
    path = written(folder, saved)
    with pytest.raises(CheckpointError) as caught:
        read_authors(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_the_networks_have_the_published_sizes() -> None:
    sizes = {name: (len(shapes), sum(map(math.prod, shapes.values()))) for name, shapes in layout().items()}
    assert sizes == {
        "encoder": (48, 4_240_000),
        "flow_decoder": (31, 2_996_544),
        "generator": (62, 13_409_475),
        "identity_encoder": (48, 4_240_000),
        "normaliser": (54, 10_014_275),
    }
    assert layout()["encoder"] == weight_shapes()


def test_every_key_is_the_authors() -> None:
    if not KEYS.is_file():
        pytest.skip(f"no listing at {KEYS}; set PSM_GOLDEN to the folder beside spec/")
    listed: dict[str, dict[str, tuple[int, ...]]] = {}
    for line in KEYS.read_text(encoding="utf-8").splitlines():
        if network := re.match(r"(\w+)  [\d,]+ parameters", line):
            shapes = listed.setdefault(NETWORKS[network[1]], {})
        elif tensor := re.match(r"    (\S+) (\(.*\))", line):
            shapes[tensor[1]] = literal_eval(tensor[2])
    listed["identity_encoder"] = listed["encoder"]
    assert {name: dict(shapes) for name, shapes in layout().items()} == listed
    assert all(list(shapes) == list(listed[name]) for name, shapes in layout().items())  # in their order, too


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("count", [3, 5])
def test_all_published_kinds_are_read(tmp_path: Path, saved: Saved, is_zip: bool, prefix: str, count: int) -> None:
    chosen = {
        name: OrderedDict((f"{prefix}{key}", torch.nn.Parameter(tensor)) for key, tensor in saved[name].items())
        for name in list(saved)[:count]
    }
    torch.save(chosen, tmp_path / "a.tar", _use_new_zipfile_serialization=is_zip)
    read = read_authors(tmp_path / "a.tar")
    assert list(read.states) == list(NETWORKS.values())[:count]
    assert read.has_identity is (count == 5)
    assert read.notes == (("'module.' taken off the keys",) if prefix else ())
    for number, state in enumerate(read.states.values()):
        assert all((tensor == number + 0.5).all() for tensor in state.values())
        assert all(type(tensor) is Tensor and tensor.is_contiguous() for tensor in state.values())


def test_other_entries_are_left_out_and_named(tmp_path: Path, saved: Saved) -> None:
    extra = {"epoch": 19, "optimizer": {"state": {}, "param_groups": [{"lr": 5e-5}]}, "losses": [0.5], 7: None}
    read = read_authors(written(tmp_path, saved | extra))
    assert read.notes == ("ignored: 'epoch', 'optimizer', 'losses', 7",)
    assert read.about is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_said(tmp_path: Path, saved: Saved, dtype: torch.dtype) -> None:
    saved["codegeneration"]["conv1.0.bias"] = torch.full((64,), 0.3, dtype=dtype)
    read = read_authors(written(tmp_path, saved))
    bias = read.states["encoder"]["conv1.0.bias"]
    assert bias.dtype == torch.float32
    assert torch.equal(bias, torch.full((64,), 0.3, dtype=dtype).float())
    assert read.notes == (f"{str(dtype).removeprefix('torch.')} converted to float32",)


def test_what_a_file_holds_is_checked_first(tmp_path: Path, saved: Saved) -> None:
    state = saved["codegeneration"]
    assert refusal(tmp_path, [state]) == " holds a list, expected a dict of state dicts"
    assert "holds no codegeneration" in refusal(tmp_path, state)
    assert "it holds 'conv1.0.weight', " in refusal(tmp_path, state)
    assert refusal(tmp_path, {}).endswith("it holds nothing")
    two = {name: saved[name] for name in EXPRESSION[:2]}
    assert "holds no Swap_Generator" in refusal(tmp_path, two)
    assert "holds Swap_Norm without its partner" in refusal(
        tmp_path, {name: state for name, state in saved.items() if name != "idcodegen"}
    )
    assert "exptoflow is a list, expected a state dict" in refusal(tmp_path, saved | {"exptoflow": [1]})


def test_every_tensor_is_checked(tmp_path: Path, saved: Saved) -> None:
    """One case after the other, each alone wrong."""
    cases: list[tuple[object, str]] = [
        (None, "is a NoneType of another kind"),
        (torch.zeros(64).to_sparse(), "of another kind"),
        (torch.zeros(64, dtype=torch.int64), "is int64, expected float32"),
        (torch.zeros(64, 1), "has shape [64, 1], expected [64]"),
        (torch.full((64,), math.nan), "numbers that are not finite"),
        (torch.full((64,), 1e300, dtype=torch.float64), "numbers that are not finite"),
        (torch.zeros(64, device="meta"), "of another kind"),
    ]
    for value, reason in cases:
        changed = saved["codegeneration"] | {"conv1.0.bias": value}
        message = refusal(tmp_path, saved | {"codegeneration": changed})
        assert message.startswith(": codegeneration: conv1.0.bias")
        assert reason in message


def test_every_key_is_checked(tmp_path: Path, saved: Saved) -> None:
    state = dict(saved["codegeneration"])
    bias = state.pop("conv1.0.bias")
    assert "1 of 48 tensors are missing, first 'conv1.0.bias'" in refusal(tmp_path, saved | {"codegeneration": state})
    more = state | {"conv1.0.bias": bias, "conv1.0.\x1b[2Jscale": bias}
    assert r"unknown tensor 'conv1.0.\x1b[2Jscale' (1 in all)" in refusal(tmp_path, saved | {"codegeneration": more})
    mixed = state | {"module.conv1.0.bias": bias}
    assert "some keys begin with 'module.' and some do not" in refusal(tmp_path, saved | {"codegeneration": mixed})


def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path, saved: Saved) -> None:
    saved["codegeneration"]["conv1.0.bias"] = torch.zeros(1).expand(1 << 40)
    assert "expected [64]" in refusal(tmp_path, saved)


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    names = [NETWORKS[name] for name in EXPRESSION]
    states = {
        name: {key: torch.randn(shape, generator=draw) for key, shape in layout()[name].items()} for name in names
    }
    write_authors(tmp_path / "a.tar", states, "module.", about="ours")
    read = read_authors(tmp_path / "a.tar")
    assert read.about == "ours"
    assert all(torch.equal(read.states[name][key], states[name][key]) for name in names for key in states[name])
    as_the_authors_do = torch.load(tmp_path / "a.tar", weights_only=True)
    assert list(as_the_authors_do) == [*EXPRESSION, OURS]
    assert list(as_the_authors_do["exptoflow"]) == [f"module.{key}" for key in layout()["flow_decoder"]]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_what_cannot_be_written(tmp_path: Path, saved: Saved) -> None:
    states = {ours: saved[theirs] for theirs, ours in NETWORKS.items()}
    (tmp_path / "a.tar").write_text("mine")
    with pytest.raises(CheckpointError, match="never written over"):
        write_authors(tmp_path / "a.tar", states)
    assert (tmp_path / "a.tar").read_text() == "mine"
    with pytest.raises(CheckpointError, match="cannot write"):
        write_authors(tmp_path / "a.tar" / "b.tar", states)
    with pytest.raises(CheckpointError, match="holds no Swap_Generator"):
        write_authors(tmp_path / "b.tar", {"encoder": states["encoder"], "flow_decoder": states["flow_decoder"]})
    with pytest.raises(CheckpointError, match="codegeneration: 48 of 48 tensors are missing"):
        write_authors(tmp_path / "b.tar", states | {"encoder": {}})
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
