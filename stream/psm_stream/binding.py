"""Buffers that an encoder's session reads and writes, bound once: nothing is allocated or copied per face but the face.

On the CPU the crop is scaled straight into the input, the graph reads it there and writes into the output, and the
vector is the one copy. On a GPU the crop is copied to it once, and the vector back; the buffers there stay where they
are, which CUDA graphs need. The crop's own memory is not page-locked: ONNX Runtime's public calls in Python make no
array over such memory, and 12 kB (64 px) to 200 kB (256 px) a face hardly ask for it.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from psm_stream.values import Image


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of an encoder's graph. size_px: side of the input. dimension: of the output."""

    input: str
    output: str
    size_px: int
    dimension: int


class Bound(Protocol):
    """Buffers for one inference at a time. crop: [S, S, 3] uint8, to be written into."""

    crop: Image

    def run(self) -> NDArray[np.float32]:
        """Encode what is in `crop`. Returns [D], which nothing writes into afterwards."""


class HostBuffers:
    """Buffers in this process's memory."""

    def __init__(self, session: Any, ends: Ends) -> None:
        size = ends.size_px
        self._crops = np.zeros((1, size, size, 3), np.uint8)
        self._vectors = np.zeros((1, ends.dimension), np.float32)
        self.crop = self._crops[0]
        self._session = session
        self._binding = session.io_binding()
        for bind, name, buffer in (
            (self._binding.bind_input, ends.input, self._crops),
            (self._binding.bind_output, ends.output, self._vectors),
        ):
            bind(name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)

    def run(self) -> NDArray[np.float32]:
        """Encode what is in `crop`. Returns [D], a copy."""
        self._session.run_with_iobinding(self._binding)
        vector: NDArray[np.float32] = self._vectors[0].copy()
        return vector


class DeviceBuffers:
    """Buffers on a GPU, and the crop's in this process's memory. device: ONNX Runtime's name of where they are."""

    def __init__(self, session: Any, ends: Ends, device: str = "cuda") -> None:
        import onnxruntime

        size = ends.size_px
        self._crops = np.zeros((1, size, size, 3), np.uint8)
        self.crop = self._crops[0]
        place = onnxruntime.OrtValue
        self._input = place.ortvalue_from_numpy(self._crops.copy(), device, 0)
        self._output = place.ortvalue_from_shape_and_type((1, ends.dimension), np.float32, device, 0)
        self._session = session
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(ends.input, self._input)
        self._binding.bind_ortvalue_output(ends.output, self._output)

    def run(self) -> NDArray[np.float32]:
        """Encode what is in `crop`. Returns [D], fresh from the GPU."""
        self._input.update_inplace(self._crops)
        self._session.run_with_iobinding(self._binding)
        vector: NDArray[np.float32] = self._output.numpy()[0].copy()
        return vector


class BufferPool:
    """Lends buffers, to one thread each.

    On the CPU inferences run side by side, so there are as many buffers as threads ever met. A GPU has one set, since
    a CUDA graph is one: there the second thread waits, which its inference would do in any case.
    """

    def __init__(self, make: Callable[[], Bound], shared: bool) -> None:
        self._make = make
        self._shared = shared
        self._idle: queue.SimpleQueue[Bound] = queue.SimpleQueue()
        self._idle.put(make())

    def take(self) -> Bound:
        """Return buffers that nobody else has; give them back with `put`."""
        try:
            return self._idle.get(block=self._shared)
        except queue.Empty:
            return self._make()

    def put(self, bound: Bound) -> None:
        """Take buffers back."""
        self._idle.put(bound)


def buffers(session: Any, ends: Ends, on_gpu: bool) -> BufferPool:
    """Bind the buffers of a session. on_gpu: it runs there. Raises what ONNX Runtime does: the graph has other ends."""
    if on_gpu:
        return BufferPool(lambda: DeviceBuffers(session, ends), shared=True)
    return BufferPool(lambda: HostBuffers(session, ends), shared=False)
