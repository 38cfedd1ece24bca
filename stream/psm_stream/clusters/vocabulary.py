"""An expression vocabulary: a file of centres, in which every face has the token of its nearest one.

    schema         1
    feature        what was clustered: "embedding" or "units" (clusters/units.py)
    model_id       of the encoder, or "" for units
    source         what units were measured from: "blendshapes" or "landmarks", or "" for embeddings
    measuring      digest of how units were measured, which another version may do in another way; "" for embeddings
    features       [D] names of the units that count, in the order of UNITS; [0] for embeddings
    scale          float32 [D]: features are divided by it before distances are taken
    centres        float32 [K, D], divided by `scale`; row n is token cn, whatever becomes of the other rows
    counts         int64 [K], faces nearest to each centre and within `limit`, counted when it was made
    limit          float32: a face farther than that from every centre is <unk>
    min_count      int64: and so is one whose centre has fewer faces
    units          [U] names of all units that were measured
    profiles       float32 [K, U], the mean of each unit in deviations from its mean; NaN where it cannot be told
    about          JSON, for people: what it was made of
    vector_tokens  [V] tokens that have a vector; [0] before `psm-adapt vocabulary train`
    vector_counts  int64 [V], how often each was there in training
    vectors        float32 [V, d], found by token and never by row

It is a .npz without pickled objects. Source: Tran et al., AU-GloVe; docs/vocabulary.md says what differs.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.units import PLACES, UNIT_NAMES, UNITS
from psm_stream.errors import ClusteringError

SCHEMA = 1
START, END, UNKNOWN = "<START>", "<END>", "<unk>"
"""Before a track, after it, and what stands for a face that has no centre of its own."""
SPECIAL = (START, END, UNKNOWN)

Feature = Literal["embedding", "units"]
FEATURES: tuple[Feature, ...] = ("embedding", "units")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a file holds; the module says what each is."""

    feature: Feature
    model_id: str
    source: str
    features: tuple[str, ...]
    scale: NDArray[np.float32]
    centres: NDArray[np.float32]
    counts: NDArray[np.int64]
    limit: float
    min_count: int
    units: tuple[str, ...]
    profiles: NDArray[np.float32]
    measuring: str = ""
    about: str = "{}"
    vector_tokens: tuple[str, ...] = ()
    vector_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __len__(self) -> int:
        """Count the centres."""
        return len(self.centres)

    @property
    def is_word(self) -> NDArray[np.bool_]:
        """Which centres are tokens of their own, [K]: the others have too few faces."""
        return self.counts >= self.min_count

    def token(self, number: int) -> str:
        """Return the token of a centre; of -1, and of one with too few faces, <unk>."""
        return f"c{number}" if number >= 0 and self.counts[number] >= self.min_count else UNKNOWN


def measuring_of(source: str) -> str:
    """Return a digest of how units are measured from a source, 12 hex digits; "" for no source."""
    if not source:
        return ""
    if source == "blendshapes":
        way = repr([(unit.name, unit.shapes) for unit in UNITS])
    else:
        way = repr([(unit.name, unit.formula) for unit in UNITS]) + repr(sorted(PLACES.items()))
    return hashlib.sha256(way.encode()).hexdigest()[:12]


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a file. Raises ClusteringError: it is missing, damaged, foreign, or of a newer schema."""
    try:
        with path.open("rb") as file:
            # a bare array or what is no array at all would come back as something else than arrays by name
            loaded = np.load(file, allow_pickle=False) if zipfile.is_zipfile(path) else {}
            arrays = {name: np.asarray(loaded[name]) for name in loaded}
    except FileNotFoundError:
        raise ClusteringError(
            f"there is no vocabulary {path}; make one with psm-adapt vocabulary fit INPUT... --out {path}"
        ) from None
    except OSError as error:
        raise ClusteringError(f"cannot read vocabulary {path}: {error.strerror or error}") from None
    # RuntimeError: NotImplementedError is one, of a way to pack that Python does not know
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, struct.error) as error:
        raise _damaged(path, " ".join(str(error).split())) from None
    return _checked(path, arrays)


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Write a file, whole or not at all. The same vocabulary gives the same bytes. Raises ClusteringError."""
    arrays = {one.name: np.array(getattr(vocabulary, one.name)) for one in fields(vocabulary)}
    arrays |= {name: np.array(getattr(vocabulary, name), np.str_) for name in _NAMES}
    _checked(path, {**arrays, "schema": np.array(SCHEMA)})
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as file:
                np.savez_compressed(file, schema=np.array(SCHEMA), **arrays)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ClusteringError(
            f"cannot write vocabulary {path}: {error.strerror or error}; name another --out"
        ) from None


_NAMES = ("features", "units", "vector_tokens")
_KINDS: Mapping[str, tuple[str, int]] = {
    "feature": ("U", 0),
    "model_id": ("U", 0),
    "source": ("U", 0),
    "measuring": ("U", 0),
    "features": ("U", 1),
    "scale": ("f", 1),
    "centres": ("f", 2),
    "counts": ("i", 1),
    "limit": ("f", 0),
    "min_count": ("i", 0),
    "units": ("U", 1),
    "profiles": ("f", 2),
    "about": ("U", 0),
    "vector_tokens": ("U", 1),
    "vector_counts": ("i", 1),
    "vectors": ("f", 2),
}
"""Kind of numbers and number of axes of each array."""


def _checked(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Vocabulary:
    """Return a vocabulary of its arrays. Raises ClusteringError: they do not fit each other."""
    if "schema" not in arrays or "centres" not in arrays:
        raise ClusteringError(f"{path} is no vocabulary; psm-adapt vocabulary fit makes one")
    if arrays["schema"].shape != () or arrays["schema"].dtype.kind not in "iu" or int(arrays["schema"]) != SCHEMA:
        raise ClusteringError(f"vocabulary {path} is of another schema than {SCHEMA}; install a newer psm-stream")
    for name, (kind, axes) in _KINDS.items():
        if name not in arrays:
            raise _damaged(path, f"it lacks {name}")
        if arrays[name].dtype.kind != kind or arrays[name].ndim != axes:
            raise _damaged(path, f"{name} is {arrays[name].dtype} {list(arrays[name].shape)}")
    vocabulary = Vocabulary(
        feature=cast("Feature", str(arrays["feature"])),
        model_id=str(arrays["model_id"]),
        source=str(arrays["source"]),
        measuring=str(arrays["measuring"]),
        features=_names(arrays["features"]),
        scale=arrays["scale"].astype(np.float32),
        centres=np.ascontiguousarray(arrays["centres"], np.float32),
        counts=arrays["counts"].astype(np.int64),
        limit=float(arrays["limit"]),
        min_count=int(arrays["min_count"]),
        units=_names(arrays["units"]),
        profiles=arrays["profiles"].astype(np.float32),
        about=str(arrays["about"]),
        vector_tokens=_names(arrays["vector_tokens"]),
        vector_counts=arrays["vector_counts"].astype(np.int64),
        vectors=arrays["vectors"].astype(np.float32),
    )
    trouble = _trouble(vocabulary)
    if trouble:
        raise _damaged(path, trouble)
    if vocabulary.measuring != measuring_of(vocabulary.source):
        raise ClusteringError(
            f"vocabulary {path} is of units that another version of psm-stream measured from {vocabulary.source}; "
            "make it again with psm-adapt vocabulary fit"
        )
    return vocabulary


def _trouble(made: Vocabulary) -> str:
    """Say what does not fit, or ""."""
    size, dimension = made.centres.shape
    unknown = sorted(set(made.features) - set(UNIT_NAMES))
    ordered = tuple(name for name in UNIT_NAMES if name in made.features)
    checks = (
        (made.feature in FEATURES, f"its feature is {made.feature!r}"),
        (size > 0 and dimension > 0, "it has no centre"),
        (bool(np.isfinite(made.centres).all()), "a centre is not finite"),
        (made.scale.shape == (dimension,) and bool((made.scale > 0).all()), "scale does not fit the centres"),
        (made.counts.shape == (size,) and bool((made.counts >= 0).all()), "counts do not fit the centres"),
        (made.profiles.shape == (size, len(made.units)), "profiles do not fit the centres"),
        (made.limit > 0, "limit is not above 0"),  # nor NaN
        (len(made.features) == (dimension if made.feature == "units" else 0), "features do not fit the centres"),
        (made.source in (("blendshapes", "landmarks") if made.feature == "units" else ("",)), "source does not fit"),
        (bool(made.model_id) == (made.feature == "embedding"), "model_id does not fit the feature"),
        (not unknown, f"it has units that are not known here: {', '.join(unknown)}"),
        (ordered == made.features, "its units are not in their order"),
        (len(made.vectors) == len(made.vector_tokens) == len(made.vector_counts), "vectors do not fit their tokens"),
        (len(set(made.vector_tokens)) == len(made.vector_tokens), "a token has two vectors"),
        (bool(np.isfinite(made.vectors).all()), "a vector is not finite"),
    )
    return next((words for holds, words in checks if not holds), "")


def _names(array: NDArray[Any]) -> tuple[str, ...]:
    names: Sequence[str] = array.tolist()
    return tuple(names)


def _damaged(path: Path, what: str) -> ClusteringError:
    return ClusteringError(f"vocabulary {path} is damaged: {what}; make it again with psm-adapt vocabulary fit")
