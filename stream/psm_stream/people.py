"""People: where each person's own models are kept between sessions.

    <home>/people/<name>/<NNN>/     one accepted model; the highest number is the newest
        manifest.json, encoder.onnx     its bundle, which the live path runs
        checkpoint/                     its weights in half precision, which further training starts from
        adaptation.json                 how it came about
    <home>/people/<name>/.<what>-<process>-<letters>    on the way in or out; removed once that process is gone

home is `PSM_HOME`, or the user's data folder. A model appears whole or not at all, under a number that nobody has, so
that several processes may keep models at once. What is not named by a number is no model.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, TypeVar

import platformdirs
import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psm_stream.adaptation.layout import ADAPTATION, BUNDLE, CHECKPOINT, CHECKPOINT_ABOUT
from psm_stream.bundle import MANIFEST, EncoderBundle, Manifest, ModelId, Sha256, general_bundle, open_bundle
from psm_stream.cli.common import nearest
from psm_stream.config import NAME, wrong_name
from psm_stream.errors import AdaptationError, BundleError, ConfigError, PsmError

GENERAL = "general"
"""What the general model is called where a base is named."""
PREFIX = "person:"
"""Begins a base that is a person's model: person:NAME is the newest, person:NAME/003 that one."""

_WORK = re.compile(r"\.(?:keep|delete)-([0-9]+)-[0-9a-f]+")
_TRIES = 1000

Parsed = TypeVar("Parsed", bound=BaseModel)


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Adaptation(_Read):
    """What adaptation.json, schema 1, says that a list of models shows."""

    schema_version: int = Field(alias="schema", ge=1, le=1)
    accepted: bool
    reason: str = ""
    model_id: ModelId | None = None
    checkpoint_id: ModelId | None = None
    parent: str = ""
    recipe_name: str = ""
    frames: int = 0
    epochs: int = 0
    seconds: float = 0.0
    loss_before: float | None = None
    loss_after: float | None = None
    figures: dict[str, float | None] = Field(default_factory=dict)


class _Checkpoint(_Read):
    """What checkpoint.json says that can be checked without torch."""

    schema_version: int = Field(alias="schema", ge=1, le=1)
    model_id: ModelId
    files: dict[Annotated[str, Field(pattern=r"^[a-z_]{1,32}\.safetensors$")], Annotated[str, Sha256]] = Field(
        min_length=1
    )


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a person, whose bundle was whole when it was read.

    adaptation: how it came about. kept_at: s, unix time at which it came into this store.
    """

    person: str
    number: int
    folder: Path
    manifest: Manifest
    adaptation: Adaptation
    kept_at: float

    @property
    def name(self) -> str:
        """As a base is named, without the prefix: ada/003."""
        return f"{self.person}/{self.number:03d}"

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def home() -> Path:
    """Return the folder for the user's models and people."""
    chosen = os.environ.get("PSM_HOME")
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("psm-stream", appauthor=False))


def folder_of(person: str) -> Path:
    """Return the folder of a person's models, which may not exist. Raises ConfigError: nobody can be called so."""
    trouble = wrong_name(person)
    if trouble:
        raise ConfigError(trouble)
    return home() / "people" / person


def check_writable(folder: Path) -> None:
    """Try whether something can be written into a folder, or, where it is not there yet, whether it can be made.

    Leaves nothing. Raises AdaptationError: it cannot.
    """
    at = folder
    try:
        at = next(one for one in (folder, *folder.parents) if one.exists())
        probe = at / _work_name("keep")
        probe.mkdir(mode=0o700)
        probe.rmdir()
    except OSError as error:
        raise AdaptationError(
            f"cannot write into {at}: {error.strerror or error}; PSM_HOME names another folder for people's models"
        ) from None


def everyone() -> list[str]:
    """Names of the people who have a model, in order. Raises AdaptationError: the folder cannot be read."""
    place = home() / "people"
    try:
        return sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and numbers(entry.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AdaptationError(_unreadable(place, error)) from None


def numbers(person: str) -> list[int]:
    """Numbers of a person's models, the newest last; none for a stranger.

    Raises AdaptationError: the folder cannot be read.
    """
    place = home() / "people" / person
    try:
        if not NAME.fullmatch(person) or not place.is_dir():
            return []
        return sorted(int(one.name) for one in place.iterdir() if _is_number(one.name) and (one / MANIFEST).is_file())
    except OSError as error:
        raise AdaptationError(_unreadable(place, error)) from None


def is_there(person: str) -> bool:
    """Whether there is a folder of this person, which may hold no model."""
    return NAME.fullmatch(person) is not None and (home() / "people" / person).is_dir()


def newest_model(person: str) -> Path | None:
    """Return the bundle folder of a person's newest model, or None when there is none yet."""
    known = numbers(person)
    return _folder(person, known[-1]) if known else None


def open_newest(person: str) -> EncoderBundle | None:
    """Open the bundle of a person's newest model, or None when there is none yet.

    Raises BundleError: it is damaged; it says how to do without it.
    """
    known = numbers(person)
    if not known:
        return None
    try:
        return open_bundle(_folder(person, known[-1]))
    except BundleError as error:
        older = next((f"{number:03d}" for number in reversed(known[:-1]) if _is_whole(person, number)), None)
        instead = f"--model {GENERAL}" if older is None else f"--model {PREFIX}{person}/{older} or --model {GENERAL}"
        raise BundleError(
            f"{person}'s newest model is damaged: {error}; psm-adapt people delete {person} --model {known[-1]:03d} "
            f"removes it, {instead} does without it"
        ) from None


def model_of(person: str, number: int | None = None) -> Model:
    """Read a person's model, the newest unless a number is given.

    Raises ConfigError: no such person or model; it names the nearest person. BundleError, AdaptationError: the model
    is damaged.
    """
    known = numbers(person)
    if not known:
        raise ConfigError(f"no models of {person!r} in {home() / 'people'}{nearest(person, everyone())}")
    if number is not None and number not in known:
        raise ConfigError(f"{person} has no model {number:03d}; there are {_listed(known)}")
    number = known[-1] if number is None else number
    folder = _folder(person, number)
    manifest = open_bundle(folder).manifest
    adaptation = _parse(Adaptation, folder / ADAPTATION)
    return Model(person, number, folder, manifest, adaptation, (folder / ADAPTATION).stat().st_mtime)


def base_of(bundle: EncoderBundle) -> str | None:
    """Say what further training of a bundle's encoder starts from.

    Returns `general` for the encoder that ships, the bundle's folder when it holds `checkpoint/` too, else None: its
    weights are not there.
    """
    if bundle.manifest.model_id == _general_id():
        return GENERAL
    has_weights = (bundle.folder / CHECKPOINT / CHECKPOINT_ABOUT).is_file()
    return str(bundle.folder) if has_weights else None


@cache
def _general_id() -> str:
    """Of the encoder that ships; read once, since a live run asks between two frames."""
    return open_bundle(general_bundle()).manifest.model_id


def base_named(base: str) -> str:
    """Return the model folder that `person:NAME`, `person:NAME/NNN` or `general` means; any other base as it is.

    A folder that is called general stays one.

    Raises ConfigError: no such person or model. BundleError, AdaptationError: the model is damaged, or has no weights.
    """
    if base == GENERAL and not Path(base).exists():
        return str(general_bundle())
    if not base.startswith(PREFIX):
        return base
    person, _, number = base.removeprefix(PREFIX).partition("/")
    if number and not _is_number(number):
        raise ConfigError(f"{base}: a model is named by its number, as in {PREFIX}{person}/003")
    model = model_of(person, int(number) if number else None)
    if not (model.folder / CHECKPOINT / CHECKPOINT_ABOUT).is_file():
        raise AdaptationError(f"{base}: {model.folder} holds no {CHECKPOINT}/, so nothing can start from it")
    return str(model.folder)


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
        _make_private(place)
        _sweep(place)
        fresh = place / _work_name("keep")
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
    gone = [_folder(person, one) for one in (known if number is None else [number])]
    try:
        for folder in gone:
            doomed = place / _work_name("delete")
            folder.rename(doomed)  # at once for everybody else, however long removing takes
            shutil.rmtree(doomed)
        if number is None:
            shutil.rmtree(place)
        elif not numbers(person):
            _sweep(place)
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
    adaptation = _parse(Adaptation, folder / ADAPTATION)
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


def lineage(model: Model, known: Iterable[Model]) -> list[Model]:
    """Return a model's ancestors among known ones, its parent first; the last one's own parent is not among them.

    Raises AdaptationError: a model is its own ancestor.
    """
    by_id = {one.manifest.model_id: one for one in known}
    line: list[Model] = []
    one = model
    while (parent := by_id.get(one.manifest.parent or "")) is not None:
        if parent.manifest.model_id == model.manifest.model_id or parent in line:
            raise AdaptationError(f"{model.folder}: {parent.name} is its own ancestor; delete the model")
        line.append(parent)
        one = parent
    return line


def readable() -> tuple[list[Model], list[tuple[str, str]]]:
    """Read every model of everybody. Returns those that are whole, and (ada/003, what is wrong) of the others."""
    whole: list[Model] = []
    broken: list[tuple[str, str]] = []
    for person in everyone():
        for number in numbers(person):
            try:
                whole.append(model_of(person, number))
            except PsmError as error:
                broken.append((f"{person}/{number:03d}", str(error)))
    return whole, broken


def _is_whole(person: str, number: int) -> bool:
    try:
        open_bundle(_folder(person, number))
    except PsmError:
        return False
    return True


def _folder(person: str, number: int) -> Path:
    """The folder of that number, as it is written: 3 may be 003, or a 0003 that somebody made."""
    place = home() / "people" / person
    usual = place / f"{number:03d}"
    if (usual / MANIFEST).is_file():
        return usual
    return next(one for one in place.iterdir() if _is_number(one.name) and int(one.name) == number)


def _rest(folder: Path) -> dict[str, Path]:
    """What a model has beside its bundle."""
    checkpoint = _parse(_Checkpoint, folder / CHECKPOINT / CHECKPOINT_ABOUT)
    names = [ADAPTATION, *(f"{CHECKPOINT}/{name}" for name in (CHECKPOINT_ABOUT, *checkpoint.files))]
    return {name: folder / name for name in names}


def _check_checkpoint(folder: Path) -> _Checkpoint:
    checkpoint = _parse(_Checkpoint, folder / CHECKPOINT_ABOUT)
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


def _parse(kind: type[Parsed], path: Path) -> Parsed:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise AdaptationError(f"cannot read {path}: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise AdaptationError(f"{path} is wrong at {where}: {' '.join(first['msg'].split())}") from None


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
    taken = max((int(one.name) for one in place.iterdir() if _is_number(one.name)), default=0)
    for number in range(taken + 1, taken + _TRIES):
        folder = place / f"{number:03d}"
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            continue
        _sync(place)
        return folder
    raise AdaptationError(f"no free number in {place} after {taken:03d}")


def _unreadable(place: Path, error: OSError) -> str:
    return f"cannot read {place}: {error.strerror or error}; PSM_HOME names another folder for people's models"


def _make_private(place: Path) -> None:
    """Make the folders of a person and of everybody, which only their owner may enter."""
    for folder in (place.parent, place):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _sweep(place: Path) -> None:
    """Remove what processes left that ended in the middle of keeping or deleting."""
    for entry in place.iterdir():
        work = _WORK.fullmatch(entry.name)
        if work and not psutil.pid_exists(int(work[1])):
            shutil.rmtree(entry, ignore_errors=True)


def _work_name(what: str) -> str:
    return f".{what}-{os.getpid()}-{secrets.token_hex(4)}"


def _sync(folder: Path) -> None:
    """Have a folder's new names on the disk, where the system offers that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _listed(known: Sequence[int]) -> str:
    return ", ".join(f"{number:03d}" for number in known)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
