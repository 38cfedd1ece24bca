"""The commands as they are installed: each sees to Ctrl-C before it imports anything slow."""

from __future__ import annotations

import importlib
from typing import NoReturn

from psm_stream.cli.common import ending_at_once, leave


def stream() -> NoReturn:
    """psm-stream."""
    _run("stream")


def replay() -> NoReturn:
    """psm-replay."""
    _run("replay")


def watch() -> NoReturn:
    """psm-watch."""
    _run("watch")


def doctor() -> NoReturn:
    """psm-doctor."""
    _run("doctor")


def _run(name: str) -> NoReturn:
    with ending_at_once():
        main = importlib.import_module(f"psm_stream.cli.{name}").main
    leave(main())
