"""Model files that are fetched on demand, pinned by digest."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from psm_stream.errors import PsmError
from psm_stream.people import home

CHUNK_BYTES = 1 << 16
TIMEOUT_S = 20.0
# ValueError: the text is no address at all.
_NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)


class FetchError(PsmError):
    """A model could not be fetched, or is not the file that was expected."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file on the network. sha256: hex digest of the only content that is accepted."""

    name: str
    url: str
    sha256: str
    size_bytes: int

    def path(self) -> Path:
        """Return where it is kept."""
        return home() / "models" / self.name


FACE_LANDMARKER = ModelFile(
    name="face_landmarker.task",
    url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    size_bytes=3_758_596,
)
"""MediaPipe Face Landmarker: detector, 478 landmarks, 52 blendshapes; Apache-2.0."""


def is_intact(path: Path, model: ModelFile) -> bool:
    """Tell whether the file is there and is the pinned one."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256


def fetch(model: ModelFile, progress: Callable[[int], None], url: str | None = None) -> Path:
    """Download a model to its place, unless it is there already. progress: called with the bytes that came.

    url: another place that holds the same file. Nothing is left behind on failure.
    Raises FetchError: offline, refused, no address, too large, a wrong digest, or it cannot be kept here.
    """
    path = model.path()
    source = url or model.url
    partial = path.with_name(path.name + ".partial")
    try:
        if is_intact(path, model):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            digest = _download(source, file, model, progress)
        if digest != model.sha256:
            raise FetchError(f"{source} gave another file (sha256 {digest[:12]}..., expected {model.sha256[:12]}...)")
        partial.replace(path)
    except OSError as error:
        raise FetchError(
            f"cannot keep {model.name} at {path}: {error.strerror or error}; make room and the folder writable, "
            "or set PSM_HOME to another"
        ) from None
    finally:
        with suppress(OSError):  # where there is no folder, there is no file either
            partial.unlink()
    return path


def _download(url: str, file: BinaryIO, model: ModelFile, progress: Callable[[int], None]) -> str:
    """Write what the address gives to `file`. Returns its sha256. Raises OSError when it cannot be written."""
    try:
        response = urllib.request.urlopen(url, timeout=TIMEOUT_S)
    except _NETWORK_ERRORS as error:
        raise _not_fetched(model, url, error) from None
    digest = hashlib.sha256()
    total = 0
    with response:
        while chunk := _receive(response, model, url):
            total += len(chunk)
            if total > model.size_bytes:
                break  # the digest will not match, and the disk does not fill up
            digest.update(chunk)
            file.write(chunk)
            progress(len(chunk))
    return digest.hexdigest()


def _receive(response: BinaryIO, model: ModelFile, url: str) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except _NETWORK_ERRORS as error:
        raise _not_fetched(model, url, error) from None


def _not_fetched(model: ModelFile, url: str, error: Exception) -> FetchError:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
    reason = " ".join(str(getattr(error, "reason", None) or error).split())
    return FetchError(
        f"cannot fetch {model.name} from {url!r}: {reason}; go online and try again, or put the file at {model.path()}"
    )
