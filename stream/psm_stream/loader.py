"""Opening an encoder beside the live loop: the short thread that a swap comes from."""

from __future__ import annotations

import threading
from collections.abc import Callable

from psm_stream.bundle import EncoderBundle
from psm_stream.config import EncoderSettings
from psm_stream.encoder import open_encoder
from psm_stream.errors import PsmError
from psm_stream.values import SwapEncoder


def open_aside(
    bundle: EncoderBundle,
    settings: EncoderSettings,
    reason: str,
    ready: Callable[[SwapEncoder], None],
    failed: Callable[[BaseException], None],
) -> None:
    """Open and warm an encoder in a thread, then hand over the order to swap to it. Returns at once.

    failed: is given what kept it from opening: a PsmError is a refused swap, anything else a defect.
    """

    def load() -> None:
        try:
            encoder = open_encoder(bundle, settings.device, settings.threads)
            encoder.warm_up()
        except BaseException as error:
            failed(error)
        else:
            ready(SwapEncoder(encoder, reason))

    threading.Thread(target=load, name="loader", daemon=True).start()


def is_refusal(error: BaseException) -> bool:
    """Tell an expected refusal, after which the old encoder goes on, from a defect."""
    return isinstance(error, PsmError)
