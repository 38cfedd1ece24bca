"""Layouts: where a data set keeps which recording of whom. Adding one is a function and a line in `LAYOUTS`.

folder      videos, or folders of images, one sub-folder or video file per person
disfa       Videos_LeftCamera/LeftVideoSN001_comp.avi, or PSM's SN001/face_only_aligned/frame1.jpg
voxceleb    <person>/<video>/<track>/*.jpg or <person>/<video>/*.mp4, or a text file that lists track folders
session     sessions recorded by psm-stream: one, or a folder of them
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from psm_stream.align.crops import recorded_template
from psm_stream.align.template import EYES_LEVEL
from psm_stream.errors import SessionError, StoreError
from psm_stream.record.session import INFO, LOG, read_info
from psm_stream.redact import printable
from psm_stream.sources.images import SUFFIXES, natural_order

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
DISFA_FPS = 20.0
VOXCELEB_FPS = 25.0

_DISFA_PERSON = re.compile(r"SN\d{3}")
_PERSON_IN_LIST = re.compile(r"SN\d{3}|id\d{5}")
_CROP_FACTOR = "1.6"
"""The folder between person and video in VoxCeleb's published frames."""


@dataclass(frozen=True, slots=True)
class RecordingSource:
    """A recording that can be read.

    name: unique among those read together. path: a video file, a folder of images, or a session's folder.
    fps: of images, whose files have no time of their own; None is 30. is_numbered: their names end in frame numbers.
    """

    name: str
    person: str
    kind: Literal["video", "images", "session"]
    path: Path
    fps: float | None = None
    is_numbered: bool = False


Layout: TypeAlias = Callable[[Path], list[RecordingSource]]


def sources_in(inputs: Sequence[Path], layout: str, person: str | None = None) -> list[RecordingSource]:
    """Find the recordings in some places. layout: a key of LAYOUTS. person: whom all of them show; None: as laid out.

    Names that two inputs share get the input's name before them.
    Raises StoreError: a place does not exist, holds nothing, or is laid out in another way.
    """
    found: list[RecordingSource] = []
    for place in inputs:
        if not place.exists():
            raise StoreError(
                f"there is no {place}; name a folder of videos or images, a video, a recorded session or a crop store"
            )
        found += _told_apart(found, LAYOUTS[layout](place), place)
    if person is not None:
        found = [replace(source, person=person) for source in found]
    return sorted(found, key=lambda source: reading_order(source.person, source.name))


def reading_order(person: str, name: str) -> tuple[Any, Any]:
    """Sort key of recordings: by person, then by name, numbers in them as numbers."""
    return natural_order(Path(person.replace("/", " "))), natural_order(Path(name.replace("/", " ")))


def _told_apart(
    before: Sequence[RecordingSource], found: Sequence[RecordingSource], place: Path
) -> list[RecordingSource]:
    known = {source.name for source in before}
    told = [
        replace(source, name=f"{_stem(place.resolve())}/{source.name}") if source.name in known else source
        for source in found
    ]
    for source in told:
        if source.name in known:
            raise StoreError(f"recording {source.name!r} is there twice, the second time in {source.path}; rename one")
        known.add(source.name)
    return told


def _folder(place: Path) -> list[RecordingSource]:
    _check_no_session(place)
    if place.is_file():
        if _is_video(place):
            return [RecordingSource(_stem(place), _stem(place), "video", place)]
        raise StoreError(f"{place} is no video ({_listed(VIDEO_SUFFIXES)}); give one, or a folder")
    found: list[RecordingSource] = []
    if _has_images(place):
        found.append(RecordingSource(_stem(place.resolve()), _stem(place.resolve()), "images", place))
    for entry in _entries(place):
        if entry.is_dir():
            found += _below(entry, printable(entry.name), entry.name)
        elif _is_video(entry):
            found.append(RecordingSource(_stem(entry), _stem(entry), "video", entry))
    if not found:
        raise StoreError(
            f"{place} holds no video and no images; expected one sub-folder or video per person, "
            f"with {_listed(VIDEO_SUFFIXES)} or {_listed(SUFFIXES)}"
        )
    return _with_whole_names(found)


def _disfa(place: Path) -> list[RecordingSource]:
    videos = place / "Videos_LeftCamera" if (place / "Videos_LeftCamera").is_dir() else place
    found = [
        RecordingSource(_stem(path), person[0], "video", path)
        for path in _entries(videos)
        if _is_video(path) and (person := _DISFA_PERSON.search(path.name))
    ]
    # both are of the same frames, and whole pictures are aligned better than cut ones
    return (
        found
        or [
            RecordingSource(f"{path.name}/face_only_aligned", path.name, "images", frames, DISFA_FPS, is_numbered=True)
            for path in _entries(place)
            if _DISFA_PERSON.fullmatch(path.name) and _has_images(frames := path / "face_only_aligned")
        ]
        or _refuse(place, "DISFA", "Videos_LeftCamera/LeftVideoSN001_comp.avi, or SN001/face_only_aligned/frame1.jpg")
    )


def _voxceleb(place: Path) -> list[RecordingSource]:
    expected = "id10001/<video>/<track>/*.jpg or id10001/<video>/*.mp4, or a .txt file with a track folder in each line"
    if place.is_file():
        return _listed_tracks(place) or _refuse(place, "VoxCeleb", expected)
    found: list[RecordingSource] = []
    for person in _entries(place):
        for video in _entries(person) if person.is_dir() else ():
            if video.is_dir():
                found += _below(video, printable(f"{person.name}/{video.name}"), person.name)
    if not found:
        _refuse(place, "VoxCeleb", expected)
    return [
        replace(source, fps=VOXCELEB_FPS, is_numbered=True) if source.kind == "images" else source
        for source in _with_whole_names(found)
    ]


def _listed_tracks(file: Path) -> list[RecordingSource]:
    """Read a list of track folders, as the authors train from; a folder that is named often is taken once."""
    if file.suffix.lower() != ".txt":
        return []
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read the list {file}: {' '.join(str(error).split())}") from None
    tracks = list(dict.fromkeys(file.parent / line.strip() for line in lines if line.strip()))
    missing = [track for track in tracks if not _has_images(track)]
    if missing:
        raise StoreError(f"{file} lists {missing[0]}, where there are no images; {len(missing)} of {len(tracks)} such")
    shared = Path(os.path.commonpath([track.parent for track in tracks])) if tracks else file.parent
    return [
        RecordingSource(
            printable(track.relative_to(shared).as_posix()),
            printable(_person_in(track, shared)),
            "images",
            track,
            VOXCELEB_FPS,
            is_numbered=True,
        )
        for track in tracks
    ]


def _person_in(track: Path, shared: Path) -> str:
    """Return who a listed track shows: its id, else the folder before "1.6", else the first that tells tracks apart."""
    parts = track.parts
    ids = [part for part in parts if _PERSON_IN_LIST.fullmatch(part)]
    if ids:
        return ids[-1]
    if _CROP_FACTOR in parts[1:]:
        return parts[parts.index(_CROP_FACTOR) - 1]
    return track.relative_to(shared).parts[0]


def _sessions(place: Path) -> list[RecordingSource]:
    folders = [place] if (place / INFO).is_file() else [path.parent for path in _under(place, INFO)]
    found = []
    for folder in folders:
        try:
            info = read_info(folder)
        except SessionError as error:
            raise StoreError(str(error)) from None
        template = recorded_template(info.config)
        if not template.is_same(EYES_LEVEL):
            raise StoreError(f"{folder}: its crops are by {template}; a store holds crops by {EYES_LEVEL.name}")
        named = info.config.get("person")
        # nobody was named: rather one person too many than two people in one
        person = named if isinstance(named, str) and named else f"session-{info.uuid[:8]}"
        where = folder.resolve()
        found.append(RecordingSource(f"{where.parent.name}/{where.name}", person, "session", folder))
    return found or _refuse(place, "recorded sessions", f"<date>/<number>/{INFO}, as psm-stream --record makes them")


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {"folder": _folder, "disfa": _disfa, "voxceleb": _voxceleb, "session": _sessions}
)


def _below(folder: Path, name: str, person: str) -> list[RecordingSource]:
    """Find what one person's folder holds, however deep: each video and each folder with images is a recording."""
    _check_no_session(folder)
    found = [RecordingSource(name, printable(person), "images", folder)] if _has_images(folder) else []
    for entry in _entries(folder):
        inner = f"{name}/{_stem(entry)}"
        if entry.is_dir():
            found += _below(entry, f"{name}/{printable(entry.name)}", person)
        elif _is_video(entry):
            found.append(RecordingSource(inner, printable(person), "video", entry))
    return found


def _with_whole_names(found: Sequence[RecordingSource]) -> list[RecordingSource]:
    """Give recordings whose names differ in their suffix alone (a.mp4 and a.avi) names with it."""
    names = Counter(source.name for source in found)
    return [
        replace(source, name=f"{source.name}{source.path.suffix}") if names[source.name] > 1 else source
        for source in found
    ]


def _check_no_session(folder: Path) -> None:
    if (folder / INFO).is_file() and (folder / LOG).is_file():
        raise StoreError(f"{folder} is a recorded session; read sessions with --layout session")


def _refuse(place: Path, what: str, expected: str) -> list[RecordingSource]:
    raise StoreError(f"{place} is not laid out like {what}; expected {expected} in it")


def _entries(folder: Path) -> list[Path]:
    """Return what a folder holds, in natural order, hidden entries left out."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except NotADirectoryError:
        return []
    except OSError as error:
        raise StoreError(f"cannot read folder {folder}: {error.strerror or error}") from None
    return sorted(entries, key=natural_order)


def _under(place: Path, name: str) -> list[Path]:
    return sorted([*place.glob(f"*/{name}"), *place.glob(f"*/*/{name}")])


def _has_images(folder: Path) -> bool:
    try:
        return any(file.suffix.lower() in SUFFIXES and not file.name.startswith(".") for file in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(f"cannot read folder {folder}: {error.strerror or error}") from None


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _stem(path: Path) -> str:
    return printable(path.stem if path.is_file() else path.name)


def _listed(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffixes))
