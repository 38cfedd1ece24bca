"""psm-adapt as it is installed: picks the subcommand, and imports no more than that one needs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

from psm_stream.cli.common import ending_at_once, leave, nearest, put, run
from psm_stream.errors import ConfigError

Subcommand: TypeAlias = Callable[[Sequence[str]], int]

COMMANDS = {
    "crops": "align videos, images or sessions into a crop store",
    "train": "train a model from a config",
    "finetune": "make a person's own model of videos, images or sessions, and a report",
    "general": "make the general model: synthetic people, a teacher, two stages of training",
    "worker": "adapt a model in a process of its own, for psm-stream",
    "evaluate": "probe an embedding, by the published protocols and the honest ones",
    "compare-clusters": "compare the clusters that two models make of people's faces",
    "vocabulary": "make a vocabulary of expressions, train its vectors, show what is near what",
    "people": "list, show, export, import, delete and verify people's own models",
    "import": "read a published FaceCycle or PSM checkpoint",
    "export-authors": "write a checkpoint in the authors' format",
}
"""Subcommand and what it does. The module is `psm_adapt.cli.<name>`, with _ for -, `import_` for import."""


def main() -> NoReturn:
    """psm-adapt."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        leave(run(_subcommand(arguments[0]), arguments[1:]))
    leave(run(_overview, arguments))


def _subcommand(name: str) -> Subcommand:
    module = "import_" if name == "import" else name.replace("-", "_")
    with ending_at_once():
        try:
            command: Subcommand = importlib.import_module(f"psm_adapt.cli.{module}").job
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] == "psm_adapt":
                raise
            missing = f"psm-adapt {name} needs {error.name}; install it with: pip install 'psm-stream[adapt]'"
            return lambda _: _refuse(missing)
    return command


def _overview(arguments: Sequence[str]) -> int:
    """List the subcommands. Raises ConfigError: what was given is none of them."""
    if arguments and arguments[0] not in ("-h", "--help", "--debug"):
        raise ConfigError(f"unknown subcommand {arguments[0]!r}{nearest(arguments[0], list(COMMANDS))}")
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{does}" for name, does in COMMANDS.items()]
    put("usage: psm-adapt COMMAND [OPTIONS]\n\n" + "\n".join(lines) + "\n\npsm-adapt COMMAND --help says more.")
    return 0 if arguments else 2


def _refuse(message: str) -> int:
    raise ConfigError(message)
