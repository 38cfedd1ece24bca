"""Model files that are fetched on demand, pinned by digest."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from psm_stream.errors import PsmError
from psm_stream.people import home

CHUNK_BYTES = 1 << 16
TIMEOUT_S = 20.0


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
    Raises FetchError: offline, refused, too large, or a wrong digest.
    """
    path = model.path()
    if is_intact(path, model):
        return path
    source = url or model.url
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with urllib.request.urlopen(source, timeout=TIMEOUT_S) as response, partial.open("wb") as file:
            digest = _copy(response, file, model.size_bytes, progress)
        if digest != model.sha256:
            raise FetchError(f"{source} gave another file (sha256 {digest[:12]}..., expected {model.sha256[:12]}...)")
        partial.replace(path)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise FetchError(
            f"cannot fetch {model.name} from {source}: {reason}; go online and try again, or put the file at {path}"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def _copy(response: BinaryIO, file: BinaryIO, limit_bytes: int, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    total = 0
    while chunk := response.read(CHUNK_BYTES):
        total += len(chunk)
        if total > limit_bytes:
            break  # the digest will not match, and the disk does not fill up
        digest.update(chunk)
        file.write(chunk)
        progress(len(chunk))
    return digest.hexdigest()
