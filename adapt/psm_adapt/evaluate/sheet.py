"""The retrieval sheet: a picture with a query in each row, and the frames retrieved for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

GAP_PX = 6
TEXT_PX = 14
_BLACK = (0, 0, 0)
_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Tile:
    """One frame. crop: uint8 [S, S, 3] RGB. text: the numbers of the action units that are on."""

    crop: NDArray[np.uint8]
    text: str


def retrieval_sheet(rows: Sequence[Sequence[Tile]]) -> NDArray[np.uint8]:
    """Draw the sheet: the query at the left, a little apart. rows: at least one. Returns uint8 [H, W, 3] RGB."""
    side = rows[0][0].crop.shape[0]
    across, down = side + GAP_PX, side + GAP_PX + TEXT_PX
    page = Image.new("RGB", (2 * GAP_PX + len(rows[0]) * across, TEXT_PX + len(rows) * down), _WHITE)
    pen = ImageDraw.Draw(page)
    for column in range(len(rows[0])):
        heading = f"nearest {column}" if column else "query: action units below"
        pen.text((_left(column, across), 2), heading, fill=_BLACK)
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            left, top = _left(column, across), TEXT_PX + row * down
            page.paste(Image.fromarray(tile.crop), (left, top + 2))
            pen.text((left, top + side + 3), tile.text[: side // 6], fill=_BLACK)
    return np.asarray(page)


def _left(column: int, across: int) -> int:
    return GAP_PX + column * across + (GAP_PX if column else 0)
