"""The folder of one training run, and everything written to it but checkpoints.

settings.json          the settings it was made with
losses.jsonl           one line per epoch: epoch, steps so far, learning rate, mean losses, seconds
loss.png preview.png   redrawn as training goes on; previews/epoch_0010.png keeps each preview
tensorboard/           scalars and previews
checkpoints/epoch_0010 kept checkpoints
last/                  the newest checkpoint, with what is needed to go on
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from psm_adapt.train import pictures
from psm_adapt.train.task import Preview
from psm_stream.errors import TrainingError

SETTINGS = "settings.json"
LOSSES = "losses.jsonl"
LAST = "last"


@dataclass(frozen=True, slots=True)
class EpochLosses:
    """A line of losses.jsonl."""

    epoch: int
    steps: int
    """Made by its end, in all."""
    rate: float
    """Learning rate of its last step."""
    seconds: float
    terms: dict[str, float]
    """Mean of each loss, and of the gradient's norm."""


def free_folder(wanted: Path) -> Path:
    """Return `wanted`, or, where something is already, a sub-folder of it named by the time, as the authors do."""
    is_taken = wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir()))
    return wanted / time.strftime("%Y%m%d-%H%M%S") if is_taken else wanted


class RunFolder:
    """Writes a run's files. Open it as a context; only the first of several processes does."""

    def __init__(self, path: Path, tensorboard: bool) -> None:
        self.path = path
        self._tensorboard = tensorboard
        self._writer: SummaryWriter | None = None
        self._rows: list[EpochLosses] = []

    def open(self, steps_done: int) -> None:
        """Start writing after so many steps: what a cut-off run wrote beyond them is dropped."""
        self._rows = [losses for losses in read_losses(self.path) if losses.steps <= steps_done]
        _write_whole(self.path / LOSSES, "".join(map(_line, self._rows)))
        if self._tensorboard:
            self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=steps_done + 1)

    def close(self) -> None:
        """Finish the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()

    def checkpoint(self, epoch: int) -> Path:
        """Where the checkpoint of an epoch is kept."""
        return self.path / "checkpoints" / f"epoch_{epoch:04d}"

    @property
    def last(self) -> Path:
        """Where the newest checkpoint is."""
        return self.path / LAST

    def make(self, settings: Mapping[str, Any], base: Path, of_all: Mapping[str, Any]) -> None:
        """Make the folder and write the run's settings; in `base`, which may be above it, those of all its runs.

        Raises TrainingError: they cannot be made.
        """
        try:
            for place, tree in ((base, of_all), (self.path, settings)):
                place.mkdir(parents=True, exist_ok=True)
                _write_whole(place / SETTINGS, json.dumps(tree, indent=1) + "\n")
        except OSError as error:
            reason = error.strerror or error
            raise TrainingError(f"cannot make the folder {self.path}: {reason}; choose another --out") from None

    def add_losses(self, losses: EpochLosses) -> None:
        """Note an epoch; one that was noted before training was cut off is not noted twice."""
        if self._rows and self._rows[-1].epoch >= losses.epoch:
            return
        self._rows.append(losses)
        with (self.path / LOSSES).open("a", encoding="utf-8") as file:
            file.write(_line(losses))
        if self._writer is not None:
            for name, value in losses.terms.items():
                self._writer.add_scalar(f"loss/{name}", value, losses.steps)
            self._writer.add_scalar("learning rate", losses.rate, losses.steps)

    def draw(self, preview: Preview, epoch: int) -> None:
        """Draw loss.png and the preview."""
        if self._rows:
            names = self._rows[-1].terms
            curves = {name: [row.terms.get(name, float("nan")) for row in self._rows] for name in names}
            pictures.draw_losses(self.path / "loss.png", [row.epoch for row in self._rows], curves)
        grid = pictures.grid_of(preview)
        if grid is None:
            return
        kept = self.path / "previews"
        kept.mkdir(exist_ok=True)
        for path in (self.path / "preview.png", kept / f"epoch_{epoch:04d}.png"):
            pictures.save_picture(path, grid)
        if self._writer is not None:
            self._writer.add_image("preview", grid, epoch, dataformats="HWC")


def read_losses(folder: Path) -> list[EpochLosses]:
    """Read a run's losses, epoch by epoch; a line that a power cut left half written is left out."""
    file = folder / LOSSES
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = []
    for line in lines:
        try:
            found.append(EpochLosses(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def _line(losses: EpochLosses) -> str:
    return json.dumps(asdict(losses)) + "\n"


def _write_whole(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)
