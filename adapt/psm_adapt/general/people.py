"""Who the general model is trained on and who is held out: a YAML file of people and their videos.

    train:
      s2: [grid/grid_s2.mp4]
    held_out:
      s1: [grid/grid_s1.mp4]
    sources: ["GRID corpus (Cooke et al. 2006), CC BY 4.0"]

Paths are relative to the folder of videos. configs/general/people.yaml is what the shipped model was made from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psm_adapt.data.layouts import RecordingSource
from psm_stream import sections
from psm_stream.errors import ConfigError, StoreError

Videos = Annotated[list[str], Field(min_length=1)]


class People(BaseModel):
    """Videos by person, for training and for measuring."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: dict[str, Videos] = Field(min_length=1)
    held_out: dict[str, Videos] = {}
    sources: list[str] = []
    """Where the videos of `train` come from and under which licence, a line each; the model says it on."""


def read_people(file: Path) -> People:
    """Read the list. Raises ConfigError: it is missing or not such a list, or somebody is in both halves."""
    tree = sections.read_yaml(file, "train")
    try:
        people = People.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{file}: {where}: {first['msg']}; expected person: [video, ...] in each half") from None
    if both := sorted(people.train.keys() & people.held_out.keys()):
        raise ConfigError(f"{file}: {both[0]!r} is in train and held out; people who are measured must be in one only")
    return people


def sources_of(videos: dict[str, list[str]], folder: Path) -> list[RecordingSource]:
    """Return the recordings of one half. Raises StoreError: a video is not there."""
    found = []
    for person, names in videos.items():
        for name in names:
            path = folder / name
            if not path.is_file():
                raise StoreError(f"there is no video {path}; name the folder that holds {name}")
            found.append(RecordingSource(name=f"{person}/{path.stem}", person=person, kind="video", path=path))
    return found
