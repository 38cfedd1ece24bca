"""Files that `torch.save` wrote, read so that nothing in them can execute.

Two formats are read: the zip archive (PyTorch 1.6 on) and the stream of pickles before it; people call either `.tar`,
`.pth` or `.pt`. PyTorch's weights-only unpickler does the reading: it knows tensors and plain containers and calls
nothing else. Before it sees a file, its size, its kind and a zip's directory and checksums are looked at; what is
something else altogether is named for what it is.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from psm_stream.errors import CheckpointError

LARGEST = 1 << 30
"""Bytes; all five networks with the state of their optimisers take 419 MB."""
_LARGEST_PICKLE = 16 << 20
"""Bytes of a zip's pickle, which holds names and shapes and no weights; a published file's takes 30 kB."""

_ZIP = b"PK\x03\x04"
_STREAM = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""PyTorch's magic number as a pickle, which the format before zip begins with, behind the pickle's own two bytes."""
_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<script")
_WEB_PAGE = (
    "a web page, not a checkpoint: the file-sharing site answered with a page (a confirmation, a log-in, a quota) "
    "instead of the file; open the link in a browser, download it there and compare the size"
)
_TAR = (
    "a tar archive, which PyTorch wrote until 2017 and which cannot be read safely; if somebody packed the checkpoint "
    "into it, unpack it and give the file in it"
)
_OTHERS = (
    (b"\xff\xd8\xff", "a JPEG picture, not a checkpoint"),
    (b"\x89PNG", "a PNG picture, not a checkpoint"),
    (b"GIF8", "a GIF picture, not a checkpoint"),
    (b"%PDF", "a PDF document, not a checkpoint"),
    (b"\x89HDF", "an HDF5 file, not a checkpoint"),
    (b"\x1f\x8b", "a gzip archive; unpack it and give the file in it"),
    (b"BZh", "a bzip2 archive; unpack it and give the file in it"),
    (b"\xfd7zXZ", "an xz archive; unpack it and give the file in it"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it and give the file in it"),
    (b"Rar!", "a RAR archive; unpack it and give the file in it"),
)


def read_torch_file(path: Path, allowed: Sequence[type] = ()) -> object:
    """Read what was saved, on the CPU. Tensors may be views of the file: copy what is kept.

    allowed: classes that the file may hold beside tensors and plain containers, for this call alone. The reader makes
    an object of such a class and fills its attributes: allow none whose making or filling does more than that.
    Raises CheckpointError: the file is missing, too large, cut off, damaged, of another kind, or holds anything but
    tensors and plain containers, such as code; none of it has been executed then.
    """
    head = _head(path)
    is_zip = head.startswith(_ZIP)
    if is_zip:
        _check_zip(path)
    elif head[:1] != b"\x80" or not head[2:].startswith(_STREAM):
        raise CheckpointError(f"{path} is {_kind(head)}")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            warnings.simplefilter("ignore")  # about pickles; what they warn of ends in an error all the same
            # mapped, so that no record can claim more memory than the file has
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        raise CheckpointError(f"{path} {_reason(error)}") from error


def _head(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder; give the file that torch.save wrote")
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    if size > LARGEST:
        raise CheckpointError(f"{path} has {size / 1e6:.0f} MB; such a checkpoint has at most {LARGEST / 1e6:.0f} MB")
    if not head:
        raise CheckpointError(f"{path} is empty; download it again")
    return head


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_records(path, archive)
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path} is cut off or damaged ({error}); download it again and compare its size"
        ) from None
    except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError) as error:  # what a forged directory does
        raise CheckpointError(f"{path} has a zip directory that cannot be read ({error})") from None
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of {damaged!r} is wrong; download it again")


def _check_records(path: Path, archive: zipfile.ZipFile) -> None:
    records = archive.infolist()
    names = [record.filename for record in records]
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"{path} is a TorchScript program, which holds code; only weights are read")
    if not any(name.endswith("/data.pkl") for name in names):
        first = repr(names[0]) if names else "none"
        raise CheckpointError(
            f"{path} is a zip archive of other files, first {first}; if the checkpoint is one of them, unpack it"
        )
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise CheckpointError(f"{path}: {record.filename!r} is compressed, which PyTorch never does; not read")
        if record.filename.endswith("/data.pkl") and record.file_size > _LARGEST_PICKLE:
            raise CheckpointError(f"{path}: its pickle has {record.file_size / 1e6:.0f} MB, which no checkpoint needs")
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise CheckpointError(f"{path}: its records claim more bytes than the file has; not read")


def _kind(head: bytes) -> str:
    """What a file that PyTorch did not write is, by its first bytes, and what to do."""
    shown = head.lstrip(b"\xef\xbb\xbf\r\n\t ").lower()
    kinds = [(head.startswith(signature), kind) for signature, kind in _OTHERS]
    kinds += [
        (shown.startswith(_PAGE), _WEB_PAGE),
        (head[257:].startswith(b"ustar"), _TAR),
        (head[0] == 0x80 and head[1:2] <= b"\x05", "a Python pickle, which could execute code, so it is not read"),
        (head[8:9] == b"{" and b'"dtype"' in head, "a safetensors file, not the authors' format"),
        (all(byte >= 32 or byte in b"\t\n\r" for byte in head), "text, not a checkpoint; look at what it says"),
        (True, "not a file that torch.save wrote; download it again and compare its size"),
    ]
    return next(kind for matches, kind in kinds if matches)


def _reason(error: Exception) -> str:
    """Why PyTorch refused, without its advice to read unsafely."""
    text = str(error)
    if found := re.search(r"GLOBAL (\S+)", text):
        return (
            f"holds more than weights: it names {found[1]!r}, which reading would import or call, so it is refused "
            "and nothing was executed; get a file with state dicts alone"
        )
    if text.startswith("Weights only load failed"):
        return "holds more than weights (code, Python objects, or damage), so it is refused and nothing was executed"
    first = "".join(letter for letter in next(iter(text.splitlines()), "") if letter.isprintable())[:200]
    return f"is cut off or damaged ({first or type(error).__name__}); download it again and compare its size"
