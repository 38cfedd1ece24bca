"""People's models and clusters on their way to another computer, and back.

    NAME/NNN/...            a zip or folder of models, each as in the store
    NAME/clusters.npz       and clusters

The folder that `psm-adapt finetune` leaves is read, too, so that a model that could not be kept can be kept later.

What comes in was written by somebody else: only names that models and clusters have are read, no link is followed, and
nothing is written but copies of files, under a name and number of our own.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psm_stream.adaptation.layout import BUNDLE, CHECKPOINT
from psm_stream.bundle import MANIFEST, open_bundle
from psm_stream.config import wrong_name
from psm_stream.errors import AdaptationError, ConfigError
from psm_stream.people import CLUSTERS, Model
from psm_stream.people_keep import files_of, result_files
from psm_stream.redact import printable

_PERSON = r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})/"
_OF_MODEL = re.compile(_PERSON + r"([0-9]{1,9})/(?:checkpoint/)?[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
_OF_CLUSTERS = re.compile(_PERSON + re.escape(CLUSTERS))
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


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds. models: in order of name and number. clusters: files by person, not checked yet."""

    models: Sequence[Found]
    clusters: Mapping[str, Path]


def pack(models: Sequence[Model], out: Path, clusters: Mapping[str, Path] | None = None) -> None:
    """Write models to a new zip (a name that ends in .zip) or folder, which appears whole and is its owner's alone.

    clusters: files by person, which go with them.

    Raises ConfigError: `out` exists. BundleError, AdaptationError: a model is damaged, or the disk refuses.
    """
    if out.exists():
        raise ConfigError(f"{out} exists; models are never written over anything, give a new file or folder")
    files = {
        f"{model.name}/{name}": source for model in models for name, source in sorted(files_of(model.folder).items())
    }
    files |= {f"{person}/{CLUSTERS}": source for person, source in (clusters or {}).items()}
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
def unpacked(place: Path) -> Iterator[Contents]:
    """Give what an archive holds, while this is open.

    Raises AdaptationError: it is none, holds anything else, more than 4 GiB or nothing. BundleError: the model in
    the folder of a finetune run is damaged.
    """
    if (place / BUNDLE / MANIFEST).is_file():
        with tempfile.TemporaryDirectory(prefix="psm-people-") as work:
            yield Contents([_of_a_run(place, Path(work))], {})
    elif place.is_dir():
        yield _found(place)
    else:
        with tempfile.TemporaryDirectory(prefix="psm-people-") as work:
            _extract(place, Path(work))
            yield _found(Path(work), place)


def _write_zip(out: Path, files: dict[str, Path]) -> None:
    with open(out, "xb", opener=_private) as whole, zipfile.ZipFile(whole, "w") as archive:
        for name, source in files.items():
            with source.open("rb") as file, archive.open(zipfile.ZipInfo(name, _WHEN), "w") as entry:
                shutil.copyfileobj(file, entry, 1 << 20)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_folder(out: Path, files: dict[str, Path]) -> None:
    out.mkdir(mode=0o700)
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
    match = _OF_MODEL.fullmatch(entry.filename) or _OF_CLUSTERS.fullmatch(entry.filename)
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


def _found(folder: Path, named: Path | None = None) -> Contents:
    """Look for NAME/NNN/manifest.json and NAME/clusters.npz."""
    models = [
        Found(match[1], int(match[2]), manifest.parent)
        for manifest in folder.glob(f"*/*/{MANIFEST}")
        if (match := _matched(_OF_MODEL, folder, manifest)) and not manifest.parent.is_symlink()
    ]
    clusters = {
        match[1]: file
        for file in sorted(folder.glob(f"*/{CLUSTERS}"))
        if (match := _matched(_OF_CLUSTERS, folder, file)) and not file.is_symlink()
    }
    if not models and not clusters:
        raise AdaptationError(
            f"{named or folder} holds no models; expected NAME/NNN/{MANIFEST}, as psm-adapt people export writes"
        )
    return Contents(sorted(models, key=lambda one: (one.person, one.number)), clusters)


def _matched(pattern: re.Pattern[str], folder: Path, file: Path) -> re.Match[str] | None:
    """Match a file's place in an archive, if the person's folder is none that is elsewhere."""
    match = pattern.fullmatch(file.relative_to(folder).as_posix())
    return match if match and not wrong_name(match[1]) and not (folder / match[1]).is_symlink() else None
