"""What a recorder touches of the machine: clocks, free space and the log's file. A test hands in its own."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from psm_stream.errors import DiskFull, SessionError
from psm_stream.record.session import in_words


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that holds a folder."""
    return shutil.disk_usage(folder).free


def create_file(path: Path) -> BinaryIO:
    """Open a new file for writing. Raises FileExistsError rather than overwrite."""
    return path.open("xb")


def sync_file(file: BinaryIO) -> None:
    """Ask for the file to be on the disk itself, so that a power cut does not take it."""
    os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class Outside:
    """The functions that reach outside, each replaceable. clock: monotonic; unix_clock: unix time; both in s."""

    clock: Callable[[], float] = time.monotonic
    unix_clock: Callable[[], float] = time.time
    free_bytes: Callable[[Path], int] = free_bytes
    create_file: Callable[[Path], BinaryIO] = create_file
    sync_file: Callable[[BinaryIO], None] = sync_file

    def check_room(self, root: Path, min_free_bytes: float) -> None:
        """Raise DiskFull: the disk that holds root, or will, has less free. SessionError: it cannot be asked."""
        try:
            there = next((folder for folder in (root, *root.parents) if folder.exists()), root)
            free = self.free_bytes(there)
        except OSError as error:
            raise SessionError(f"cannot record under {root}: {in_words(error, root)}; name another folder") from None
        if free < min_free_bytes:
            room = f"{free / 1e9:.2f} GB free, {min_free_bytes / 1e9:g} GB are kept (record.min_free_gb)"
            raise DiskFull(f"cannot record under {root}: {room}; make room or name another disk")
