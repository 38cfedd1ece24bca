"""The encoder: an aligned crop goes in, an embedding comes out, one face at a time.

Faces are never batched, so a result depends on nothing but its crop. Same bundle, same provider, same machine: same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from psm_stream.binding import Ends, buffers
from psm_stream.bundle import ENCODER, EncoderBundle
from psm_stream.devices import Device, Running, Use, open_session
from psm_stream.engines import EngineSpec
from psm_stream.errors import BundleError, PsmError, ShapeMismatch
from psm_stream.onnx_file import check_self_contained
from psm_stream.values import Image


class Encoder:
    """An encoder bundle that runs. Make one with `open_encoder`; any thread may call it, and several may exist.

    bundle: what it was opened from. device: "cpu", "cuda" or "tensorrt", the one that really runs. why: what chose it.
    graphs: whether CUDA graphs are in use. model_id, dimension, trained: as the manifest says.
    """

    def __init__(self, bundle: EncoderBundle, running: Running) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.device = running.device
        self.why = running.why
        self.model_id = manifest.model_id
        self.dimension = manifest.output.dimension
        self.trained = manifest.trained
        self.graphs = running.graphs
        self._session = running.session
        self._size_px = manifest.input.size_px
        ends = Ends(manifest.input.name, manifest.output.name, self._size_px, self.dimension)
        self._buffers = buffers(running.session, ends, on_gpu=running.device != "cpu")

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers of the session, the one that runs first, as ONNX Runtime reports them."""
        return tuple(self._session.get_providers())

    @property
    def provider(self) -> str:
        """The execution provider that runs."""
        return self.providers[0]

    def encode(self, crop: Image) -> NDArray[np.float32]:
        """Encode one aligned face.

        crop: [S, S, 3] uint8 RGB, S at least the encoder's input size; it is scaled down with an area filter.
        Returns [D] float32, read-only. Raises ShapeMismatch: the crop is of another shape or type.
        """
        self._check(crop)
        bound = self._buffers.take()
        try:
            if crop.shape[0] == self._size_px:
                np.copyto(bound.crop, crop)
            else:
                cv2.resize(crop, bound.crop.shape[:2], dst=bound.crop, interpolation=cv2.INTER_AREA)
            vector = bound.run()
        finally:
            self._buffers.put(bound)
        vector.setflags(write=False)
        return vector

    def warm_up(self, runs: int = 3) -> None:
        """Encode a grey crop a few times: the first inference of a session is the slow one.

        Raises ShapeMismatch: the graph gives something else than the manifest says.
        """
        grey = _grey(self._size_px)
        for _ in range(runs):
            vector = self.encode(grey)
        _check_vector(self.bundle, vector)

    def _check(self, crop: Image) -> None:
        square = crop.ndim == 3 and crop.shape[0] == crop.shape[1] and crop.shape[2] == 3
        if not square or crop.dtype != np.uint8:
            raise ShapeMismatch(f"a crop must be uint8 [S, S, 3] RGB, got {crop.dtype} {list(crop.shape)}")
        if crop.shape[0] < self._size_px:
            raise ShapeMismatch(
                f"a crop of {crop.shape[0]} px is smaller than this encoder's input of {self._size_px} px; "
                f"set aligner.size_px to {self._size_px} or more"
            )


def open_encoder(
    bundle: EncoderBundle,
    device: Device = "auto",
    threads: int = 1,
    tell: Callable[[str], object] = lambda _: None,
    graphs: bool = True,
) -> Encoder:
    """Start the encoder of a bundle.

    threads: CPU threads inside one inference. tell: told before it takes long. graphs: take CUDA graphs if they work.

    What a GPU cannot do when it runs is done without CUDA graphs, and, for `auto`, on the CPU; `why` says so.
    Raises BundleError: the model needs other files or custom operators, or ONNX Runtime refuses it.
    Raises DigestMismatch: the file changed since the bundle was opened. Raises ShapeMismatch: the graph's input or
    output is not what the manifest says. Raises DeviceError: the device asked for is not there.
    """
    model = bundle.read(ENCODER)
    check_self_contained(model)
    manifest = bundle.manifest
    use = Use(EngineSpec(manifest.precision, manifest.input.size_px), graphs=graphs, tell=tell)
    running = open_session(model, device, threads, use)
    try:
        return _started(bundle, running)
    except ShapeMismatch:
        raise
    except BundleError as error:
        if running.device == "cpu":
            raise
        failed = error
    if running.graphs:
        running = open_session(model, device, threads, replace(use, graphs=False))
        try:
            return _started(bundle, replace(running, why=f"{running.why}; without CUDA graphs: {failed}"))
        except BundleError as error:
            failed = error
    if device != "auto":
        raise failed
    running = open_session(model, "cpu", threads)
    return _started(bundle, replace(running, why=f"auto: {failed}"))


def _started(bundle: EncoderBundle, running: Running) -> Encoder:
    """Bind an encoder's buffers and run it once: a graph that fails here would fail live."""
    _check_graph(bundle, running.session)
    try:
        if running.device == "cpu":
            _check_output(bundle, running.session)
        encoder = Encoder(bundle, running)
        encoder.warm_up(runs=1)
    except PsmError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no base
        message = " ".join(str(error).split())[:200]
        raise BundleError(f"encoder bundle {bundle.folder}: a grey crop makes the graph fail: {message}") from error
    return encoder


def _check_output(bundle: EncoderBundle, session: Any) -> None:
    """Run the graph once without buffers of a shape that it may not have."""
    manifest = bundle.manifest
    grey = _grey(manifest.input.size_px)[None]
    _check_vector(bundle, session.run([manifest.output.name], {manifest.input.name: grey})[0][0])


def _check_vector(bundle: EncoderBundle, vector: NDArray[np.float32]) -> None:
    dimension = bundle.manifest.output.dimension
    if vector.shape != (dimension,) or not np.isfinite(vector).all():
        raise ShapeMismatch(
            f"encoder bundle {bundle.folder}: a grey crop gives {list(vector.shape)} values of which "
            f"{int(np.isfinite(vector).sum())} are finite, expected {dimension}; make the bundle again"
        )


def _grey(size_px: int) -> Image:
    return np.full((size_px, size_px, 3), 128, np.uint8)


def _check_graph(bundle: EncoderBundle, session: Any) -> None:
    """Compare the graph's ends with the manifest; a dimension without a number is free."""
    manifest = bundle.manifest
    size = manifest.input.size_px
    ends = [
        ("input", manifest.input.name, "tensor(uint8)", (None, size, size, 3), session.get_inputs()),
        ("output", manifest.output.name, "tensor(float)", (None, manifest.output.dimension), session.get_outputs()),
    ]
    for kind, name, type_name, shape, found in ends:
        if [end.name for end in found] != [name]:
            names = ", ".join(end.name for end in found)
            raise ShapeMismatch(
                f"encoder bundle {bundle.folder}: the graph's {kind} must be {name!r} alone, not {names}"
            )
        end = found[0]
        fits = len(end.shape) == len(shape) and all(
            want is None or not isinstance(have, int) or have == want
            for have, want in zip(end.shape, shape, strict=True)
        )
        if end.type != type_name or not fits:
            raise ShapeMismatch(
                f"encoder bundle {bundle.folder}: {name} is {end.type} {end.shape} in the graph, "
                f"the manifest says {type_name} {['N', *shape[1:]]}; make the bundle again"
            )
