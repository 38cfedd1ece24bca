"""People's models on their way to another computer: a folder or zip of NAME/NNN/..., and back.

The folder that `psm-adapt finetune` leaves is read, too, so that a model that could not be kept can be kept later.

What comes in was written by somebody else: only names that such a model has are read, no link is followed, and nothing
is written but copies of files, under a name and number of our own.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psm_stream.adaptation.layout import BUNDLE, CHECKPOINT
from psm_stream.bundle import MANIFEST, open_bundle
from psm_stream.config import wrong_name
from psm_stream.errors import AdaptationError, ConfigError
from psm_stream.people import Model
from psm_stream.people_keep import files_of, result_files
from psm_stream.sources.redact import printable

_ENTRY = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})/([0-9]{1,9})/(?:checkpoint/)?[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}"
)
_WHEN = (1980, 1, 1, 0, 0, 0)
"""Of every entry, so that the same models give the same zip."""
_MOST_BYTES = 4 << 30
_MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Found:
    """A model in an archive. person, number: what it was called there. folder: its files, not checked yet."""

    person: str
    number: int
    folder: Path


def pack(models: Sequence[Model], out: Path) -> None:
    """Write models to a new zip (a name that ends in .zip) or folder, which appears whole.

    Raises ConfigError: `out` exists. BundleError, AdaptationError: a model is damaged, or the disk refuses.
    """
    if out.exists():
        raise ConfigError(f"{out} exists; models are never written over anything, give a new file or folder")
    files = {
        f"{model.name}/{name}": source for model in models for name, source in sorted(files_of(model.folder).items())
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as work:
            fresh = Path(work) / out.name
            if out.suffix.lower() == ".zip":
                _write_zip(fresh, files)
            else:
                _write_folder(fresh, files)
            fresh.rename(out)
    except OSError as error:
        raise AdaptationError(f"cannot write {out}: {error.strerror or error}") from None


@contextmanager
def unpacked(place: Path) -> Iterator[list[Found]]:
    """Give the models of an archive, in order of name and number, while this is open.

    Raises AdaptationError: it is none, holds anything else, more than 4 GiB or no model. BundleError: the model in
    the folder of a finetune run is damaged.
    """
    if (place / BUNDLE / MANIFEST).is_file():
        with tempfile.TemporaryDirectory(prefix="psm-people-") as work:
            yield [_of_a_run(place, Path(work))]
    elif place.is_dir():
        yield _found(place)
    else:
        with tempfile.TemporaryDirectory(prefix="psm-people-") as work:
            _extract(place, Path(work))
            yield _found(Path(work), place)


def _write_zip(out: Path, files: dict[str, Path]) -> None:
    with zipfile.ZipFile(out, "x") as archive:
        for name, source in files.items():
            with source.open("rb") as file, archive.open(zipfile.ZipInfo(name, _WHEN), "w") as entry:
                shutil.copyfileobj(file, entry, 1 << 20)


def _write_folder(out: Path, files: dict[str, Path]) -> None:
    for name, source in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, out / name)


def _extract(place: Path, into: Path) -> None:
    try:
        with zipfile.ZipFile(place) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise AdaptationError(f"{place}: more than {_MOST_BYTES >> 30} GiB or {_MOST_ENTRIES} files; refused")
            for entry in entries:
                if not entry.is_dir():
                    _extract_one(archive, entry, place, into)
    except FileNotFoundError:
        raise ConfigError(f"{place}: no such file or folder") from None
    except FileExistsError as error:
        raise AdaptationError(f"{place}: {Path(error.filename).name} is in it twice; refused") from None
    except OSError as error:
        raise AdaptationError(f"cannot read {place}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise AdaptationError(f"{place} is no zip that can be read ({' '.join(str(error).split())})") from None


def _extract_one(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path, into: Path) -> None:
    match = _ENTRY.fullmatch(entry.filename)
    if not match or wrong_name(match[1]):
        raise AdaptationError(
            f"{place}: {printable(entry.filename)!r} is no file of a person's model; nothing was imported"
        )
    target = into / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _of_a_run(out: Path, work: Path) -> Found:
    """Copy the model that a finetune run made, which lies there in another way than in the store."""
    files = result_files(out)
    try:
        (work / CHECKPOINT).mkdir()
        for name, source in files.items():
            if source.is_symlink() or source.parent.is_symlink():
                raise AdaptationError(f"{source} is a link; give a folder that holds the files themselves")
            shutil.copyfile(source, work / name)
    except OSError as error:
        raise AdaptationError(f"cannot copy the model in {out}: {error.strerror or error}") from None
    return Found(open_bundle(work).manifest.person or "", 1, work)


def _found(folder: Path, named: Path | None = None) -> list[Found]:
    """Look for NAME/NNN/manifest.json."""
    found = []
    for manifest in folder.glob(f"*/*/{MANIFEST}"):
        model = manifest.parent
        match = _ENTRY.fullmatch(manifest.relative_to(folder).as_posix())
        if match and not wrong_name(match[1]) and not model.is_symlink() and not model.parent.is_symlink():
            found.append(Found(match[1], int(match[2]), model))
    if not found:
        raise AdaptationError(
            f"{named or folder} holds no models; expected NAME/NNN/{MANIFEST}, as psm-adapt people export writes"
        )
    return sorted(found, key=lambda one: (one.person, one.number))
