"""Where the general model that ships is; docs/general-model.md is its card."""

from __future__ import annotations

from pathlib import Path


def general_checkpoint() -> Path:
    """Folder of the general model's encoder, flow decoder and generator, in half precision.

    Training starts from it by `start_from: general`, and `psm_stream.bundle.general_bundle` is the same encoder for
    the live path.
    """
    return Path(__file__).resolve().parents[1] / "checkpoints" / "general"
