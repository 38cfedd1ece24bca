"""A person's clusters, kept between sessions, so that cluster 3 is the same next week.

    <home>/people/<name>/clusters.npz    a zip, deterministic: equal clusters are equal bytes
        about.json          {"schema": 1, "next_id": 7, "model_id": "0123456789ab", "names": {"3": "smile"}}; and
                            "template": {"name", "eye_distance", "eye_line_y"} of the faces, if it is not our own
        crops.npy           uint8 [n, S, S, 3] RGB, faces of the person
        vectors.npy         float32 [n, D], their codes by the encoder `model_id`
        clusters.npy        int32 [n], the cluster of each
        clustering.msgpack  the clustering in force at the end, as a session log has it; absent if there was none

The next session begins with the clustering, if the same encoder runs, and fits one on the faces if not. These are in
its reservoir before anything else, so that the clusters that it finds are matched to the ids that they carry, as after
any fit. The file is written under another name and then takes its place, so that there is always a whole one; of
several sessions of one person at once, the last to save wins. One file, since two cannot be replaced at once.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal
from zipfile import BadZipFile, ZipFile

import cv2
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from psm_stream.align.template import EYES_LEVEL, Template
from psm_stream.bundle import ModelId
from psm_stream.clusters.clustering import Clustering
from psm_stream.clusters.reservoir import Row
from psm_stream.clusters.trial import check_assigns
from psm_stream.errors import ClusteringError, SessionError
from psm_stream.people import CLUSTERS, Read, folder_of, has_clusters, home
from psm_stream.people_keep import make_private, sweep, sync, work_name
from psm_stream.record.codec import decode, encode
from psm_stream.redact import printable
from psm_stream.values import Image, Recluster

MOST = 64
"""Faces that are kept of a cluster."""
_MOST_NAME = 256
"""Letters of a name in a file, which a stranger may have written; the stream takes fewer."""
_MOST_BYTES = 1 << 30
_ABOUT = "about.json"
_CLUSTERING = "clustering.msgpack"
_ARRAYS = {"crops": ("|u1", 4), "vectors": ("<f4", 2), "clusters": ("<i4", 1)}
_UNREADABLE = (BadZipFile, OSError, EOFError, KeyError, ValueError, RuntimeError, NotImplementedError, MemoryError)


class _Template(Read):
    name: str = Field(max_length=_MOST_NAME)
    eye_distance: float
    eye_line_y: float


class _About(Read):
    schema_version: Literal[1] = Field(alias="schema")
    next_id: int = Field(ge=0, lt=1 << 30)  # ids are int32, and more will come
    model_id: ModelId | Literal[""]
    names: dict[int, Annotated[str, Field(min_length=1, max_length=_MOST_NAME)]]
    template: _Template | None = None


@dataclass(frozen=True, slots=True)
class StoredClusters:
    """A person's clusters between two sessions.

    next_id: the first id that nobody had. names: what the user calls clusters, by id. rows: faces of each, all with
    vectors by the encoder `model_id`, with keys below 0; face, frame and time are not those of any session.
    clustering: of the same encoder, or None. template: of the crops.
    """

    next_id: int
    names: Mapping[int, str]
    model_id: str
    rows: tuple[Row, ...]
    clustering: Clustering | None = None
    template: Template = EYES_LEVEL

    @property
    def faces(self) -> dict[int, int]:
        """How many faces are kept of each cluster, by id in order."""
        return dict(sorted(Counter(row.known for row in self.rows).items()))


def prototypes(
    rows: Sequence[Row], next_id: int, names: Mapping[int, str], clustering: Clustering | None = None
) -> StoredClusters:
    """Choose what is kept of a session: the clustering in force, and of each cluster at most 64 faces, drawn at random.

    Drawn, since the next session fits them together with its own, and a cluster's densest faces, say, would be one of
    their own within it (docs/people.md). A cluster that another took in is kept apart, in case that it parts again.
    Faces whose vectors are by another encoder than most are left out, and so is noise. Who is in the picture is not
    asked.
    """
    of_clusters = [(row.before if row.before >= 0 else row.known, row) for row in rows if row.known >= 0]
    model_id = Counter(row.model_id for _, row in of_clusters).most_common(1)[0][0] if of_clusters else ""
    by_id: dict[int, list[Row]] = {}
    for cluster, row in of_clusters:
        if row.model_id == model_id:
            by_id.setdefault(cluster, []).append(row)
    chosen = [(cluster, theirs[at]) for cluster, theirs in sorted(by_id.items()) for at in _drawn(len(theirs))]
    kept = tuple(_seed(at, row.crop, row.vector, model_id, cluster) for at, (cluster, row) in enumerate(chosen))
    known = {cluster: name for cluster, name in sorted(names.items()) if cluster in by_id and name}
    is_theirs = clustering is not None and clustering.model_id == model_id
    return StoredClusters(next_id, known, model_id, kept, clustering if is_theirs else None)


def seeds(stored: StoredClusters, size_px: int) -> list[Row]:
    """Return the faces as a reservoir takes them before the first frame, crops as large as those of this session."""
    return [replace(row, crop=_resized(row.crop, size_px)) for row in stored.rows]


def file_of(person: str) -> Path:
    """Return where a person's clusters are kept, if there are any."""
    return home() / "people" / person / CLUSTERS


def load(person: str, template: Template | None = None) -> StoredClusters | None:
    """Read a person's clusters; None: there are none. template: of the crops that they must be of; None: any.

    Raises ClusteringError: damaged, or of crops by another template; it says how to do without.
    """
    if not has_clusters(person):
        return None
    try:
        stored = read(file_of(person))
    except ClusteringError as error:
        raise ClusteringError(
            f"{person}'s clusters are damaged: {error}; psm-adapt people delete {person} --clusters removes them, "
            "--clusters.keep false does without"
        ) from None
    if template is not None and not stored.template.is_same(template):
        raise ClusteringError(
            f"{person}'s clusters are of crops by {stored.template}, and the encoder wants {template}; "
            "--clusters.keep false does without, or take another --model"
        )
    return stored


def save(person: str, stored: StoredClusters) -> None:
    """Keep a person's clusters in place of those that were. Takes a while; a live loop should not wait for it.

    Raises ConfigError: nobody can be called so. ClusteringError: the disk refuses; what was there is there still.
    """
    place = folder_of(person)
    fresh = place / work_name("keep")
    try:
        make_private(place)
        sweep(place)
        try:
            with open(fresh, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                _write(file, stored)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(place / CLUSTERS)
            sync(place)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise ClusteringError(f"cannot keep the clusters of {person} in {place}: {error.strerror or error}") from None


def delete(person: str) -> None:
    """Delete a person's clusters, if there are any, and the person's folder with them if nothing else is in it.

    Raises ClusteringError: the disk refuses.
    """
    place = home() / "people" / person
    try:
        if has_clusters(person):
            file_of(person).unlink()
            sweep(place)
            if not any(place.iterdir()):
                place.rmdir()
    except OSError as error:
        raise ClusteringError(f"cannot delete {file_of(person)}: {error.strerror or error}") from None


def read(path: Path) -> StoredClusters:
    """Read a file of clusters, which may be a stranger's: nothing in it is executed, and all of it is checked.

    Raises ClusteringError: it is none, or was changed or cut off.
    """
    try:
        with ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
                raise ClusteringError(f"{path}: more than {_MOST_BYTES >> 30} GiB; refused")
            about = _About.model_validate_json(archive.read(_ABOUT))
            arrays = {name: _array(archive, name) for name in _ARRAYS}
            body = archive.read(_CLUSTERING) if _CLUSTERING in archive.namelist() else None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the top"
        raise ClusteringError(f"{path} is wrong at {where}: {' '.join(first['msg'].split())}") from None
    except _UNREADABLE as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ClusteringError(f"{path} cannot be read ({' '.join(str(why).split())})") from None
    stored = _checked(path, about, **arrays)
    return stored if body is None else replace(stored, clustering=_clustering(path, body, stored))


def _checked(
    path: Path, about: _About, crops: NDArray[Any], vectors: NDArray[Any], clusters: NDArray[Any]
) -> StoredClusters:
    count, height, width, channels = crops.shape
    for is_right, what in (
        (len(vectors) == len(clusters) == count, "its arrays do not fit each other"),
        (
            height == width and channels == 3 and (height > 0 or not count),
            f"its faces are {height} x {width} x {channels}",
        ),
        (bool(np.isfinite(vectors).all()), "its vectors are not finite"),
        (bool(((clusters >= 0) & (clusters < about.next_id)).all()), "it has clusters beyond its next id"),
        (set(about.names) <= set(clusters.tolist()), "it names clusters that it has not"),
        (all(name.isprintable() for name in about.names.values()), "its names hold what cannot be shown"),
    ):
        if not is_right:
            raise ClusteringError(f"{path}: {what}; the file was changed")
    rows = tuple(_seed(at, crops[at], vectors[at], about.model_id, int(clusters[at])) for at in range(count))
    told = about.template
    template = EYES_LEVEL if told is None else Template(printable(told.name), told.eye_distance, told.eye_line_y)
    return StoredClusters(about.next_id, about.names, about.model_id, rows, template=template)


def _clustering(path: Path, body: bytes, stored: StoredClusters) -> Clustering:
    """Read the clustering, and let it assign. Raises ClusteringError: it does not fit the faces, or is damaged."""
    try:
        order = decode("input.recluster", body)
    except SessionError as error:
        raise ClusteringError(f"{path}: {error}; the file was changed") from None
    assert isinstance(order, Recluster)
    clustering = order.clustering
    ids = clustering.ids
    if not stored.rows or clustering.model_id != stored.model_id or bool(((ids < 0) | (ids >= stored.next_id)).any()):
        raise ClusteringError(f"{path}: its clustering does not fit its faces; the file was changed")
    try:
        check_assigns(clustering, stored.rows[0].vector.shape[0])
    except ClusteringError as error:
        raise ClusteringError(f"{path} has a {error}") from None
    return replace(clustering, version=1, changes=())


def _seed(at: int, crop: NDArray[np.uint8], vector: NDArray[np.float32], model_id: str, known: int) -> Row:
    """A face of no session: seen before anything that this one sees."""
    return Row(
        key=-1 - at, face_id=-1, frame_index=-1, t=-math.inf, crop=crop, vector=vector, model_id=model_id, known=known
    )


def _resized(crop: Image, size_px: int) -> Image:
    if crop.shape[0] == size_px:
        return crop
    smooth = cv2.INTER_AREA if size_px < crop.shape[0] else cv2.INTER_LINEAR
    resized: Image = cv2.resize(crop, (size_px, size_px), interpolation=smooth)
    resized.flags.writeable = False
    return resized


def _drawn(count: int) -> list[int]:
    """Draw up to 64 of so many places, in order; the same each time."""
    return sorted(np.random.default_rng(count).permutation(count)[:MOST].tolist())


def _write(file: BinaryIO, stored: StoredClusters) -> None:
    """Write face by face, since numpy lets no other thread run while it copies all of them."""
    about = {"schema": 1, "next_id": stored.next_id, "model_id": stored.model_id, "names": dict(stored.names)}
    if not stored.template.is_same(EYES_LEVEL):
        about["template"] = asdict(stored.template)
    rows = stored.rows
    shape = (len(rows), *(rows[0].crop.shape if rows else (0, 0, 3)))
    vectors = np.stack([row.vector for row in rows]) if rows else np.zeros((0, 0), np.float32)
    with ZipFile(file, "w") as archive:
        with archive.open(_ABOUT, "w") as member:
            member.write(json.dumps(about).encode())
        if stored.clustering is not None:
            with archive.open(_CLUSTERING, "w") as member:
                member.write(encode(Recluster(replace(stored.clustering, version=1, changes=()), "person"))[1])
        with archive.open("crops.npy", "w", force_zip64=True) as member:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
            for row in rows:
                member.write(np.ascontiguousarray(row.crop).data)
        for name, array in (("vectors", vectors), ("clusters", np.array([row.known for row in rows], np.int32))):
            with archive.open(f"{name}.npy", "w") as member:
                npy.write_array(member, array.astype(_ARRAYS[name][0]), allow_pickle=False)  # type: ignore[no-untyped-call]


def _array(archive: ZipFile, name: str) -> NDArray[Any]:
    """Read an array. Raises ValueError: it is of another kind."""
    kind, dimensions = _ARRAYS[name]
    with archive.open(f"{name}.npy") as member:
        array: NDArray[Any] = npy.read_array(member, allow_pickle=False)  # type: ignore[no-untyped-call]
    if array.dtype.str != kind or array.ndim != dimensions:
        raise ValueError(f"{name} are {array.dtype} {list(array.shape)}")
    array.flags.writeable = False
    return array
