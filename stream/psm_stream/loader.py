"""Opening an encoder beside the live loop: the short thread that a swap comes from."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psm_stream.align.crops import Crops, why_not
from psm_stream.bundle import open_bundle
from psm_stream.config import EncoderSettings
from psm_stream.encoder import Encoder, open_encoder
from psm_stream.errors import BundleError, PsmError
from psm_stream.values import SwapEncoder


@dataclass(frozen=True, slots=True)
class SwapRefused:
    """An encoder could not be opened; the old one goes on. why: one line."""

    why: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What an encoder must run on, and take. settings: where it runs. crops: those of the run."""

    settings: EncoderSettings
    crops: Crops


def open_aside(
    find: Callable[[], Path],
    terms: Terms,
    reason: str,
    post: Callable[[SwapEncoder | SwapRefused], None],
    prepare: Callable[[Encoder], None] = lambda _: None,
) -> None:
    """Open and warm an encoder in a thread; `post` is given the order to swap to it, or why there is none.

    find: returns the bundle's folder, in that thread; may raise. prepare: what must be over before the swap is ordered.
    """

    def load() -> None:
        try:
            bundle = open_bundle(find())
            if trouble := why_not(bundle.manifest, terms.crops):
                raise BundleError(f"{trouble}; it can only run in a run of its own, by --model {bundle.folder}")
            encoder = open_encoder(bundle, terms.settings.device, terms.settings.threads)
            encoder.warm_up()
            prepare(encoder)
        except PsmError as error:
            post(SwapRefused(str(error)))
        except BaseException as error:  # a defect in the new encoder must not end a run that has a working one
            post(SwapRefused(f"{type(error).__name__}: {' '.join(str(error).split())}"))
        else:
            post(SwapEncoder(encoder, reason))

    threading.Thread(target=load, name="loader", daemon=True).start()
