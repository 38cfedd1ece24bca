"""Which text in a saved program is harmless: names, symbolic sizes, operators, and the shapes of arguments.

PyTorch makes Python source of names, evaluates symbolic sizes, and imports what contexts of arguments name; whatever is
not of the few forms here is refused.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from psm_stream.errors import CheckpointError

_NAME = re.compile(r"[\w.+-]*", re.ASCII)
"""Names of values, weights and types, numbers as text; no quotes, brackets or spaces, so no code."""
_WORDS = re.compile(r"[a-zA-Z_]*|[a-zA-Z,>. -]+", re.ASCII)
"""Text that operators take: "tanh", "floor", "constant", einsum's equation."""
_ATEN = re.compile(r"torch\.ops\.aten\.([a-zA-Z0-9_]+)\.[a-zA-Z0-9_]+", re.ASCII)
_SYMBOLIC = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pos|eq|ne|le|lt|ge|gt|getitem|and_|or_)"
    r"|math\.(ceil|floor|trunc)|torch\.sym_(int|float|max|min|not)",
    re.ASCII,
)
_OUTSIDE = frozenset({"from_file", "save", "load", "_print", "warn", "warns", "open", "system"})
"""Operators that reach beyond tensors, by aten's name."""
_FUNCTIONS = frozenset(
    {
        *("Symbol", "Integer", "Float", "Rational", "Identity", "Where", "Add", "Mul", "Max", "Min"),
        *("Eq", "Ne", "Le", "Lt", "Ge", "Gt", "FloorDiv", "CleanDiv", "CeilDiv", "Mod", "PythonMod"),
        *("ModularIndexing", "IntTrueDiv", "FloatTrueDiv", "ToFloat"),
        *("TruncToInt", "FloorToInt", "CeilToInt", "RoundToInt"),
    }
)
_ASSUMPTIONS = frozenset({"integer", "positive", "nonnegative", "negative", "nonzero", "real", "finite"})
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_LONGEST = 2000
_CONTAINERS = frozenset({"builtins.tuple", "builtins.list", "builtins.dict"})
_OBJECTS = frozenset({"as_custom_obj", "custom_obj", "as_operator", "as_graph", "token"})


def check_expression(path: Path, text: object) -> None:
    """Refuse a symbolic size that is more than sums, products and known functions of whole numbers and symbols.

    Raises CheckpointError: it is.
    """
    try:
        is_plain = isinstance(text, str) and len(text) <= _LONGEST and _is_plain(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        is_plain = False
    if not is_plain:
        raise CheckpointError(f"{path}: a size is {str(text)[:60]!r}, {_REFUSED}")


def check_operator(path: Path, target: object) -> None:
    """Refuse an operator that is not aten's, or reaches beyond tensors. Raises CheckpointError: it does."""
    found = _ATEN.fullmatch(target) if isinstance(target, str) else None
    if found is not None and found[1] not in _OUTSIDE:
        return
    if isinstance(target, str) and _SYMBOLIC.fullmatch(target):
        return
    raise CheckpointError(
        f"{path} calls {str(target)[:80]!r}, not one of PyTorch's own operators on tensors, so it is refused and "
        "nothing was executed; export the model with aten operators alone"
    )


def check_spec(path: Path, text: str) -> None:
    """Refuse arguments that are not tensors in tuples, lists and dicts. Raises CheckpointError: they are not."""
    protocol, spec = json.loads(text)
    if protocol != 1 or not _is_plain_spec(spec):
        raise CheckpointError(f"{path}: its arguments are of classes of their own, {_REFUSED}")


def check_strings(path: Path, tree: Any, key: str = "") -> None:
    """Refuse text in a program's JSON that is not a name, a size or a word, wherever it stands.

    Raises CheckpointError: there is some, or there are objects that are not tensors.
    """
    if isinstance(tree, dict):
        for name, inner in tree.items():
            if name in _OBJECTS or not _NAME.fullmatch(name):
                raise CheckpointError(f"{path}: it holds {name[:60]!r}, {_REFUSED}")
            if name == "custom_obj_values" and inner:
                raise CheckpointError(f"{path}: it holds objects that are not tensors, {_REFUSED}")
            check_strings(path, inner, name)
    elif isinstance(tree, list):
        for inner in tree:
            check_strings(path, inner, key)
    elif isinstance(tree, str):
        if key == "expr_str":
            check_expression(path, tree)
        elif key in ("in_spec", "out_spec", "nn_module_stack"):
            return  # looked at on their own
        elif not (_WORDS if key in ("as_string", "as_strings") else _NAME).fullmatch(tree):
            raise CheckpointError(f"{path}: {key or 'a name'} is {tree[:60]!r}, {_REFUSED}")


_REFUSED = "which could execute code, so it is refused and nothing was executed; save a program of tensors alone"


def _is_plain(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        value = node.value
        return isinstance(value, int | float) and abs(value) < 2**63
    if isinstance(node, ast.Name):
        return node.id in ("True", "False", "oo", "int_oo") or re.fullmatch(r"[szu]\w*\d+", node.id) is not None
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub | ast.Not) and _is_plain(node.operand)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, _ARITHMETIC) and _is_plain(node.left) and _is_plain(node.right)
    if isinstance(node, ast.Compare):
        return _is_plain(node.left) and all(map(_is_plain, node.comparators))
    return isinstance(node, ast.Call) and _is_plain_call(node)


def _is_plain_call(node: ast.Call) -> bool:
    if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
        return False
    for word in node.keywords:
        if (
            word.arg not in _ASSUMPTIONS
            or not isinstance(word.value, ast.Constant)
            or type(word.value.value) is not bool
        ):
            return False
    if node.func.id == "Symbol":
        name = node.args[0] if len(node.args) == 1 else None
        return isinstance(name, ast.Constant) and re.fullmatch(r"[a-z]\w*", str(name.value), re.ASCII) is not None
    if node.func.id == "Float":
        return all(isinstance(arg, ast.Constant) and _NAME.fullmatch(str(arg.value)) for arg in node.args)
    return not node.keywords and all(map(_is_plain, node.args))


def _is_plain_spec(spec: object) -> bool:
    if not isinstance(spec, dict) or spec.keys() != {"type", "context", "children_spec"}:
        return False
    context = spec["context"]
    if spec["type"] is None:
        return context is None and spec["children_spec"] == []
    names = json.loads(context) if isinstance(context, str) else 0
    has_names = names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
    return spec["type"] in _CONTAINERS and has_names and all(map(_is_plain_spec, spec["children_spec"]))
