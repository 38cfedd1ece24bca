"""Arguments that several of psm-export's subcommands take, and what they mean."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from psm_stream.cli.common import nearest
from psm_stream.errors import ConfigError

if TYPE_CHECKING:
    from psm_export.crops import Sample
    from psm_export.model import Model
    from psm_stream.bundle import Alignment
    from psm_stream.devices import Device

Choice = TypeVar("Choice", bound=str)

DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "tensorrt")


def chosen(option: str, value: str, known: Sequence[Choice]) -> Choice:
    """Return the choice that a word is. Raises ConfigError: it is none; names the nearest."""
    for choice in known:
        if choice == value:
            return choice
    raise ConfigError(f"{option} {value!r}: unknown{nearest(value, known)}")


def whole_numbers(option: str, text: str, most: int = 4096) -> tuple[int, ...]:
    """Read "1,8,32". Raises ConfigError: it is not a list of whole numbers from 1 to `most`."""
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() and 0 < int(word) <= most for word in words):
        raise ConfigError(f"{option} {text!r}: expected whole numbers from 1 to {most}, such as 1,8,32")
    return tuple(dict.fromkeys(map(int, words)))


def add_model_options(parser: ArgumentParser) -> None:
    """What a model file does not say of itself."""
    parser.add_argument("--manifest", metavar="FILE", help="what your own .onnx or .pt2 takes and gives (JSON or YAML)")
    parser.add_argument("--licence", metavar="TEXT", help="of the weights, where their file does not say")
    parser.add_argument("--trained-on", metavar="TEXT", action="append", help="training data and its licence; repeats")
    parser.add_argument("--eye-distance", metavar="SHARE", help="of the crop's side, where not the architecture's own")
    parser.add_argument("--eye-line", metavar="SHARE", help="height of the eyes in the crop, from above; likewise")


def open_given(paths: Sequence[str], options: Namespace) -> Model:
    """Open the model that the arguments name. Raises PsmError: it cannot be read, or is none."""
    from dataclasses import replace

    import torch

    from psm_export.sources import open_model

    torch.set_num_threads(1)  # on a busy machine its threads wait for each other longer than they compute
    model = open_model([Path(path) for path in paths], None if options.manifest is None else Path(options.manifest))
    about = model.about
    if options.licence is not None:
        about = replace(about, licence=printable_text("--licence", options.licence))
    if options.trained_on:
        about = replace(about, training_data=tuple(printable_text("--trained-on", text) for text in options.trained_on))
    return replace(model, about=about, alignment=_alignment(model, options))


def sample_of(model: Model, place: str | None) -> Sample:
    """Crops to calibrate and to measure with, as the model wants them. Raises ConfigError, SourceError."""
    from psm_export.crops import sample

    return sample(None if place is None else Path(place), model.pixels.size_px, model.alignment)


def _alignment(model: Model, options: Namespace) -> Alignment:
    given = {"eye_distance": options.eye_distance, "eye_line_y": options.eye_line}
    shares = {key: _share(key, text) for key, text in given.items() if text is not None}
    return model.alignment.model_copy(update={**shares, "template": "as given"}) if shares else model.alignment


def _share(key: str, text: str) -> float:
    option = {"eye_distance": "--eye-distance", "eye_line_y": "--eye-line"}[key]
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.05 < share < 0.9:
        raise ConfigError(f"{option} {text!r}: expected a share of the crop's side between 0.05 and 0.9, such as 0.38")
    return share


def check_place(out: Path) -> None:
    """Raise ConfigError where a folder cannot be made, before any work is done for it."""
    above = out.absolute()
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise ConfigError(f"--out {out}: {above} is a file; give a new folder elsewhere")
    if not os.access(above, os.W_OK):
        raise ConfigError(f"--out {out}: {above} cannot be written; give a new folder elsewhere")


def printable_text(option: str, text: str) -> str:
    """Return a text that a terminal may be shown. Raises ConfigError: it is empty or holds what is no letter."""
    if not text or not text.isprintable():
        raise ConfigError(f"{option} is empty or not one printable line; say it in words")
    return text
