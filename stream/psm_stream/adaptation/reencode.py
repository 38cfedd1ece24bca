"""The recent faces under the encoder that runs now: encoded again after each swap, aside and with patience."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psm_stream.encoder import Encoder
from psm_stream.faces import RecentFaces

PAUSE_S = 0.005
"""After each face, about what its encoding took, so that a core is left half free. A lower priority would do worse: a
thread that is put aside while it holds the interpreter's lock holds up the stream."""


@dataclass(frozen=True, slots=True)
class RecentCodes:
    """What one encoder says of the recent faces, in order of age.

    frame_index [n] int64, face_id [n] int32: which face of which frame. vectors: [n, D] float32.
    """

    model_id: str
    frame_index: NDArray[np.int64]
    face_id: NDArray[np.int32]
    vectors: NDArray[np.float32]


def reencode(
    faces: dict[str, NDArray[Any]], encoder: Encoder, is_wanted: Callable[[], bool] = lambda: True
) -> RecentCodes | None:
    """Encode faces, as `RecentFaces.copy` gives them, one by one as the stream does: the same bytes for the same crop.

    Returns None when the result was not wanted any more.
    """
    vectors = np.zeros((len(faces["crops"]), encoder.dimension), np.float32)
    for row, crop in enumerate(faces["crops"]):
        if not is_wanted():
            return None
        vectors[row] = encoder.encode(crop)
    return RecentCodes(encoder.model_id, faces["frame_index"], faces["face_id"], vectors)


def reencode_aside(
    faces: RecentFaces,
    encoder: Encoder,
    post: Callable[[RecentCodes], None],
    *,
    is_wanted: Callable[[], bool],
    failed: Callable[[BaseException], None],
) -> None:
    """Encode the recent faces in a thread. `post` is given the result, if it is still wanted, `failed` an error."""

    def patient() -> bool:
        time.sleep(PAUSE_S)
        return is_wanted()

    def work() -> None:
        try:
            codes = reencode(faces.copy(), encoder, patient)
        except BaseException as error:  # handed over
            failed(error)
        else:
            if codes is not None:
                post(codes)

    threading.Thread(target=work, name="reencode", daemon=True).start()
