"""Processes that a test leaves running are ended with it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.stream.cli.running import Running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start psm-stream with the given options."""
    started: list[Running] = []

    def start_one(*options: str) -> Running:
        folder = tmp_path / f"run{len(started)}"
        folder.mkdir()
        started.append(Running(folder, *options))
        return started[-1]

    yield start_one
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.communicate()
