"""The runs that one command makes: one, or in the psm approaches one after the other for each person."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.config import ALL, TrainSettings
from psm_adapt.data.store import CropStore
from psm_adapt.train import resume
from psm_adapt.train.cycle import CycleTask, Faces
from psm_adapt.train.folder import LAST, RunFolder, free_folder
from psm_adapt.train.loop import Job, Outcome, train
from psm_adapt.train.progress import Teller
from psm_adapt.train.start import Start, start_again, start_of
from psm_adapt.train.world import World
from psm_stream.errors import ConfigError, TrainingError


@dataclass(frozen=True, slots=True)
class Run:
    """One model to train. base: the folder of all runs of the command; the run's own when it is the only one."""

    folder: Path
    base: Path
    people: tuple[str, ...]
    goes_on: bool
    """From the folder's `last`."""


@dataclass(frozen=True, slots=True)
class Around:
    """What all runs of a command share."""

    store: CropStore
    world: World
    teller: Teller


def people_of(named: Sequence[str], store: CropStore) -> tuple[str, ...]:
    """Return the people to train on; All, as the authors write it, is everybody in the store.

    Raises ConfigError: somebody is not in the store.
    """
    if any(name.lower() == ALL.lower() for name in named):
        return store.people
    for name in named:
        if name not in store.people:
            near = difflib.get_close_matches(name, store.people, n=1, cutoff=0.4) or store.people[:8]
            raise ConfigError(f"data.people: {name!r} is not in {store.folder}; there is {', '.join(near)}")
    return tuple(dict.fromkeys(named))


def plan(settings: TrainSettings, people: tuple[str, ...], goes_on: bool) -> list[Run]:
    """Lay out the runs. In the psm approaches several people have a sub-folder each; the gm ones are one run.

    goes_on: finish what an earlier command began in `out`; people whom it did not come to are begun.

    Raises ConfigError: there is nothing to go on with.
    """
    base = settings.out if goes_on else free_folder(settings.out)
    is_each = settings.approach.startswith("psm") and len(people) > 1
    shares = [(base / _plain(name), (name,)) for name in people] if is_each else [(base, people)]
    there = [goes_on and resume.has_last(folder / LAST) for folder, _ in shares]
    if goes_on and not any(there):
        raise ConfigError(
            f"--resume: no checkpoint to go on from in {base / LAST}; name the run's own folder with --out"
        )
    return [Run(folder, base, share, is_there) for (folder, share), is_there in zip(shares, there, strict=True)]


def train_one(run: Run, settings: TrainSettings, around: Around) -> Outcome:
    """Train one model. The run's folder is made once everything else is known to be good.

    Raises PsmError: whatever stands in the way.
    """
    start = _start_again(run, settings, around.store) if run.goes_on else start_of(settings)
    task = CycleTask(start, Faces(around.store, run.people), settings, around.world)
    folder = RunFolder(run.folder, settings.run.tensorboard)
    data = settings.data.model_dump(mode="json") | {"source": str(around.store.folder.resolve())}
    everybody = settings.model_dump(mode="json") | {"out": str(run.base), "data": data}
    people = data["people"] if run.folder == run.base else list(run.people)
    own = everybody | {"out": str(run.folder), "data": data | {"people": people}}
    if around.world.is_first:
        folder.make(own, run.base, everybody)
    job = Job(settings.optimiser, settings.run, own, folder, around.world, around.teller, run.goes_on)
    return train(task, job)


def _start_again(run: Run, settings: TrainSettings, store: CropStore) -> Start:
    last = run.folder / LAST
    about = open_checkpoint(last).about
    trained_on = about.training.get("store")
    if trained_on != store.store_id:
        raise TrainingError(
            f"{last} was trained on another store ({trained_on}) than {store.folder} ({store.store_id}); "
            "go on with the same crops, or start a new run with --start_from"
        )
    return start_again(settings, about)


def _plain(name: str) -> str:
    """A person's name as a folder can have it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".") or "_"
