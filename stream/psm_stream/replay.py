"""Replay: a recorded session folded over the pipeline again.

The pipeline is the one that ran live, built from the encoder in use when the recording began, and fed the recorded
inputs in their order. Same bundle, same provider, same machine: the results are equal to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from psm_stream.align.crops import recorded_template, template_of
from psm_stream.bundle import open_bundle
from psm_stream.clusters.clustering import ANY_MODEL, Clustering
from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.trial import check_assigns
from psm_stream.devices import CPU, CUDA, TENSORRT, Device
from psm_stream.encoder import Encoder, open_encoder
from psm_stream.errors import ClusteringError, DeviceError, SessionError
from psm_stream.pipeline import Pipeline
from psm_stream.record.codec import Swap
from psm_stream.record.reader import Logged, Session
from psm_stream.record.session import SessionInfo
from psm_stream.values import Faces, Input, Marker, NameCluster, NoFace, Present, Recluster, Result, SwapEncoder

OpenModel: TypeAlias = Callable[[Path], Encoder]
"""Opens the encoder of a bundle folder."""

_INPUTS = Faces | NoFace | Marker | Recluster | NameCluster | Present

_DEVICES: dict[str, Device] = {CPU: "cpu", CUDA: "cuda", TENSORRT: "tensorrt"}


class Replay:
    """One pass over a session. `steps` goes through it once."""

    def __init__(self, session: Session, open_model: OpenModel) -> None:
        """Raises SessionError, BundleError: the encoder in use at the start is not there, or not what it should be."""
        self.session = session
        self._open_model = open_model
        self._encoders: dict[str, Encoder] = {}
        start = session.start()
        self.pipeline = Pipeline(self._encoder(start.model_id), model_epoch=start.model_epoch)

    def steps(self) -> Iterator[tuple[Logged, list[Result]]]:
        """Give each entry of the log with what the pipeline makes of it; nothing for what was not an input.

        Raises SessionError: the log is damaged at this place, or a swap names a model that is not there.
        """
        for logged in self.session.entries():
            item = self._as_input(logged)
            yield logged, [] if item is None else self.pipeline.step(item)

    def _as_input(self, logged: Logged) -> Input | None:
        value = logged.value
        if isinstance(value, Swap):
            encoder = self._encoder(value.model_id)
            for item in self.pipeline.standing():
                if isinstance(item, Recluster):
                    _check(item.clustering, encoder)
            return SwapEncoder(encoder, value.reason)
        if isinstance(value, Recluster):
            _check(value.clustering, (self.pipeline.waiting or self.pipeline).encoder)
        return value if isinstance(value, _INPUTS) else None

    def _encoder(self, model_id: str) -> Encoder:
        """Open the session's copy of a model, once."""
        if model_id not in self._encoders:
            encoder = self._open_model(self.session.model_folder(model_id))
            if encoder.model_id != model_id:
                folder = self.session.model_folder(model_id)
                raise SessionError(f"{folder} holds model {encoder.model_id}; the session was changed")
            self._check_template(encoder)
            self._encoders[model_id] = encoder
        return self._encoders[model_id]

    def _check_template(self, encoder: Encoder) -> None:
        """Raise SessionError: the session's crops are not those that an encoder wants."""
        recorded, wanted = recorded_template(self.session.info.config), template_of(encoder.bundle.manifest)
        if not recorded.is_same(wanted):
            raise SessionError(
                f"{self.session.folder} has crops by {recorded}, and its model {encoder.model_id} wants {wanted}; the "
                "session was changed"
            )


def _check(clustering: Clustering, encoder: Encoder) -> None:
    """Try a recorded clustering, if it is for the encoder that runs.

    Raises SessionError: it cannot assign, or by a method that is not known here.
    """
    if clustering.method in METHODS and clustering.model_id not in (ANY_MODEL, encoder.model_id):
        return
    try:
        check_assigns(clustering, encoder.dimension)
    except ClusteringError as error:
        raise SessionError(f"the session has a {error}") from None


def model_opener(info: SessionInfo, device: Device | None = None) -> OpenModel:
    """Return what opens this session's encoders, on the device asked for, or as they ran when it was recorded.

    Without a device, and when the recorded one is not on this machine, what `auto` chooses is taken. The opener raises
    BundleError, DeviceError.
    """
    threads = _recorded_threads(info)

    def open_model(folder: Path) -> Encoder:
        bundle = open_bundle(folder)
        if device is not None:
            return open_encoder(bundle, device, threads)
        try:
            return open_encoder(bundle, _DEVICES.get(info.provider, "auto"), threads)
        except DeviceError:
            return open_encoder(bundle, "auto", threads)

    return open_model


def _recorded_threads(info: SessionInfo) -> int:
    """CPU threads inside one inference: another number may sum in another order."""
    section = info.config.get("encoder")
    threads = section.get("threads") if isinstance(section, dict) else None
    return threads if isinstance(threads, int) and 1 <= threads <= 64 else 1
