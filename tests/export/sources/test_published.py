"""Published files are recognised by what they hold, become models whose graph equals torch, and nothing else passes."""

import argparse
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from psm_export.model import Model
from psm_export.parity.tracing import layer_names, layer_values
from psm_export.sources.architectures import ARCHITECTURES, Name
from psm_export.sources.drawn import drawn, drawn_state, write_published
from psm_export.sources.published import read_published
from psm_stream.bundle import Alignment
from psm_stream.errors import CheckpointError

NAMES: list[Name] = list(ARCHITECTURES)


def noise(model: Model, count: int = 2) -> np.ndarray:
    size = model.pixels.size_px
    return np.random.default_rng(7).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_published(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        *((name, "") for name in NAMES),
        ("tcae-expression-encoder", "module."),
        ("facecycle-expression-encoder", "module."),
    ],
)
def test_each_layout_is_recognised(tmp_path: Path, name: Name, prefix: str) -> None:
    path = tmp_path / "weights.pth"
    write_published(path, name, seed=2, prefix=prefix)
    model, wanted = read_published(path), drawn(name, seed=2)
    assert model.about.architecture == name
    assert model.about.name == "weights"
    assert model.about.licence == "unknown"
    assert all(line.startswith("if it is as published: ") for line in model.about.training_data)
    assert model.about.training_data
    assert model.about.made_from["layout"] == name
    assert model.dimension == 256
    crops = noise(model, 1)
    np.testing.assert_array_equal(model.reference.encode(crops), wanted.reference.encode(crops))


@pytest.mark.parametrize("name", NAMES)
def test_a_bare_state_dict_is_read(tmp_path: Path, name: Name) -> None:
    torch.save(drawn_state(name), tmp_path / "bare.pt")
    assert read_published(tmp_path / "bare.pt").about.architecture == name


@pytest.fixture(scope="module")
def made() -> Callable[[Name], Model]:
    """Models that write their graph, which takes seconds, once."""
    return functools.cache(functools.partial(drawn, seed=1))


@pytest.mark.parametrize("name", NAMES)
def test_graph_and_layers_equal_torch(name: Name, made: Callable[[Name], Model]) -> None:
    model = made(name)
    graph, crops = model.build(), noise(model)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    given, wanted = session.run(None, {"crops": crops})[0], model.reference.encode(crops)
    assert given.shape == (2, 256)
    assert np.abs(wanted).mean() > 0.02
    np.testing.assert_allclose(given, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
    eager = model.reference.eager()
    assert eager is not None
    np.testing.assert_allclose(np.asarray(eager(crops)), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())

    layers = layer_names(graph)
    traced = model.reference.trace(crops)
    known = [layer for layer in layers if layer in traced]
    assert len(known) >= 0.8 * len(layers)
    for layer, values in layer_values(graph, known, crops).items():
        wanted = traced[layer]
        np.testing.assert_allclose(values, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max(), err_msg=layer)


def test_nodes_have_the_names_of_layers(made: Callable[[Name], Model]) -> None:
    graph = made("temporal-consistency-resnet18").build().graph
    assert {"resnet18.0", "resnet18.4.0.conv1", "resnet18.7.1.conv2", "fc1"} <= {node.name for node in graph.node}
    assert not any(node.op_type == "BatchNormalization" for node in graph.node)
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert len(node.input) == 3
            assert set(node.input[1:]) <= constants


def test_the_same_weights_give_the_same_bytes_and_nothing_of_this_machine(made: Callable[[Name], Model]) -> None:
    models = made("fab-net-encoder"), drawn("fab-net-encoder", seed=1)
    one, other = (model.build().SerializeToString(deterministic=True) for model in models)
    assert one == other
    assert os.fsencode(Path(torch.__file__).parents[1]) not in one
    assert os.fsencode(Path(__file__).parents[3]) not in one
    assert b"pytorch" not in one


def test_fab_net_of_another_size(tmp_path: Path) -> None:
    state = drawn_state("fab-net-encoder")
    state["encoder.20.weight"], state["encoder.20.bias"] = state["encoder.20.weight"][:96], torch.zeros(96)
    torch.save({"state_dict_model": {**state, "decoder.2.weight": torch.zeros(1)}}, tmp_path / "f.pth")
    assert read_published(tmp_path / "f.pth").dimension == 96


def test_what_somebody_knows_better_holds(tmp_path: Path) -> None:
    write_published(tmp_path / "f.pth", "fab-net-encoder")
    alignment = Alignment(template="mine", crop_px=256, eye_distance=0.5, eye_line_y=0.4)
    model = read_published(tmp_path / "f.pth", alignment, "CC0-1.0")
    assert (model.alignment, model.about.licence) == (alignment, "CC0-1.0")


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    state = dict(drawn_state("tcae-expression-encoder"))
    change(state)
    torch.save({"state_dict": {f"encoder.{key}": tensor for key, tensor in state.items()}}, tmp_path / "t.pth")
    return tmp_path / "t.pth"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda state: state.pop("conv7_1.bias"),
            "1 of the 58 tensors of tcae-expression-encoder are missing, first 'encoder.conv7_1.b",
        ),
        (lambda state: state.pop("conv1.weight"), "first 'encoder.conv1.weight'"),
        (lambda state: state.update({"conv3.bias": torch.zeros(3)}), r"has shape \[3\], expected \[128\] of tcae"),
        (lambda state: state.update({"conv3.bias": torch.full((128,), torch.nan)}), "conv3.bias has numbers that are"),
        (lambda state: state.update({"conv3.bias": torch.zeros(128, dtype=torch.int64)}), "is int64, expected float32"),
        (lambda state: state.update({"conv3.bias": "words"}), "is a str, expected a dense tensor"),
    ],
)
def test_damaged_weights_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read_published(changed(tmp_path, change))


def test_unknown_layouts_say_what_they_hold(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.mobilenet.0.0.0.weight": torch.zeros(1)}}, tmp_path / "m.pth")
    assert "holds temporal consistency's MobileNetV2, none of the encoders known here" in refusal(tmp_path / "m.pth")
    torch.save({"weights": {"a": torch.zeros(1)}}, tmp_path / "w.pth")
    message = refusal(tmp_path / "w.pth")
    assert "holds 'weights', none of" in message
    assert "known: facecycle-expression-encoder, temporal-consistency-resnet18, fab-net-encoder, tcae-" in message
    assert "of any other network give an .onnx" in message
    torch.save([1], tmp_path / "l.pth")
    assert "holds a list, expected a dict with weights" in refusal(tmp_path / "l.pth")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str, int]]:
        return os.open, (str(self.target), os.O_CREAT | os.O_WRONLY)


@pytest.mark.parametrize("place", ["beside", "inside"])
def test_a_namespace_of_options_does_not_let_code_in(tmp_path: Path, place: str) -> None:
    path, target = tmp_path / "t.pth", tmp_path / "made-by-the-file"
    bomb = Bomb(target)
    saved = {"opts": argparse.Namespace(lr=1)} | {"extra": bomb} if place == "beside" else argparse.Namespace(a=bomb)
    torch.save({"state_dict": {}, "more": saved}, path)
    assert "nothing was executed" in refusal(path)
    assert not target.exists()
    torch.load(path, weights_only=False)  # it does work
    assert target.exists()


def test_a_namespace_is_allowed_for_the_one_call_alone(tmp_path: Path) -> None:
    write_published(tmp_path / "t.pth", "tcae-expression-encoder")
    read_published(tmp_path / "t.pth")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
