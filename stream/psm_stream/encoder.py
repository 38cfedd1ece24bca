"""The encoder: an aligned crop goes in, an embedding comes out, one face at a time.

Faces are never batched, so a result depends on nothing but its crop. Same bundle, same provider, same machine: same
bytes.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from psm_stream.bundle import ENCODER, EncoderBundle
from psm_stream.devices import Device, Running, open_session
from psm_stream.errors import BundleError, PsmError, ShapeMismatch
from psm_stream.onnx_file import check_self_contained
from psm_stream.values import Image


class Encoder:
    """An encoder bundle that runs. Make one with `open_encoder`; any thread may call it, and several may exist.

    bundle: what it was opened from. device: "cpu", "cuda" or "tensorrt", the one that really runs. why: what chose it.
    model_id, dimension, trained: as the manifest says.
    """

    def __init__(self, bundle: EncoderBundle, running: Running) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.device = running.device
        self.why = running.why
        self.model_id = manifest.model_id
        self.dimension = manifest.output.dimension
        self.trained = manifest.trained
        self._session = running.session
        self._size_px = manifest.input.size_px
        self._input, self._output = manifest.input.name, manifest.output.name

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
        if crop.shape[0] != self._size_px:
            crop = cv2.resize(crop, (self._size_px, self._size_px), interpolation=cv2.INTER_AREA)
        vector: NDArray[np.float32] = self._session.run([self._output], {self._input: crop[None]})[0][0]
        vector.setflags(write=False)
        return vector

    def warm_up(self, runs: int = 3) -> None:
        """Encode a grey crop a few times: the first inference of a session is the slow one.

        Raises ShapeMismatch: the graph gives something else than the manifest says.
        """
        grey = np.full((self._size_px, self._size_px, 3), 128, np.uint8)
        for _ in range(runs):
            vector = self.encode(grey)
        if vector.shape != (self.dimension,) or not np.isfinite(vector).all():
            raise ShapeMismatch(
                f"encoder bundle {self.bundle.folder}: a grey crop gives {list(vector.shape)} values of which "
                f"{int(np.isfinite(vector).sum())} are finite, expected {self.dimension}; make the bundle again"
            )

    def _check(self, crop: Image) -> None:
        square = crop.ndim == 3 and crop.shape[0] == crop.shape[1] and crop.shape[2] == 3
        if not square or crop.dtype != np.uint8:
            raise ShapeMismatch(f"a crop must be uint8 [S, S, 3] RGB, got {crop.dtype} {list(crop.shape)}")
        if crop.shape[0] < self._size_px:
            raise ShapeMismatch(
                f"a crop of {crop.shape[0]} px is smaller than this encoder's input of {self._size_px} px; "
                f"set aligner.size_px to {self._size_px} or more"
            )


def open_encoder(bundle: EncoderBundle, device: Device = "auto", threads: int = 1) -> Encoder:
    """Start the encoder of a bundle. threads: CPU threads inside one inference.

    Raises BundleError: the model needs other files or custom operators, or ONNX Runtime refuses it.
    Raises DigestMismatch: the file changed since the bundle was opened. Raises ShapeMismatch: the graph's input or
    output is not what the manifest says. Raises DeviceError: the device asked for is not there.
    """
    model = bundle.read(ENCODER)
    check_self_contained(model)
    running = open_session(model, device, threads)
    _check_graph(bundle, running.session)
    encoder = Encoder(bundle, running)
    try:
        encoder.warm_up(runs=1)
    except PsmError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no base; a graph that fails here would fail live
        message = " ".join(str(error).split())[:200]
        raise BundleError(f"encoder bundle {bundle.folder}: a grey crop makes the graph fail: {message}") from error
    return encoder


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
