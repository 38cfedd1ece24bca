"""People: where each person's own models and clusters are kept between sessions, and how they are found.

    <home>/people/<name>/<NNN>/     one accepted model; the highest number is the newest
        manifest.json, encoder.onnx     its bundle, which the live path runs
        checkpoint/                     its weights in half precision, which further training starts from
        adaptation.json                 how it came about
    <home>/people/<name>/clusters.npz   their clusters: faces of each (people_clusters.py)
    <home>/people/<name>/.<what>-<process>-<letters>    on the way in or out; removed once that process is gone

home is `PSM_HOME`, or the user's data folder. What is not named by a number is no model. A person may have models,
clusters or both. people_keep.py writes and deletes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psm_stream.adaptation.layout import ADAPTATION, CHECKPOINT, CHECKPOINT_ABOUT
from psm_stream.bundle import MANIFEST, EncoderBundle, Manifest, ModelId, general_bundle, open_bundle
from psm_stream.cli.common import nearest
from psm_stream.config import NAME, wrong_name
from psm_stream.errors import AdaptationError, BundleError, ConfigError, PsmError

GENERAL = "general"
"""What the general model is called where a base is named."""
PREFIX = "person:"
"""Begins a base that is a person's model: person:NAME is the newest, person:NAME/003 that one."""

CLUSTERS = "clusters.npz"

Parsed = TypeVar("Parsed", bound=BaseModel)


class Read(BaseModel):
    """A JSON file that another program wrote; what it says beyond what is read here does not matter."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Adaptation(Read):
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


def everyone() -> list[str]:
    """Names of the people who have a model or clusters, in order. Raises AdaptationError: the folder cannot be read."""
    place = home() / "people"
    try:
        names = sorted(entry.name for entry in os.scandir(place) if entry.is_dir())
        return [name for name in names if numbers(name) or has_clusters(name)]
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
        return sorted(int(one.name) for one in place.iterdir() if is_number(one.name) and (one / MANIFEST).is_file())
    except OSError as error:
        raise AdaptationError(_unreadable(place, error)) from None


def has_clusters(person: str) -> bool:
    """Whether there are clusters of this person, which may be damaged."""
    return NAME.fullmatch(person) is not None and (home() / "people" / person / CLUSTERS).is_file()


def is_there(person: str) -> bool:
    """Whether there is a folder of this person, which may hold no model."""
    return NAME.fullmatch(person) is not None and (home() / "people" / person).is_dir()


def newest_model(person: str) -> Path | None:
    """Return the bundle folder of a person's newest model, or None when there is none yet."""
    known = numbers(person)
    return model_folder(person, known[-1]) if known else None


def open_newest(person: str) -> EncoderBundle | None:
    """Open the bundle of a person's newest model, or None when there is none yet.

    Raises BundleError: it is damaged; it says how to do without it.
    """
    known = numbers(person)
    if not known:
        return None
    try:
        return open_bundle(model_folder(person, known[-1]))
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
        others = [name for name in everyone() if name != person]
        raise ConfigError(f"no models of {person!r} in {home() / 'people'}{nearest(person, others)}")
    if number is not None and number not in known:
        raise ConfigError(f"{person} has no model {number:03d}; there are {_listed(known)}")
    number = known[-1] if number is None else number
    folder = model_folder(person, number)
    manifest = open_bundle(folder).manifest
    adaptation = parse(Adaptation, folder / ADAPTATION)
    return Model(person, number, folder, manifest, adaptation, (folder / ADAPTATION).stat().st_mtime)


def base_of(bundle: EncoderBundle) -> str | None:
    """Say what further training of a bundle's encoder starts from.

    Returns `general` for the encoder that ships, the bundle's folder when it holds `checkpoint/` too, else None: its
    weights are not there.
    """
    if bundle.manifest.model_id == general_id():
        return GENERAL
    has_weights = (bundle.folder / CHECKPOINT / CHECKPOINT_ABOUT).is_file()
    return str(bundle.folder) if has_weights else None


@cache
def general_id() -> str:
    """Return the model_id of the encoder that ships; read once, since a live run asks between two frames."""
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
    if number and not is_number(number):
        raise ConfigError(f"{base}: a model is named by its number, as in {PREFIX}{person}/003")
    model = model_of(person, int(number) if number else None)
    if not (model.folder / CHECKPOINT / CHECKPOINT_ABOUT).is_file():
        raise AdaptationError(f"{base}: {model.folder} holds no {CHECKPOINT}/, so nothing can start from it")
    return str(model.folder)


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


def model_folder(person: str, number: int) -> Path:
    """Return the folder of that number, as it is written: 3 may be 003, or a 0003 that somebody made."""
    place = home() / "people" / person
    usual = place / f"{number:03d}"
    if (usual / MANIFEST).is_file():
        return usual
    return next(one for one in place.iterdir() if is_number(one.name) and int(one.name) == number)


def is_number(name: str) -> bool:
    """Whether a model may be called so."""
    return name.isascii() and name.isdigit()


def parse(kind: type[Parsed], path: Path) -> Parsed:
    """Read a JSON file. Raises AdaptationError: it cannot be read, or says something else."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise AdaptationError(f"cannot read {path}: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise AdaptationError(f"{path} is wrong at {where}: {' '.join(first['msg'].split())}") from None


def _is_whole(person: str, number: int) -> bool:
    try:
        open_bundle(model_folder(person, number))
    except PsmError:
        return False
    return True


def _unreadable(place: Path, error: OSError) -> str:
    return f"cannot read {place}: {error.strerror or error}; PSM_HOME names another folder for people's models"


def _listed(known: Sequence[int]) -> str:
    return ", ".join(f"{number:03d}" for number in known)
