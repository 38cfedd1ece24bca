"""psm-export as it is installed: picks the subcommand; without one, makes a bundle."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

from psm_stream.cli.common import ending_at_once, leave, run
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
        leave(run(subcommand("make"), arguments))


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
