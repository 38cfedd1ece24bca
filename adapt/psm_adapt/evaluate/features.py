"""Features: what a model, or a baseline, says of each crop. `open_model` is the way in.

A model is an encoder bundle, a checkpoint folder, or one of the authors' files; a baseline is a name in `BASELINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from psm_adapt.evaluate.clips import Clip
from psm_adapt.evaluate.probe import PIXEL_COMPONENTS
from psm_stream.align.crops import check_takes_ours
from psm_stream.bundle import MANIFEST, general_bundle, open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import AdaptationError, ConfigError

if TYPE_CHECKING:
    from psm_adapt.networks.design import Networks

GENERAL = "general"
PIXELS_PX = 64
_CHECKPOINT = "checkpoint.json"
_UNTRAINED = "untrained"

Tell: TypeAlias = Callable[[int], None]
"""Takes how many more frames are done."""
FeaturesOf: TypeAlias = Callable[[Clip, Tell], NDArray[Any]]
"""Takes a clip of n frames. Returns [n, D]."""


@dataclass(frozen=True, slots=True)
class Model:
    """Something that is evaluated.

    name: for tables. kind: bundle, checkpoint, authors or baseline. model_id: of its weights, or "". trained: None for
    a baseline. components: principal components that the features are reduced to across people, None for all of them.
    networks: opens flow decoder and generator, too, where there are any.
    """

    name: str
    kind: str
    of: FeaturesOf
    model_id: str = ""
    trained: bool | None = None
    components: int | None = None
    networks: Callable[[], Networks] | None = None


def open_model(what: str) -> Model:
    """Open what `--model` names: NAME=WHAT or WHAT, which is `general`, a baseline, or a path.

    Raises ConfigError: it is none of these. Raises BundleError, CheckpointError: the model cannot be opened.
    """
    named, given = _name_and_place(what)
    if given == GENERAL:
        return _of_bundle(named or GENERAL, general_bundle())
    if given in BASELINES:
        of, components = BASELINES[given]
        return Model(named or given, "baseline", of, components=components)
    place = Path(given)
    name = named or place.resolve().stem
    if (place / MANIFEST).is_file():
        return _of_bundle(name, place)
    if (place / _CHECKPOINT).is_file():
        return _of_checkpoint(name, place)
    if place.is_file():
        return _of_authors(name, place)
    what_is_it = "is neither an encoder bundle nor a checkpoint" if place.is_dir() else "does not exist"
    raise ConfigError(
        f"--model: {given} {what_is_it}; give a folder with {MANIFEST} or {_CHECKPOINT}, an authors' .tar, "
        f"or one of {GENERAL}, {', '.join(BASELINES)}"
    )


def _name_and_place(what: str) -> tuple[str, str]:
    name, is_named, place = what.partition("=")
    return (name, place) if is_named and name and not Path(what).exists() else ("", what)


def _of_bundle(name: str, folder: Path) -> Model:
    bundle = open_bundle(folder)
    check_takes_ours(bundle.manifest, f"--model {folder}, for the crops of a store")
    encoder = open_encoder(bundle)

    def of(clip: Clip, tell: Tell) -> NDArray[np.float32]:
        vectors = []
        for crops in clip.crops():
            vectors += [encoder.encode(crop) for crop in crops]
            tell(len(crops))
        return np.stack(vectors)

    return Model(name, "bundle", of, encoder.model_id, encoder.trained)


def _of_checkpoint(name: str, folder: Path) -> Model:
    from psm_adapt.checkpoint import open_checkpoint  # brings torch, which bundles and baselines do without

    checkpoint = open_checkpoint(folder)
    about = checkpoint.about
    of = _codes(checkpoint.networks)
    return Model(name, "checkpoint", of, about.model_id, about.step > 0, networks=checkpoint.networks)


def _of_authors(name: str, file: Path) -> Model:
    from psm_adapt.authors import read_authors
    from psm_adapt.checkpoint import fill
    from psm_adapt.networks.design import Design, empty_networks

    read = read_authors(file)

    def networks() -> Networks:
        made = empty_networks(Design(identity=read.has_identity))
        for part, network in made.parts().items():
            fill(network, read.states[part], f"{file}, {part}")
        return made

    return Model(name, "authors", _codes(networks), trained=True, networks=networks)


def _codes(networks: Callable[[], Networks]) -> FeaturesOf:
    from psm_adapt.evaluate.codes import codes_of

    encoder = networks().encoder.eval()
    return lambda clip, tell: codes_of(encoder, clip, tell)


def _pixels(clip: Clip, tell: Tell) -> NDArray[np.uint8]:
    """Raw pixels of 64x64 RGB, by the live path's area filter. Returns uint8 [n, 12288]."""
    size = (PIXELS_PX, PIXELS_PX)
    rows = []
    for crops in clip.crops():
        rows += [cv2.resize(crop, size, interpolation=cv2.INTER_AREA).ravel() for crop in crops]
        tell(len(crops))
    return np.stack(rows)


def _landmarks(clip: Clip, tell: Tell) -> NDArray[np.float32]:
    """Landmarks in pixels of the crop. Returns [n, 956]."""
    tell(len(clip))
    return _complete(clip, np.asarray(clip.store.landmarks[clip.rows]).reshape(len(clip), -1), "landmarks")


def _blendshapes(clip: Clip, tell: Tell) -> NDArray[np.float32]:
    """Blendshapes. Returns [n, 52]."""
    if clip.store.blendshapes is None:
        raise AdaptationError(
            f"crop store {clip.store.folder} has no blendshapes; make one with psm-adapt crops --landmarker"
        )
    tell(len(clip))
    return _complete(clip, np.asarray(clip.store.blendshapes[clip.rows]), "blendshapes")


def _complete(clip: Clip, rows: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    missing = int(np.count_nonzero(np.isnan(rows).any(axis=1)))
    if missing:
        raise AdaptationError(
            f"recording {clip.name!r} has no {what} in {missing} of {len(clip)} frames; evaluate without --model {what}"
        )
    return rows


BASELINES: Mapping[str, tuple[FeaturesOf, int | None]] = MappingProxyType(
    {"pixels": (_pixels, PIXEL_COMPONENTS), "landmarks": (_landmarks, None), "blendshapes": (_blendshapes, None)}
)
"""What needs no model: where the features come from, and how many principal components are left across people."""
