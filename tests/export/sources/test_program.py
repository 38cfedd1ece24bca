"""Programs of torch.export: the graph equals the program; what could execute code is refused before PyTorch sees it."""

import contextlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from tests.export.own_models import SIZE_PX, crops, network, obvious, write_manifest
from torch import Tensor, nn
from torch.export import Dim

from psm_export.sources.program import load_program, read_program
from psm_export.sources.program_archive import cleaned
from psm_export.sources.program_text import check_expression
from psm_stream.errors import BundleError, CheckpointError


class Own(nn.Module):
    """The network of `own_models` in torch."""

    def __init__(self) -> None:
        super().__init__()
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in network().graph.initializer}
        self.conv = nn.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(4, eps=1e-9)
        self.fc = nn.Linear(4, 5)
        self.conv.weight.data = torch.from_numpy(weights["conv.weight"].copy())
        self.fc.weight.data = torch.from_numpy(weights["fc.weight"].copy())
        self.fc.bias.data = torch.from_numpy(weights["fc.bias"].copy())

    def forward(self, face: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(face)).relu().mean((2, 3))).tanh()


class Several(Own):
    def forward(self, face: Tensor) -> Any:
        return super().forward(face), face


class Reaching(Own):
    """Calls an operator of its own."""

    def forward(self, face: Tensor) -> Tensor:
        return torch.ops.psm_test.twice(super().forward(face))


def saved(folder: Path, module: nn.Module | None = None, is_free: bool = True, **changes: Any) -> Path:
    sizes = ({0: Dim("N", min=1, max=1024)},) if is_free else None
    module = (module or Own()).eval()
    program = torch.export.export(module, (torch.zeros(2, 3, SIZE_PX, SIZE_PX),), dynamic_shapes=sizes)
    torch.export.save(program, folder / "own.pt2")
    write_manifest(folder, **changes)
    return folder / "own.pt2"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good program's file."""
    return saved(tmp_path_factory.mktemp("program")).read_bytes()


@pytest.fixture
def good(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "own.pt2").write_bytes(content)
    write_manifest(tmp_path)
    return tmp_path / "own.pt2"


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The same archive with its members changed; they are by their names inside its folder."""
    with zipfile.ZipFile(path) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            archive.writestr(f"own/{name}", value)
    return path


def with_program(path: Path, change: Callable[[dict[str, Any]], object], member: str = "models/model.json") -> Path:
    def changed(members: dict[str, bytes]) -> None:
        tree = json.loads(members[member])
        change(tree)
        members[member] = json.dumps(tree).encode()

    return rewritten(path, changed)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_program(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_graph_and_layers_equal_the_program(good: Path) -> None:
    model = read_program(good)
    wanted = obvious(crops().transpose(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(model.reference.encode(crops()), wanted, rtol=0, atol=2e-6)
    np.testing.assert_allclose(model.reference.encode(crops(1)), wanted[:1], rtol=0, atol=2e-6)
    graph = model.build()
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"crops": crops()})[0], wanted, rtol=0, atol=2e-6)
    assert {"conv", "fc"} <= {node.name for node in graph.graph.node}
    assert {"conv", "fc"} <= model.reference.trace(crops()).keys()
    eager = model.reference.eager()
    assert eager is not None
    np.testing.assert_allclose(np.asarray(eager(crops())), wanted, rtol=0, atol=2e-6)
    assert model.about.made_from["kind"] == "torch.export program"


def test_nothing_of_the_file_but_the_program_is_loaded(good: Path) -> None:
    rewritten(good, lambda members: members.update({"extra/notes.txt": b"hello"}))
    with_program(good, lambda tree: tree.update(guards_code=["print('guards')"]))
    with zipfile.ZipFile(cleaned(good)) as archive:
        tree = json.loads(archive.read("program/models/model.json"))
        assert "program/extra/notes.txt" not in archive.namelist()
    assert tree["guards_code"] == []
    assert all(node["metadata"].keys() <= {"nn_module_stack"} for node in tree["graph_module"]["graph"]["nodes"])
    assert load_program(good).graph_signature.user_inputs == ("face",)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str, int]]:
        return os.open, (str(self.target), os.O_CREAT | os.O_WRONLY)


def a_size(target: Path) -> Callable[[dict[str, Any]], None]:
    def change(tree: dict[str, Any]) -> None:
        sizes = tree["graph_module"]["graph"]["tensor_values"]["face"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = f"__import__('os').open({str(target)!r}, {os.O_CREAT | os.O_WRONLY})"

    return change


def test_code_in_a_size_does_not_run(good: Path, tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-file"
    with_program(good, a_size(target))
    assert "which could execute code, so it is refused and nothing was executed" in refusal(good)
    assert not target.exists()
    with contextlib.suppress(Exception):  # PyTorch fails, too late
        torch.export.load(good)
    assert target.exists()  # it does work


def test_code_in_the_example_inputs_does_not_run(good: Path, tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-file"

    def change(members: dict[str, bytes]) -> None:
        pickled = io.BytesIO()
        torch.save(((Bomb(target),), {}), pickled)
        members["data/sample_inputs/model.pt"] = pickled.getvalue()

    assert "its example inputs hold more than tensors" in refusal(rewritten(good, change))
    assert not target.exists()


def test_code_in_a_pickled_weight_does_not_run(good: Path, tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-file"
    rewritten(good, lambda members: members.update({"data/weights/weight_0": pickle.dumps(Bomb(target))}))
    config = "data/weights/model_weights_config.json"
    with_program(good, lambda tree: tree["config"]["conv.weight"].update(use_pickle=True), config)
    assert "'conv.weight' is a pickled object, which could execute code" in refusal(good)
    assert not target.exists()


def _spec(tree: dict[str, Any]) -> None:
    call = tree["graph_module"]["module_call_graph"][0]["signature"]
    context = json.dumps([{"__enum__": True, "fqn": "antigravity:A", "name": "x"}])
    spec = {"type": "builtins.dict", "context": context, "children_spec": []}
    call["in_spec"] = json.dumps([1, spec])


def _graph(tree: dict[str, Any]) -> dict[str, Any]:
    return tree["graph_module"]["graph"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda tree: _graph(tree)["nodes"][0].update(target="torch.ops.evil.run.default"),
            "calls 'torch.ops.evil.run",
        ),
        (lambda tree: _graph(tree)["nodes"][0].update(target="torch.ops.aten.from_file.default"), "aten.from_file"),
        (lambda tree: _graph(tree)["nodes"][0].update(target="torch.ops.aten.eq.str"), "aten.eq.str"),
        (lambda tree: _graph(tree)["nodes"][0].update(target="torch.load"), "calls 'torch.load'"),
        (lambda tree: _graph(tree)["nodes"][0].update(target="torch.ops.higher_order.cond"), "higher_order.cond"),
        (lambda tree: _graph(tree)["nodes"][0].update(name="x): import os #"), "name is 'x"),
        (lambda tree: _graph(tree)["inputs"][0]["as_tensor"].update(name="x=print(1)"), "name is 'x=print"),
        (lambda tree: _graph(tree)["tensor_values"].update({"a'b": {}}), "it holds"),
        (lambda tree: _graph(tree).update(custom_obj_values={"a": {"name": "a", "class_fqn": "b"}}), "not tensors"),
        (lambda tree: _graph(tree)["inputs"].append({"as_custom_obj": {"name": "a"}}), "it holds 'as_custom_obj'"),
        (_spec, "its arguments are of classes of their own"),
        (lambda tree: tree.pop("graph_module"), "its program is damaged"),
    ],
)
def test_what_could_execute_is_refused(good: Path, change: Callable[[dict[str, Any]], object], reason: str) -> None:
    assert reason in refusal(with_program(good, change))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("data/aotinductor/model/m.so", "code compiled for a machine"),
        ("data/constants/opaque_obj_0", "neither a program nor its numbers"),
        ("data/weights/model.pt", "neither a program nor its numbers"),
        ("models/other.json", "neither a program nor its numbers"),
        ("code/__torch__.py", "code compiled for a machine"),
    ],
)
def test_other_members_are_refused(good: Path, name: str, reason: str) -> None:
    assert reason in refusal(rewritten(good, lambda members: members.update({name: b"x"})))


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Add(Integer(1), Symbol('s0', integer=True))",
        "2*s0 + 1",
        "FloorDiv(s0 - 1, 2)",
        "-u3",
    ],
)
def test_sizes_are_sums_and_products(text: str) -> None:
    check_expression(Path("a.pt2"), text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "s0.__class__",
        "().__class__",
        "Symbol('s0').func",
        "Symbol(__import__('os'))",
        "Symbol('s0', positive=print(1))",
        "[s0 for s0 in s1]",
        "lambda: 1",
        "9**9**9",
        "exec",
        "Lambda(s0, s0)",
        "sympify('s0')",
        "s0; s1",
        "f'{s0}'",
        "1" * 3000,
        None,
        "'s0'",
    ],
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="which could execute code"):
        check_expression(Path("a.pt2"), text)


def test_damaged_archives_are_refused(good: Path) -> None:
    whole = good.read_bytes()
    good.write_bytes(whole[: len(whole) // 2])
    assert "not a .pt2 file, cut off or damaged" in refusal(good)
    good.write_bytes(b"")
    assert "not a .pt2 file" in refusal(good)
    good.write_bytes(whole)
    rewritten(good, lambda members: members.pop("data/sample_inputs/model.pt"))
    assert "data/sample_inputs/model.pt is missing" in refusal(good)
    with zipfile.ZipFile(good, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    assert "of a PyTorch before 2.8" in refusal(good)


def test_an_operator_of_somebody_is_refused(tmp_path: Path) -> None:
    library = torch.library.Library("psm_test", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor", tags=torch.Tag.pt2_compliant_tag)
    library.impl("twice", lambda x: 2 * x, "CompositeExplicitAutograd")
    assert "calls 'torch.ops.psm_test.twice.default'" in refusal(saved(tmp_path, Reaching()))


@pytest.mark.parametrize(
    ("module", "is_free", "changes", "reason"),
    [
        (Own(), False, {}, r"takes 2 pictures at a time.*dynamic_shapes=\(\{0: torch.export.Dim\(\"N\""),
        (Several(), True, {}, "gives 2 outputs; export a module"),
        (Own(), True, {"input__size_px": 32}, r"its manifest says \[N, 3, 32, 32\]"),
        (Own(), True, {"input__dtype": "uint8", "input__range": "0..255"}, "manifest says uint8"),
        (Own(), True, {"output__dimension": 4}, "gives 5 numbers for a face, its manifest says 4"),
    ],
)
def test_programs_that_do_not_fit_are_refused(
    tmp_path: Path, module: nn.Module, is_free: bool, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BundleError, match=reason):
        read_program(saved(tmp_path, module, is_free, **changes))


def test_a_program_in_training_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(
        Own().train(), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=({0: Dim("N", min=2, max=9)},)
    )
    torch.export.save(program, tmp_path / "own.pt2")
    write_manifest(tmp_path)
    with pytest.raises(BundleError, match=r"was exported in training.*model\.eval\(\)"):
        read_program(tmp_path / "own.pt2")
