"""Keeping and deleting people's models: whole or not at all, for their owner's eyes, never over another.

A model is copied under a hidden name, checked, and renamed to a number that nobody has, so that several processes may
keep models at once. What a process that died left behind is removed by the next.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import Field

from psm_stream.adaptation.layout import ADAPTATION, BUNDLE, CHECKPOINT, CHECKPOINT_ABOUT
from psm_stream.bundle import MANIFEST, ModelId, Sha256, open_bundle
from psm_stream.errors import AdaptationError
from psm_stream.people import (
    Adaptation,
    Read,
    folder_of,
    home,
    is_number,
    is_there,
    model_folder,
    model_of,
    numbers,
    parse,
)

_WORK = re.compile(r"\.(?:keep|delete)-([0-9]+)-[0-9a-f]+")
_TRIES = 1000


class _Checkpoint(Read):
    """What checkpoint.json says that can be checked without torch."""

    schema_version: int = Field(alias="schema", ge=1, le=1)
    model_id: ModelId
    files: dict[Annotated[str, Field(pattern=r"^[a-z_]{1,32}\.safetensors$")], Annotated[str, Sha256]] = Field(
        min_length=1
    )


def check_writable(folder: Path) -> None:
    """Try whether something can be written into a folder, or, where it is not there yet, whether it can be made.

    Leaves nothing. Raises AdaptationError: it cannot.
    """
    at = folder
    try:
        at = next(one for one in (folder, *folder.parents) if one.exists())
        probe = at / work_name("keep")
        probe.mkdir(mode=0o700)
        probe.rmdir()
    except OSError as error:
        raise AdaptationError(
            f"cannot write into {at}: {error.strerror or error}; PSM_HOME names another folder for people's models"
        ) from None


def keep(person: str, out: Path) -> Path:
    """Keep what an adaptation worker left in `out` as the person's newest model, and return the model's folder.

    Raises AdaptationError: it was not accepted, something is missing or changed, or the disk refuses. BundleError: the
    bundle is damaged. Nothing is kept then.
    """
    return keep_files(person, result_files(out))


def result_files(out: Path) -> dict[str, Path]:
    """Name every file of a model in what a worker or `psm-adapt finetune` wrote, by its name in a kept model's folder.

    Raises BundleError, AdaptationError: the model is damaged.
    """
    bundle = open_bundle(out / BUNDLE)
    return {**{name: bundle.folder / name for name in (MANIFEST, *bundle.manifest.files)}, **_rest(out)}


def files_of(folder: Path) -> dict[str, Path]:
    """Name every file that belongs to a kept model, "checkpoint/encoder.safetensors" and so on, and nothing else.

    Raises BundleError, AdaptationError: the model is damaged.
    """
    bundle = open_bundle(folder)
    return {**{name: folder / name for name in (MANIFEST, *bundle.manifest.files)}, **_rest(folder)}


def keep_files(person: str, files: Mapping[str, Path]) -> Path:
    """Keep copies of a model's files, by their names in its folder, under the next number. Returns the folder.

    What is checked is the copy. Raises as `keep`.
    """
    place = folder_of(person)
    try:
        make_private(place)
        sweep(place)
        fresh = place / work_name("keep")
        try:
            _copy(files, fresh)
            check(fresh)
            return _claim(place, fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise AdaptationError(f"cannot keep a model of {person} in {place}: {error.strerror or error}") from None


def delete(person: str, number: int | None = None) -> list[Path]:
    """Delete one model of a person, or everything of theirs. Returns the folders that were models, now gone.

    The person's folder goes with the last model, unless something else is in it; a folder without any goes, too.

    Raises ConfigError: no such person or model. AdaptationError: the disk refuses.
    """
    place, known = home() / "people" / person, numbers(person)  # nobody is checked: one of an older version may go
    if not (is_there(person) if number is None else number in known):
        model_of(person, number)  # says what there is
    gone = [model_folder(person, one) for one in (known if number is None else [number])]
    try:
        for folder in gone:
            doomed = place / work_name("delete")
            folder.rename(doomed)  # at once for everybody else, however long removing takes
            shutil.rmtree(doomed)
        if number is None:
            shutil.rmtree(place)
        elif not numbers(person):
            sweep(place)
            with suppress(OSError):  # something else is in it
                place.rmdir()
    except OSError as error:
        raise AdaptationError(f"cannot delete {error.filename or place}: {error.strerror or error}") from None
    return gone


def check(folder: Path) -> None:
    """Check a model's folder: every digest, and that its parts are of one training.

    Raises BundleError, AdaptationError: something is missing, changed, or of another model.
    """
    manifest = open_bundle(folder).manifest
    checkpoint = _check_checkpoint(folder / CHECKPOINT)
    adaptation = parse(Adaptation, folder / ADAPTATION)
    if not adaptation.accepted:
        raise AdaptationError(f"{folder}: the model was not accepted ({adaptation.reason}), so it is not kept")
    pairs = (
        ("the bundle", manifest.model_id, adaptation.model_id),
        ("the bundle's checkpoint", manifest.training.get(CHECKPOINT), checkpoint.model_id),
        ("the checkpoint", checkpoint.model_id, adaptation.checkpoint_id),
        ("the bundle's parent", manifest.parent, adaptation.parent),
    )
    for what, found, wanted in pairs:
        if found != wanted:
            raise AdaptationError(
                f"{folder}: {what} is {found}, expected {wanted}; its parts are of different models, copy it again"
            )


def _rest(folder: Path) -> dict[str, Path]:
    """What a model has beside its bundle."""
    checkpoint = parse(_Checkpoint, folder / CHECKPOINT / CHECKPOINT_ABOUT)
    names = [ADAPTATION, *(f"{CHECKPOINT}/{name}" for name in (CHECKPOINT_ABOUT, *checkpoint.files))]
    return {name: folder / name for name in names}


def _check_checkpoint(folder: Path) -> _Checkpoint:
    checkpoint = parse(_Checkpoint, folder / CHECKPOINT_ABOUT)
    for name, digest in checkpoint.files.items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise AdaptationError(f"{folder}: cannot read {name}: {error.strerror or error}") from None
        if found != digest:
            raise AdaptationError(
                f"{folder}: {name} is not the file that {CHECKPOINT_ABOUT} names; it was changed or cut off"
            )
    return checkpoint


def _copy(files: Mapping[str, Path], fresh: Path) -> None:
    """Copy files into a new folder, and have them on the disk."""
    (fresh / CHECKPOINT).mkdir(parents=True, mode=0o700)
    for name, source in files.items():
        if source.is_symlink():
            raise AdaptationError(f"{source} is a link; give a folder that holds the files themselves")
        if not source.is_file():
            raise AdaptationError(f"{source} is missing; copy the whole folder again")
        with source.open("rb") as file, (fresh / name).open("xb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())


def _claim(place: Path, fresh: Path) -> Path:
    """Give a whole folder the next number; where another process takes that first, the one after it."""
    taken = max((int(one.name) for one in place.iterdir() if is_number(one.name)), default=0)
    for number in range(taken + 1, taken + _TRIES):
        folder = place / f"{number:03d}"
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            continue
        sync(place)
        return folder
    raise AdaptationError(f"no free number in {place} after {taken:03d}")


def make_private(place: Path) -> None:
    """Make the folders of a person and of everybody, which only their owner may enter."""
    for folder in (place.parent, place):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def sweep(place: Path) -> None:
    """Remove what processes left that ended in the middle of keeping or deleting."""
    for entry in place.iterdir():
        work = _WORK.fullmatch(entry.name)
        if work and not psutil.pid_exists(int(work[1])):
            _remove(entry)


def work_name(what: str) -> str:
    """Return a hidden name that nobody has. what: "keep" or "delete"."""
    return f".{what}-{os.getpid()}-{secrets.token_hex(4)}"


def sync(folder: Path) -> None:
    """Have a folder's new names on the disk, where the system offers that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with suppress(OSError):
            entry.unlink()
