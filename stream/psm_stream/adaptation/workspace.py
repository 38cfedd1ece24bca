"""Where adaptations of one run work: a private folder, removed at its end, or at the next start if it was killed.

<home>/work/<session>/
    run.json          whose it is: process id, and when that process began
    <NNN>/            one adaptation: snapshot.npz, worker.log, and out/, which the worker writes
    models/<NNN>/     an accepted model of nobody in particular: its bundle, checkpoint/ and adaptation.json
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from psm_stream.adaptation.layout import ADAPTATION, BUNDLE, CHECKPOINT
from psm_stream.errors import AdaptationError
from psm_stream.people import home

MODELS_KEPT = 3
"""The model that runs, the one before, which a recording may still copy, and the next."""
_OWNER = "run.json"
_MODELS = "models"
_CLOSING_S = 5.0
_SESSION = re.compile(r"[0-9a-f]{32}")


class Workspace:
    """The folder of one run. Made at the first adaptation, so that a run without any leaves nothing."""

    def __init__(self, session: str) -> None:
        self._folder = home() / "work" / session
        self._threads: list[threading.Thread] = []

    def new(self, number: int) -> Path:
        """Make the folder of an adaptation. Raises AdaptationError: it cannot be made."""
        folder = self._folder / f"{number:03d}"
        try:
            if not self._folder.exists():
                self._folder.mkdir(mode=0o700, parents=True)
                me = psutil.Process()
                owner = {"pid": me.pid, "began": me.create_time()}
                (self._folder / _OWNER).write_text(json.dumps(owner), encoding="utf-8")
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise AdaptationError(f"cannot make the work folder {folder}: {error.strerror or error}") from None
        return folder

    def keep(self, out: Path, in_use: Path | None = None) -> Path:
        """Make a model's folder of what a worker wrote, and forget the oldest ones. Slow: not for the main thread.

        in_use: the folder of the model that runs, which stays however many came after it and were not taken.

        Raises AdaptationError: the disk refuses.
        """
        models = self._folder / _MODELS
        try:
            models.mkdir(mode=0o700, exist_ok=True)
            older = sorted(models.iterdir(), key=lambda folder: int(folder.name))
            number = int(older[-1].name) + 1 if older else 1
            folder = models / f"{number:03d}"
            shutil.copytree(out / BUNDLE, folder)
            if (out / CHECKPOINT).is_dir():
                shutil.copytree(out / CHECKPOINT, folder / CHECKPOINT)
            shutil.copy(out / ADAPTATION, folder)
        except OSError as error:
            raise AdaptationError(f"cannot keep the model in {models}: {error.strerror or error}") from None
        for old in older[: 1 - MODELS_KEPT]:
            if old != in_use:
                shutil.rmtree(old, ignore_errors=True)
        return folder

    def discard(self, folder: Path, pending: Sequence[Callable[[], object]]) -> None:
        """Remove the folder of an adaptation in a thread. pending: each waits for something that uses it."""

        def work() -> None:
            for wait in pending:
                wait()
            shutil.rmtree(folder, ignore_errors=True)

        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=work, name="discard", daemon=True))
        self._threads[-1].start()

    def close(self) -> None:
        """Remove everything."""
        for thread in self._threads:
            thread.join(_CLOSING_S)
        shutil.rmtree(self._folder, ignore_errors=True)


def unwritable(person: str = "") -> str:
    """Say why nothing could be kept in PSM_HOME, or "". Makes nothing: a run without an adaptation leaves nothing."""
    for folder in [home() / "work", *([home() / "people" / person] if person else [])]:
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        if not there.is_dir():
            return f"{folder} cannot be made, since {there} is no folder; let PSM_HOME name another"
        if not os.access(there, os.W_OK | os.X_OK):
            return f"{there} cannot be written; let PSM_HOME name another"
    return ""


def remove_leftovers() -> None:
    """Remove the folders of runs that are not alive any more. Those of other users, say, are left.

    So is whatever is not named by a session: a `PSM_HOME` that is somebody's home may have a `work` of theirs.
    """
    work = home() / "work"
    try:
        folders = [folder for folder in work.iterdir() if _SESSION.fullmatch(folder.name) and not folder.is_symlink()]
    except OSError:  # none yet, or not ours to read
        return
    for folder in folders:
        if not _is_alive(folder / _OWNER):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(owner: Path) -> bool:
    try:
        said = json.loads(owner.read_text(encoding="utf-8"))
        return bool(abs(psutil.Process(said["pid"]).create_time() - said["began"]) < 1.0)
    except psutil.NoSuchProcess:
        return False
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return _is_new(owner.parent)
    except (OSError, psutil.Error):  # not ours to judge
        return True


def _is_new(folder: Path) -> bool:
    """A folder that was made just now may get its owner in a moment."""
    try:
        return os.stat(folder).st_mtime > psutil.Process().create_time()
    except OSError:
        return False
