"""How a tree of settings is read: one frozen section per subject, filled from a YAML file and dotted flags.

An unknown key is an error that names the nearest right one. Text is read as the kind of value that its setting has
("20" as a number), in a file as in a flag; `none` unsets a setting whose default that is. Nothing else is converted:
true is not a number, 1 not true, 2.0 not a whole number. `psm_stream.config` and `psm_adapt.config` are such trees.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from psm_stream.errors import ConfigError
from psm_stream.redact import redact


class Section(BaseModel):
    """One group of settings: frozen, and nothing in it but what it declares."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, about: ValidationInfo) -> Any:
        """Read what YAML and flags write in another way, and refuse what pydantic would convert."""
        kinds = _kinds(cls.model_fields[str(about.field_name)].annotation)
        if value is None and any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
            return {}  # a section with only comments in it
        if value == "none" and NoneType in kinds:
            return None
        if value is False and "off" in kinds:
            return "off"  # to YAML they are the same
        if isinstance(value, bool) and bool not in kinds and {int, float} & kinds:
            raise PydanticCustomError("bool_for_number", "input should be a number")
        if isinstance(value, float) and int in kinds:
            raise PydanticCustomError("float_for_int", "input should be a whole number")
        if isinstance(value, int | float) and not isinstance(value, bool) and bool in kinds:
            raise PydanticCustomError("number_for_bool", "input should be true or false")
        return value


_Tree = TypeVar("_Tree", bound=Section)


def build(root: type[_Tree], tree: dict[str, Any], overrides: Mapping[str, Any]) -> _Tree:
    """Make the settings of a tree and dotted overrides ({"source.pace": "fast"}), which are written into the tree.

    Raises ConfigError: a key or value is wrong; it names the nearest right key.
    """
    for key, value in overrides.items():
        _set_dotted(tree, key, value)
    try:
        return root.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_one_line(error, root)) from None


def keys_of(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key that can be set, in order."""
    found: list[str] = []
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += keys_of(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def read_yaml(file: Path, example: str) -> dict[str, Any]:
    """Read the tree in a YAML file. example: a key of such files. Raises ConfigError: missing, or no such tree."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {file}: {error.strerror or error}; give an existing YAML file") from None
    except RecursionError:
        raise ConfigError(f"config file {file} is nested too deeply; settings have two levels") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date or number that cannot be
        raise ConfigError(f"config file {file} is not YAML: {_reason(error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"config file {file} must hold keys such as '{example}:', not {type(tree).__name__}")
    return tree


def _kinds(annotation: Any) -> set[Any]:
    """Return the types that a setting may have, and the words it may be."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    return set(get_args(annotation)) if origin is Literal else {annotation}


def _reason(error: Exception) -> str:
    """What is wrong and where, without the lines of the file that YAML's own text quotes: they may hold a password."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return redact(" ".join(str(error).split()))
    problem = " ".join(str(getattr(error, "problem", None) or "it cannot be read").split())
    return redact(f"{problem}, in line {mark.line + 1}, column {mark.column + 1}")


def _set_dotted(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        if tree.get(parent) is None:
            tree[parent] = {}
        below = tree[parent]
        if not isinstance(below, dict):
            raise ConfigError(f"config key {parent!r} must be a section, not {_shown(below)}")
        tree = below
    tree[leaf] = value


def _one_line(error: ValidationError, root: type[Section]) -> str:
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"]]
    known = keys_of(root)
    # pydantic adds the name of the union's branch to the location; keep what is a real key
    where = next(
        (".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known), ".".join(parts)
    )
    if first["type"] == "extra_forbidden":
        depth = where.count(".")
        here = sorted({".".join(key.split(".")[: depth + 1]) for key in known})  # a wrong section is not a wrong leaf
        close = difflib.get_close_matches(where, here, n=1, cutoff=0.4)
        return f"unknown config key {redact(where, where)!r}" + (
            f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(here)}"
        )
    if first["type"] == "model_type":
        return f"config key {where!r} must be a section, not {_shown(first['input'])}"
    return f"config key {redact(where)!r}: {first['msg'][0].lower()}{first['msg'][1:]}, got {_shown(first['input'])}"


def _shown(value: Any) -> str:
    """Return a wrong value as it may be shown: without credentials, and of a list or section only what it is."""
    if isinstance(value, dict | list | set | tuple):
        return "a section" if isinstance(value, dict) else "a list"
    return repr(redact(value, value)) if isinstance(value, str) else redact(repr(value))
