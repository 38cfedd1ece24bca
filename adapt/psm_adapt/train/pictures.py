"""The two pictures of a training: the losses over the epochs, and the preview grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from psm_adapt.train.task import TOTAL, Preview

ENLARGED = 2
"""Times that a preview's pixels are drawn larger."""
GAP_PX = 4
HEADING_PX = 16
WHITE = 255


def draw_losses(path: Path, epochs: Sequence[int], terms: Mapping[str, Sequence[float]]) -> None:
    """Draw every loss over the epochs, one curve in one small graph each, the total first. terms: name -> per epoch."""
    names = sorted(terms, key=lambda name: name != TOTAL)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows))
    # laid out by hand, as matplotlib's own layouts take as long as drawing does
    figure.subplots_adjust(0.12 / columns + 0.03, 0.24 / rows, 0.98, 1 - 0.1 / rows, wspace=0.25, hspace=0.5)
    for position, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, position + 1)
        axes.plot(epochs, terms[name], marker="." if len(epochs) < 20 else "", linewidth=1.2)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def grid_of(preview: Preview) -> NDArray[np.uint8] | None:
    """Lay the images out under their names, a row per face. Returns uint8 [H, W, 3] RGB; None for an empty preview."""
    columns = {name: _as_bytes(images.detach().float().cpu().numpy()) for name, images in preview.columns.items()}
    if not columns:
        return None
    count, height, width, _ = next(iter(columns.values())).shape
    high, wide = height * ENLARGED, width * ENLARGED
    size = (len(columns) * (wide + GAP_PX) + GAP_PX, count * (high + GAP_PX) + HEADING_PX + GAP_PX)
    page = Image.new("RGB", size, (WHITE, WHITE, WHITE))
    pen = ImageDraw.Draw(page)
    for column, (name, images) in enumerate(columns.items()):
        left = GAP_PX + column * (wide + GAP_PX)
        pen.text((left, 2), name, fill=(0, 0, 0))
        for row, image in enumerate(images):
            tile = Image.fromarray(image).resize((wide, high), Image.Resampling.NEAREST)
            page.paste(tile, (left, HEADING_PX + row * (high + GAP_PX)))
    return np.asarray(page)


def save_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a PNG. pixels: uint8 [H, W, 3] RGB."""
    Image.fromarray(pixels).save(path)


def _as_bytes(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[K, 3, H, W] 0..1 -> uint8 [K, H, W, 3]. Networks' colours are unbounded; what cannot be seen is cut off."""
    shown = np.nan_to_num(images).clip(0, 1)
    return (shown * WHITE).round().astype(np.uint8).transpose(0, 2, 3, 1)
