"""Opening everything that a run needs, the slow parts side by side, and closing it again."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psm_stream
from psm_stream import config
from psm_stream.adaptation.plan import Plan, make_plan
from psm_stream.adaptation.workspace import remove_leftovers
from psm_stream.align import Aligner, open_aligner
from psm_stream.align.crops import Crops, crops_of, why_not
from psm_stream.bundle import EncoderBundle, general_bundle, open_bundle
from psm_stream.clusters.clustering import ANY_MODEL
from psm_stream.clusters.vocabulary import read_vocabulary
from psm_stream.clusters.vocabulary_method import as_clustering
from psm_stream.config import FITTED, AlignerSettings, ClustersSettings, EncoderSettings, Settings
from psm_stream.encoder import Encoder, open_encoder
from psm_stream.errors import ConfigError
from psm_stream.people import base_named, open_newest
from psm_stream.people_clusters import StoredClusters, load
from psm_stream.sources import SOURCES, Clock, Source
from psm_stream.values import Recluster
from psm_stream.wire.ingress import About
from psm_stream.wire.ports import Sockets, open_sockets

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """What a run is made of, opened and warm.

    encoder: the one that the run starts with; its crops are those of the whole run. reverts_to: the encoder that REVERT
    goes back to at the next frame: the general one, or where that takes other crops, the one that the run starts with.
    vocabulary: clusters that are there from the beginning, or None. known: what an earlier session kept of this
    person's clusters, or None.
    """

    settings: Settings
    session: str
    about: About
    sockets: Sockets
    source: Source
    aligner: Aligner
    encoder: Encoder
    reverts_to: Encoder
    plan: Plan
    vocabulary: Recluster | None = None
    known: StoredClusters | None = None

    @property
    def crops(self) -> Crops:
        """What the aligner makes."""
        return crops_of(self.encoder.bundle.manifest, self.settings.aligner.size_px)

    def as_run(self) -> dict[str, Any]:
        """Return the settings as plain values, with the crops that they came to."""
        told = config.public(self.settings)
        told["aligner"] |= {"size_px": self.crops.size_px, "template": self.crops.as_dict()}
        return told

    @property
    def keeps_pace(self) -> bool:
        """Whether frames come at the source's own speed, and are dropped when that is too fast."""
        return keeps_pace(self.settings, self.source)

    def describe(self, encoder: Encoder) -> dict[str, Any]:
        """Plain values that say what runs, with the encoder that runs now: source, model, device."""
        return {
            "version": psm_stream.__version__,
            "source": self.source.name,
            "aligner": self.aligner.name,
            "trained": encoder.trained,
            "device": encoder.device,
            "providers": encoder.providers,
            "provider_why": encoder.why,
            "model_licence": encoder.bundle.manifest.licence,
            "model_training_data": list(encoder.bundle.manifest.training_data),
            "template": self.crops.as_dict(),
        }

    def close(self, aligner_in_use: bool) -> None:
        """Free models and ports. The capture thread closes the source. An aligner that still runs is left alone."""
        if not aligner_in_use:
            self.aligner.close()
        self.sockets.close()


def open_parts(settings: Settings, clock: Clock, tell: Callable[[str], object] = lambda _: None) -> Parts:
    """Open sockets, encoder and aligner, and run both models once, so that the first frame is as fast as the next.

    tell: told in one line before something takes minutes.
    Raises PsmError: whichever part cannot be opened, the cheap ones first.
    """
    session = uuid.uuid4().hex
    about = About(session, time.time() - clock(), settings.wire.header)
    source = SOURCES[settings.source.kind](settings.source, clock)
    bundle = _bundle(settings)
    crops = crops_of(bundle.manifest, settings.aligner.size_px)
    plan = make_plan(settings, bundle, keeps_pace(settings, source))
    vocabulary = _vocabulary(settings.clusters, settings.aligner, bundle)
    keeps = settings.person and settings.clusters.keep and settings.clusters.method in FITTED
    known = load(settings.person, crops.template) if keeps else None
    sockets = open_sockets(settings.wire)
    try:
        aligner_opens = _aside(
            lambda: open_aligner(settings.aligner, crops)
        )  # importing mediapipe takes most of a second
        encoder, reverts_to = _encoders(bundle, settings.encoder, crops, tell)
        remove_leftovers()
        aligner = aligner_opens.result()
    except BaseException:
        sockets.close()
        raise
    opened = (sockets, source, aligner, encoder, reverts_to)
    return Parts(settings, session, about, *opened, plan, vocabulary=vocabulary, known=known)


def keeps_pace(settings: Settings, source: Source) -> bool:
    """Tell whether a source plays at its own speed rather than as fast as it can be read."""
    return source.is_live or settings.source.pace == "live"


def _aside(job: Callable[[], T]) -> Future[T]:
    """Run a job in a daemon thread, which, unlike an executor's, does not hold up an interrupted start."""
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(job())
        except BaseException as error:  # raised again by whoever asks for the result
            done.set_exception(error)

    threading.Thread(target=work, name="open", daemon=True).start()
    return done


def _encoders(
    bundle: EncoderBundle, settings: EncoderSettings, crops: Crops, tell: Callable[[str], object]
) -> tuple[Encoder, Encoder]:
    """Open the encoder asked for and the one that REVERT goes back to, both warm; if they are the same, once."""
    general = open_bundle(general_bundle())
    is_alone = bundle.manifest == general.manifest or why_not(general.manifest, crops)
    wanted = [bundle] if is_alone else [bundle, general]
    opened = [open_encoder(one, settings.device, settings.threads, tell) for one in wanted]
    for encoder in opened:
        encoder.warm_up()
    return opened[0], opened[-1]


def _vocabulary(settings: ClustersSettings, aligner: AlignerSettings, bundle: EncoderBundle) -> Recluster | None:
    """The vocabulary that is set, as clusters. Raises PsmError: it cannot be read, or is of other vectors or units."""
    if settings.method != "vocabulary":
        return None
    if settings.vocabulary is None:
        raise ConfigError("clusters.method is vocabulary: name its file with --clusters.vocabulary FILE")
    vocabulary = read_vocabulary(settings.vocabulary)
    model_id = bundle.manifest.model_id
    if vocabulary.model_id not in (ANY_MODEL, model_id):
        raise ConfigError(
            f"{settings.vocabulary} is a vocabulary of encoder {vocabulary.model_id}, and {model_id} runs; name the "
            "encoder's bundle with --model, or make a vocabulary of units"
        )
    is_mesh = aligner.model is None and aligner.name == "facemesh"
    measured, other = ("landmarks", "landmarker") if is_mesh else ("blendshapes", "facemesh")
    if vocabulary.source not in ("", measured):
        raise ConfigError(
            f"{settings.vocabulary} is a vocabulary of units from {vocabulary.source}, and the aligner gives "
            f"{measured}; take --aligner.name {other}, or make one of {measured}"
        )
    return Recluster(as_clustering(vocabulary), "vocabulary")


def _bundle(settings: Settings) -> EncoderBundle:
    """The bundle asked for, else the person's newest, else the general one."""
    if settings.encoder.model is not None:
        return open_bundle(Path(base_named(settings.encoder.model.as_posix())))
    newest = open_newest(settings.person) if settings.person else None
    return newest or open_bundle(general_bundle())
