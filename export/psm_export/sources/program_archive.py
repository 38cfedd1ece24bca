"""What a .pt2 file of torch.export may hold, checked before PyTorch sees it, and written anew from what was checked.

`torch.export.load` evaluates text of the file as Python (symbolic sizes through sympy, guards, the names in generated
code), imports modules that it names (pytree contexts), unpickles constants and example inputs, and loads compiled
libraries. So the archive is read here: known members alone, names that are plain names, sizes that are plain sums and
products, operators of aten alone, no pickles but one that the weights-only reader takes. What is not needed (guards,
stack traces, files beside) is left out of the archive that PyTorch then loads; nothing else of the file gets there.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from psm_export.sources.program_text import check_operator, check_spec, check_strings
from psm_stream.errors import CheckpointError

LARGEST = 2_000_000_000
"""Bytes."""
_LARGEST_TEXT = 64 << 20
"""Bytes of a program's JSON; ResNet-18's takes 120 kB."""
_MOST_NUMBERS = 1 << 29

_MODEL = "models/model.json"
_WEIGHTS, _CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
_EXAMPLES = "data/sample_inputs/model.pt"
_NEEDED = (_MODEL, _WEIGHTS, _CONSTANTS, _EXAMPLES)
_COPIED = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id", "version")
_NUMBERS = {_WEIGHTS: re.compile(r"weight_\d+"), _CONSTANTS: re.compile(r"tensor_\d+")}
_FOLDERS = {_WEIGHTS: "data/weights/", _CONSTANTS: "data/constants/"}
_LEFT_OUT = re.compile(r"extra/[^\x00-\x1f]*")
_COMPILED = re.compile(r"data/aotinductor/|.*\.(so|cubin|ptx|dll|dylib|o|cpp|py)$")
_KEPT_METADATA = "nn_module_stack"
_HARMLESS = re.compile(r"[\w.,;:@()\[\]<> -]*")


def cleaned(path: Path) -> io.BytesIO:
    """Check a .pt2 file and return the archive that may be loaded in its place.

    Raises CheckpointError: it is missing, damaged, of another kind, or holds what could execute code; none of it was.
    """
    members = _members(path)
    _check_names(path, members)
    tree = _json(path, members, _MODEL)
    fresh: dict[str, bytes] = {name: members[name] for name in _COPIED if name in members}
    for config, pattern in _NUMBERS.items():
        table = _json(path, members, config)
        files = _check_numbers(path, table, pattern)
        for name in (f"{_FOLDERS[config]}{file}" for file in files):
            if name not in members:
                raise CheckpointError(f"{path}: {name} is missing; save the program again")
            fresh[name] = members[name]
        fresh[config] = json.dumps(table).encode()
    fresh[_MODEL] = json.dumps(_checked_program(path, tree)).encode()
    fresh[_EXAMPLES] = _examples(path, members[_EXAMPLES])
    return _written(fresh)


def _members(path: Path) -> dict[str, bytes]:
    """Read every record, by its name inside the archive's one folder."""
    if path.is_file() and path.stat().st_size > LARGEST:
        raise CheckpointError(f"{path} has {path.stat().st_size / 1e9:.1f} GB; an encoder has less than 2 GB")
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if sum(record.file_size for record in records) > path.stat().st_size:
                raise CheckpointError(f"{path}: its records claim more bytes than the file has; not read")
            named = [(record.filename, archive.read(record)) for record in records]
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path} is not a .pt2 file, cut off or damaged ({error}); save it again") from None
    except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from None
    if any(name == "serialized_exported_program.json" for name, _ in named):
        raise CheckpointError(
            f"{path} is of a PyTorch before 2.8, whose format cannot be checked; save it with 2.8 or later"
        )
    roots = {name.partition("/")[0] for name, _ in named}
    if len(roots) != 1 or len({name for name, _ in named}) != len(named):
        raise CheckpointError(f"{path} is not what torch.export.save writes: one folder with each file once in it")
    return {name.partition("/")[2]: content for name, content in named}


def _check_names(path: Path, members: Mapping[str, bytes]) -> None:
    for name in members:
        if _COMPILED.match(name):
            raise CheckpointError(
                f"{path} holds {name!r}, code compiled for a machine, so it is refused and nothing was executed; "
                "save the program with torch.export.save alone"
            )
        is_number = any(
            name.startswith(_FOLDERS[config]) and pattern.fullmatch(name[len(_FOLDERS[config]) :])
            for config, pattern in _NUMBERS.items()
        )
        if not (is_number or name in _NEEDED or name in _COPIED or _LEFT_OUT.fullmatch(name)):
            raise CheckpointError(
                f"{path} holds {name[:80]!r}, which is neither a program nor its numbers, so it is refused and nothing "
                "was executed; save the program with torch.export.save alone"
            )
    if missing := [name for name in _NEEDED if name not in members]:
        raise CheckpointError(f"{path}: {missing[0]} is missing, so it is no program of torch.export.save")


def _json(path: Path, members: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if len(members[name]) > _LARGEST_TEXT:
        raise CheckpointError(f"{path}: {name} has {len(members[name]) / 1e6:.0f} MB, which no encoder needs")
    try:
        tree = json.loads(members[name])
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: {name} is not JSON; save the program again") from None
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: {name} is not a JSON object; save the program again")
    return tree


def _check_numbers(path: Path, tree: dict[str, Any], pattern: re.Pattern[str]) -> set[str]:
    """Check which file each weight or constant is in. Returns the files."""
    files = set()
    try:
        for name, entry in tree["config"].items():
            check_strings(path, {name: {key: value for key, value in entry.items() if key != "path_name"}})
            if entry["use_pickle"] is not False or not pattern.fullmatch(entry["path_name"]):
                raise CheckpointError(
                    f"{path}: {name[:80]!r} is a pickled object, which could execute code, so it is refused and "
                    "nothing was executed; keep plain tensors alone in the model"
                )
            if math.prod(size["as_int"] for size in entry["tensor_meta"]["sizes"]) > _MOST_NUMBERS:
                raise CheckpointError(f"{path}: {name[:80]!r} claims more numbers than an encoder has")
            files.add(entry["path_name"])
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{path}: the table of its numbers is damaged; save the program again") from None
    return files


def _checked_program(path: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """Return a program's JSON without what is not needed, once the rest was found harmless."""
    try:
        module = tree["graph_module"]
        graph = module["graph"]
        for node in graph["nodes"]:
            stack = node["metadata"].get(_KEPT_METADATA, "")
            is_kept = isinstance(stack, str) and stack and _HARMLESS.fullmatch(stack)
            node["metadata"] = {_KEPT_METADATA: stack} if is_kept else {}
            check_operator(path, node["target"])
            _check_native(path, node["target"])
        calls = [call for call in module["module_call_graph"] if call["fqn"] == ""][:1]
        for call in calls:
            for spec in ("in_spec", "out_spec"):
                check_spec(path, call["signature"][spec])
        module |= {"metadata": {}, "treespec_namedtuple_fields": {}, "module_call_graph": calls}
        tree["guards_code"] = []
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise CheckpointError(f"{path}: its program is damaged; save it again") from None
    check_strings(path, tree)
    return tree


def _check_native(path: Path, target: str) -> None:
    """Refuse what goes by aten's name and is none of its operators: TorchScript's own (save, warn) reach files."""
    parts = target.split(".")
    if parts[:3] != ["torch", "ops", "aten"]:
        return
    name = "::".join(parts[2:4]) + ("" if parts[4] == "default" else f".{parts[4]}")
    if not torch._C._dispatch_has_kernel(name):
        raise CheckpointError(
            f"{path} calls {target[:80]!r}, which this PyTorch ({torch.__version__}) does not know as an operator on "
            "tensors; save the program with this version"
        )


def _examples(path: Path, content: bytes) -> bytes:
    """The example inputs, read by the weights-only reader and written again: nothing else of the pickle is left."""
    try:
        inputs = torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        raise CheckpointError(
            f"{path}: its example inputs hold more than tensors, so it is refused and nothing was executed; export it "
            "with plain tensors"
        ) from error
    fresh = io.BytesIO()
    torch.save(inputs, fresh)
    return fresh.getvalue()


def _written(members: Mapping[str, bytes]) -> io.BytesIO:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name, content in members.items():
            file.writestr(f"program/{name}", content)
    archive.seek(0)
    return archive
