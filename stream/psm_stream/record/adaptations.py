"""Adaptations in a session: what each training was given and what came of it, so that it can be repeated.

    adaptations/<NNN>/
        snapshot.npz       the faces it learned from
        job.json           what the worker was told: base, recipe, seed, device
        adaptation.json    what the worker says of the outcome; of a failure `accepted`, `reason` and `failed`
    models/<model_id>/     an accepted model's bundle, and its weights in checkpoint/

Each folder appears whole or not at all, so a recording that is cut off in the middle of a copy lacks that one only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psm_stream.adaptation.layout import ADAPTATION, BUNDLE, CHECKPOINT, CHECKPOINT_ABOUT, SNAPSHOT
from psm_stream.bundle import open_bundle
from psm_stream.errors import SessionError
from psm_stream.record import session

SCHEMA = 1
JOB = "job.json"

_JSON_LIMIT = 4 * 2**20
_NUMBERED = re.compile(r"^[0-9]{3,6}$")
_WEIGHTS = re.compile(r"^[a-z_]{1,32}\.safetensors$")


@dataclass(frozen=True, slots=True)
class Handover:
    """A training that has ended, as the live path hands it to a recording.

    snapshot: the file that the worker read. out: the folder that it wrote; may be missing after a failure.
    job: what it was told. failure: why it failed or was stopped, "" if it came to a verdict. Files must stay as they
    are until they are kept.
    """

    snapshot: Path
    out: Path
    job: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded adaptation. job, outcome: job.json and adaptation.json as plain values."""

    folder: Path
    job: Mapping[str, Any]
    outcome: Mapping[str, Any]

    @property
    def number(self) -> str:
        """Its name within the session, such as 001."""
        return self.folder.name

    @property
    def snapshot(self) -> Path:
        """The faces that it learned from."""
        return self.folder / SNAPSHOT

    @property
    def is_accepted(self) -> bool:
        """Whether there is a model."""
        return self.outcome.get("accepted") is True

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a verdict."""
        return self.outcome.get("failed") is True

    @property
    def entry(self) -> session.AdaptationEntry:
        """What info.json says of it."""
        return session.AdaptationEntry(
            number=self.number,
            accepted=self.is_accepted,
            reason=self.text("reason"),
            model_id=self.text("model_id") or None,
            parent=self.text("parent") or _text(self.job, "parent") or None,
        )

    def text(self, key: str) -> str:
        """Return a text of the outcome; "" if it has none."""
        return _text(self.outcome, key)


def size_of(handover: Handover) -> int:
    """Return how many bytes `keep` would write. Raises OSError."""
    written = () if handover.failure else (path for path in handover.out.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in (handover.snapshot, *written))


def keep(handover: Handover, folder: Path, number: str) -> Recorded:
    """Copy a training that has ended into a session folder. The model comes first, so that no record lacks its own.

    Raises OSError; SessionError: what the worker left is not what it should be; BundleError.
    """
    outcome = _outcome(handover)
    if outcome.get("accepted") is True:
        bundle = open_bundle(handover.out / BUNDLE)
        session.copy_bundle(bundle, folder)
        keep_checkpoint(handover.out / CHECKPOINT, folder, bundle.manifest.model_id)
    target = folder / session.ADAPTATIONS / number
    draft = session.new_draft(target)
    try:
        link_or_copy(handover.snapshot, draft / SNAPSHOT)
        _write_json(draft / JOB, session.redacted(handover.job))
        _write_json(draft / ADAPTATION, outcome)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    session.sync_folder(target.parent)
    return Recorded(target, handover.job, outcome)


def checkpoint_of(bundle: Path) -> Path | None:
    """Return the weights that belong to a bundle's folder: inside it, or beside it where a worker wrote both."""
    for folder in (bundle / CHECKPOINT, bundle.parent / CHECKPOINT):
        if (folder / CHECKPOINT_ABOUT).is_file() and (folder.parent == bundle or bundle.name == BUNDLE):
            return folder
    return None


def keep_checkpoint(source: Path, folder: Path, model_id: str) -> None:
    """Copy a checkpoint to models/<model_id>/checkpoint of a session folder, as a whole or not at all, once.

    Raises OSError; SessionError: it is not a checkpoint, or was changed since it was made.
    """
    target = session.model_folder(folder, model_id) / CHECKPOINT
    if target.exists():
        return
    files = checkpoint_files(source)
    draft = session.new_draft(target.parent)
    try:
        for name, digest in files.items():
            content = (source / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise SessionError(f"{source / name} was changed since the checkpoint was made")
            write_synced(draft / name, content)
        write_synced(draft / CHECKPOINT_ABOUT, (source / CHECKPOINT_ABOUT).read_bytes())
        draft.rename(target)
    except OSError:
        if not target.exists():  # else somebody else was faster, with the same weights
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def checkpoint_files(folder: Path) -> dict[str, str]:
    """Return a checkpoint's weight files and their sha256, as its checkpoint.json names them.

    Raises SessionError: it is not a checkpoint's.
    """
    path = folder / CHECKPOINT_ABOUT
    files = read_json(path).get("files")
    if not isinstance(files, dict) or not files or not all(_WEIGHTS.match(name) for name in files):
        raise SessionError(f"{path} names no weights, so {folder} is not a checkpoint")
    return {str(name): str(digest) for name, digest in files.items()}


def adaptations(folder: Path) -> list[Recorded]:
    """Return what a session folder has of adaptations, in order. Raises SessionError: one of them is damaged."""
    parent = folder / session.ADAPTATIONS
    try:
        names = sorted((name for name in os.listdir(parent) if _NUMBERED.match(name)), key=int)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SessionError(f"cannot read {parent}: {session.in_words(error, parent)}") from None
    return [
        Recorded(parent / name, read_json(parent / name / JOB), read_json(parent / name / ADAPTATION)) for name in names
    ]


def link_or_copy(source: Path, target: Path) -> None:
    """Give a finished file another name, without copying it where the disk can. Raises OSError."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one that has no links
        write_synced(target, source.read_bytes())


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file that a power cut leaves whole once its name is synced. Raises OSError."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises SessionError: missing, too large, damaged or of a newer schema."""
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise SessionError(f"{path} is larger than {_JSON_LIMIT} bytes, so it is not a session's")
        tree = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    except OSError as error:
        raise SessionError(f"cannot read {path}: {session.in_words(error, path)}") from None
    except (ValueError, RecursionError) as error:
        raise SessionError(f"{path} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise SessionError(f"{path} is damaged: expected a JSON object")
    schema = tree.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise SessionError(f"{path} has schema {schema}, this psm-stream reads {SCHEMA}; install a newer one")
    return tree


def _text(tree: Mapping[str, Any], key: str) -> str:
    value = tree.get(key)
    return value if isinstance(value, str) else ""


def _outcome(handover: Handover) -> dict[str, Any]:
    if handover.failure:
        return {"schema": SCHEMA, "accepted": False, "failed": True, "reason": handover.failure}
    return read_json(handover.out / ADAPTATION)


def _write_json(path: Path, tree: Mapping[str, Any]) -> None:
    text = json.dumps(tree, indent=1, ensure_ascii=False, default=str)
    write_synced(path, (text + "\n").encode(errors="surrogatepass"))
