"""psm-export as it is installed: picks the subcommand; without one, makes a bundle."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from psm_stream.cli.common import ending_at_once, leave, nearest, run
from psm_stream.errors import ConfigError

Subcommand: TypeAlias = Callable[[Sequence[str]], int]

COMMANDS = ("verify", "bench", "show")
"""Each is the module `psm_export.cli.<name>`; a model that is called so is given as ./verify."""
_OURS = ("psm_export", "psm_stream")


def main() -> NoReturn:
    """psm-export."""
    arguments = sys.argv[1:]
    with ending_at_once():
        if arguments and arguments[0] in COMMANDS:
            leave(run(subcommand(arguments[0]), arguments[1:]))
        leave(run(_make, arguments))


def _make(arguments: Sequence[str]) -> int:
    """Make a bundle. Raises ConfigError: the first word is neither a model nor an option, but nearly a command."""
    word = arguments[0] if arguments else ""
    near = nearest(word, COMMANDS) if word.isalpha() and not Path(word).exists() else ""
    if "did you mean" in near:
        raise ConfigError(f"there is no model {word!r}{near} psm-export --help says more")
    return subcommand("make")(arguments)


def subcommand(name: str) -> Subcommand:
    """Return what runs a subcommand, and says what to install where a package is missing."""

    def job(arguments: Sequence[str]) -> int:
        try:
            code: int = importlib.import_module(f"psm_export.cli.{name}").job(arguments)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in _OURS:
                raise
            missing = f"psm-export needs {error.name}; install it with: pip install 'psm-stream[export]'"
            raise ConfigError(missing) from None
        return code

    return job
