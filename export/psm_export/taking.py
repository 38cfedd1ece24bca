"""Crops out of places: stores, folders of images, recorded sessions, videos, and the demo's moving photograph."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from psm_export.model import Crops
from psm_stream.bundle import Alignment
from psm_stream.config import AlignerSettings, SourceSettings
from psm_stream.errors import ConfigError
from psm_stream.record.reader import Session
from psm_stream.record.session import LOG
from psm_stream.sources import SOURCES, Skipped
from psm_stream.sources.images import natural_order
from psm_stream.values import EYE_DISTANCE, Faces, Frame, Stamp

Thing = TypeVar("Thing")

STORE_CROPS = "crops.npy"
"""The array of a crop store: uint8 [N, S, S, 3] RGB."""
_STORE = "store.json"
_KEPT = 1024
"""Crops of a film or session that are held in memory: at least half as many, evenly spaced over it."""
_DEMO_FRAMES = 400
_DEMO_FPS = 5.0
"""80 s of the demo's script: every expression eight times and more."""
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


@dataclass(frozen=True, slots=True)
class Taken:
    """Crops of a place, in order of time. people: whose each is. warnings: what is not as the encoder wants it."""

    crops: Sequence[Crops] | Crops
    people: Sequence[str]
    size_px: int
    described: str
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.crops)

    def at(self, indices: NDArray[np.int64]) -> Crops:
        """Bring some of them to the encoder's size. Returns [N, size_px, size_px, 3]."""
        return np.stack([_scaled(np.asarray(self.crops[index]), self.size_px) for index in indices])


def of_place(place: Path, size_px: int, alignment: Alignment) -> Taken:
    """Take what is at a place. Raises ConfigError, SourceError, SessionError: it is none, or cannot be read."""
    if place.is_file():
        return _of_video(place, size_px, alignment)
    if not place.is_dir():
        raise ConfigError(
            f"--crops {place}: no such folder or file; give a crop store, a folder of aligned, square images, a "
            "recorded session or a video"
        )
    if (place / LOG).is_file():
        return _of_session(place, size_px, alignment)
    return _of_store(place, size_px, alignment) if (place / STORE_CROPS).is_file() else _of_images(place, size_px)


def demo(size_px: int, alignment: Alignment) -> Taken:
    """Take the demo's face, aligned as the live path does. The same crops each time on one machine."""
    settings = SourceSettings(kind="demo", fps=_DEMO_FPS)
    crops = list(_thinned(_aligned(settings, size_px, alignment, _DEMO_FRAMES)))
    warning = "one photographed face, which shows that an export is right and calibrates for nobody else"
    return Taken(crops, ["demo"] * len(crops), size_px, "the demo's moving photograph", (warning,))


def _of_video(path: Path, size_px: int, alignment: Alignment) -> Taken:
    settings = SourceSettings(kind="file", path=str(path), pace="fast")
    crops = _thinned(_aligned(settings, size_px, alignment, None))
    return Taken(crops, [path.name] * len(crops), size_px, f"the video {path.name}")


def _of_session(folder: Path, size_px: int, alignment: Alignment) -> Taken:
    faces = (entry.faces[0] for entry in Session(folder).inputs() if isinstance(entry, Faces))
    kept = _thinned((face.crop, face.eye_distance) for face in faces)
    crops = [crop for crop, _ in kept]
    distances = {distance for _, distance in kept} or {alignment.eye_distance}
    warnings = [] if distances == {alignment.eye_distance} else [_misaligned()]
    warnings += _enlarged(min((crop.shape[0] for crop in crops), default=size_px), size_px)
    return Taken(crops, [folder.name] * len(crops), size_px, f"the session {folder.name}", tuple(warnings))


def _of_store(folder: Path, size_px: int, alignment: Alignment) -> Taken:
    path = folder / STORE_CROPS
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--crops: cannot read {path}: {' '.join(str(error).split())}") from None
    if stored.ndim != 4 or stored.shape[1] != stored.shape[2] or stored.shape[3] != 3 or stored.dtype != np.uint8:
        raise ConfigError(f"--crops: {path} is {stored.dtype} {list(stored.shape)}, expected uint8 [N, S, S, 3]")
    warnings = [] if alignment.eye_distance == EYE_DISTANCE else [_misaligned()]
    warnings += _enlarged(stored.shape[1], size_px)
    people = _people(folder / _STORE, len(stored))
    return Taken(stored, people, size_px, f"the store {folder.resolve().name}", tuple(warnings))


def _people(path: Path, count: int) -> list[str]:
    """Whose each crop of a store is; one person's where there is no store.json that says."""
    if not path.is_file():
        return [""] * count
    try:
        recordings = json.loads(path.read_text(encoding="utf-8"))["recordings"]
        people = [str(one["person"]) for one in recordings for _ in range(min(int(one["count"]), count))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--crops: cannot read {path}: {' '.join(str(error).split())}; make the store again"
        ) from None
    if len(people) != count:
        raise ConfigError(f"--crops: {path} speaks of {len(people)} crops, {STORE_CROPS} holds {count}; make it again")
    return people


def _of_images(folder: Path, size_px: int) -> Taken:
    paths = sorted((path for path in folder.iterdir() if path.suffix.lower() in _PICTURES), key=natural_order)
    pictures = _thinned(_picture(path) for path in paths)
    warnings = _enlarged(min((picture.shape[0] for picture in pictures), default=size_px), size_px)
    described = f"the images in {folder.resolve().name}"
    return Taken(pictures, [""] * len(pictures), size_px, described, tuple(warnings))


def _picture(path: Path) -> Crops:
    try:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ConfigError(f"--crops: cannot read {path}: {' '.join(str(error).split())}") from None
    height, width = picture.shape[:2]
    if height != width:
        raise ConfigError(
            f"--crops: {path} is a picture of {width}x{height} px, which is no aligned crop (a square); make a crop "
            "store with psm-adapt crops"
        )
    return picture


def _aligned(settings: SourceSettings, size_px: int, alignment: Alignment, most: int | None) -> Iterator[Crops]:
    """Crops of the largest face of each frame, by the live path's aligner. Raises SourceError, AlignError."""
    from psm_stream.align import open_aligner
    from psm_stream.align.crops import Crops as Wanted
    from psm_stream.align.template import Template

    template = Template(alignment.template, alignment.eye_distance, alignment.eye_line_y)
    wanted = Wanted(template, max(size_px, alignment.crop_px))
    index = 0
    source = SOURCES[settings.kind](settings, lambda: 0.0)
    with closing(open_aligner(AlignerSettings(), wanted)) as aligner, closing(source):
        source.open()
        while most is None or index < most:
            picture = source.read()
            if picture is None:
                return
            if isinstance(picture, Skipped):
                continue
            t = picture.t_source
            sighting = aligner(Frame(Stamp(index, t, t), picture.image))
            index += 1
            if isinstance(sighting, Faces):
                yield sighting.faces[0].crop


def _thinned(things: Iterable[Thing]) -> list[Thing]:
    """Keep at most `_KEPT`, evenly spaced over however many come."""
    kept: list[Thing] = []
    step = 1
    for place, thing in enumerate(things):
        if place % step:
            continue
        kept.append(thing)
        if len(kept) > _KEPT:
            kept, step = kept[::2], 2 * step
    return kept


def _scaled(crop: Crops, size_px: int) -> Crops:
    """Bring a crop to a size: down with an area filter, as the live path does; up by linear interpolation."""
    if crop.shape[0] == size_px:
        return np.ascontiguousarray(crop)
    how = cv2.INTER_AREA if crop.shape[0] > size_px else cv2.INTER_LINEAR
    scaled: Crops = cv2.resize(crop, (size_px, size_px), interpolation=how)
    return scaled


def _enlarged(side_px: int, size_px: int) -> list[str]:
    return [f"enlarged from {side_px} px to the encoder's {size_px} px"] if side_px < size_px else []


def _misaligned() -> str:
    return "aligned by another template than the encoder wants"
