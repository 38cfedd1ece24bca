"""The session folder: where a recording lives, what its info.json says, and copies of the encoders it used.

    <root>/<YYYY-MM-DD>/<NNN>/
        info.json            what was recorded, when on both clocks, with which settings, versions and models
        session.mcap         every input and every published message, in order
        video.mkv            source video, if asked for
        models/<model_id>/   every encoder bundle used, with its checkpoint/ where it has one
        adaptations/<NNN>/   what each training started from and came to
        exports/<NNN>/       tables made from it

A folder is made by exclusive mkdir and never reused, so nothing is ever overwritten.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psm_stream.bundle import MANIFEST, EncoderBundle
from psm_stream.errors import SessionError

SCHEMA = 1
INFO = "info.json"
LOG = "session.mcap"
VIDEO = "video.mkv"
MODELS = "models"
ADAPTATIONS = "adaptations"
EXPORTS = "exports"

_INFO_LIMIT = 4 * 2**20
_NUMBERED = re.compile(r"^[0-9]{3,6}$")
_MODEL_ID = re.compile(r"^[0-9a-f]{12}$")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ClockPair(_Part):
    """One moment on both clocks, seconds: unix = unix_here + (monotonic - monotonic_here)."""

    monotonic: float
    unix: float

    def unix_ns(self, t: float) -> int:
        """Return monotonic time t as unix nanoseconds; 0 for what lies before 1970 or is not a number."""
        moment = self.unix + (t - self.monotonic)
        return round(moment * 1e9) if 0 <= moment < 2**63 / 1e9 else 0


class Finish(_Part):
    """How a recording ended."""

    at: ClockPair
    reason: str
    failed: bool = False
    """Something went wrong, so that the last frame may be there in part."""
    inputs: int
    messages: int
    video_frames: int = 0
    video_dropped: Mapping[str, int] = Field(default_factory=dict)
    """Video frames that were lost, by cause."""


class AdaptationEntry(_Part):
    """One adaptation, in short; `adaptations/<number>/` has all of it."""

    number: str
    accepted: bool
    reason: str
    model_id: str | None
    """Of the new model; a swap to it names the same."""
    parent: str | None
    """model_id of what training started from."""


class SessionInfo(_Part):
    """What info.json holds. `finished` is null while recording, and stays so when the recording was cut off."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    uuid: str = Field(pattern=r"^[0-9a-f]{32}$")
    run: str
    """The `session` of every message header: several recordings of one run share it."""
    name: str = ""
    """What the experiment called it (`R <name>`)."""
    started: ClockPair
    source: str
    provider: str
    """ONNX Runtime's execution provider at the start."""
    models: tuple[str, ...]
    """model_id of every encoder used, in order of first use."""
    terms: Mapping[str, str] = Field(default_factory=dict)
    """By model_id: licence and training data of each, in words; in older sessions the manifests alone say it."""
    video: Literal["off", "h264", "lossless"] = "off"
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    adaptations: tuple[AdaptationEntry, ...] = ()
    """Trainings that ended while recording, in order; known at the end."""
    finished: Finish | None = None


def new_numbered(parent: Path) -> Path:
    """Make and return `<parent>/<NNN>`, the next free number from 001; two processes never get the same one.

    Raises SessionError: the folder cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(name) for name in os.listdir(parent) if _NUMBERED.match(name)), default=0)
        while True:
            folder = parent / f"{number:03d}"
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder
    except OSError as error:
        raise SessionError(
            f"cannot make a folder in {parent}: {in_words(error, parent)}; name one that can be written"
        ) from None


def new_session_folder(root: Path, unix: float) -> Path:
    """Make and return the folder of a new session that starts at unix time, local date.

    Raises SessionError: the root cannot be written.
    """
    return new_numbered(root.absolute() / time.strftime("%Y-%m-%d", time.localtime(unix)))


def redacted(value: Any) -> Any:
    """Return plain values with the user and password of every address in them blotted out."""
    if isinstance(value, str):
        return _CREDENTIALS.sub("***", value)
    if isinstance(value, Mapping):
        return {key: redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return value


def new_uuid() -> str:
    """Return 32 hex digits that no other session has."""
    return uuid.uuid4().hex


def write_info(folder: Path, info: SessionInfo) -> None:
    """Replace info.json as a whole: a reader, or a crash, meets the old one or the new one, never a part.

    Raises OSError.
    """
    text = json.dumps(info.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False)
    draft = folder / (INFO + ".new")
    with draft.open("w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / INFO)
    sync_folder(folder)


def read_info(folder: Path) -> SessionInfo:
    """Return what info.json says. Raises SessionError: it is missing, damaged, foreign or of a newer schema."""
    path = folder / INFO
    try:
        if path.stat().st_size > _INFO_LIMIT:
            raise SessionError(f"{path} is larger than {_INFO_LIMIT} bytes, so it is not a session's")
        tree = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    except FileNotFoundError:
        raise SessionError(f"{folder} is not a session: it has no {INFO}{_sessions_below(folder)}") from None
    except NotADirectoryError:
        raise SessionError(f"{folder} is a file; give the session's folder") from None
    except OSError as error:
        raise SessionError(f"cannot read {path}: {in_words(error, path)}") from None
    except (ValueError, RecursionError) as error:
        raise SessionError(f"{path} is damaged: {' '.join(str(error).split())}") from None
    schema = tree.get("schema") if isinstance(tree, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise SessionError(f"{folder} has session schema {schema}, this psm-stream reads {SCHEMA}; install a newer one")
    try:
        return SessionInfo.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise SessionError(f"{path} is not a session's: {where}: {first['msg']}") from None


def copy_bundle(bundle: EncoderBundle, session: Path) -> None:
    """Copy the files of an encoder bundle to `models/<model_id>/`, as a whole or not at all, once.

    Raises OSError; SessionError: its model_id cannot name a folder; BundleError: it changed since it was opened.
    """
    target = model_folder(session, bundle.manifest.model_id)
    if target.exists():
        return
    draft = new_draft(target)
    try:
        shutil.copyfile(bundle.folder / MANIFEST, draft / MANIFEST)
        for name in bundle.manifest.files:
            (draft / name).write_bytes(bundle.read(name))
        draft.rename(target)
    except OSError:
        if not target.exists():  # else another thread was faster, with the same model
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def new_draft(target: Path) -> Path:
    """Make and return an empty folder beside target, to be renamed to it; nobody else gets the same. Raises OSError."""
    draft = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    draft.mkdir(parents=True)
    return draft


def model_folder(session: Path, model_id: str) -> Path:
    """Return `models/<model_id>`. Raises SessionError: model_id is not 12 hex digits, so it must not become a path."""
    if not _MODEL_ID.match(model_id):
        raise SessionError(f"{session} names a model {model_id!r}; a model_id is 12 hex digits")
    return session / MODELS / model_id


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut, where the system can (not on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def in_words(error: OSError, besides: Path | None = None) -> str:
    """Return what the system says went wrong, and with which file unless it is the one that was named already."""
    words = error.strerror or str(error)
    return f"{words}: {error.filename}" if error.filename and error.filename != str(besides) else words


def _sessions_below(folder: Path) -> str:
    if not folder.exists():
        return "; the folder does not exist"
    found = sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob(f"*/{INFO}"))
    found += sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob(f"*/*/{INFO}"))
    return f"; give one of those inside it, such as {folder / found[-1]}" if found else ""
