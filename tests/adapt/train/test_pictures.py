"""Pictures: the grid's tiles are the images, under their names."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from psm_adapt.train.pictures import ENLARGED, GAP_PX, HEADING_PX, draw_losses, grid_of, save_picture
from psm_adapt.train.task import Preview


def test_a_tile_for_each_image_a_column_for_each_name() -> None:
    images = {"input": torch.rand(3, 3, 8, 8), "neutral": torch.rand(3, 3, 8, 8)}
    grid = grid_of(Preview(images))
    assert grid is not None
    side = 8 * ENLARGED
    assert grid.shape == (3 * (side + GAP_PX) + HEADING_PX + GAP_PX, 2 * (side + GAP_PX) + GAP_PX, 3)
    for column, shown in enumerate(images.values()):
        for row in range(3):
            left, top = GAP_PX + column * (side + GAP_PX), HEADING_PX + row * (side + GAP_PX)
            tile = grid[top : top + side, left : left + side][::ENLARGED, ::ENLARGED]
            expected = (shown[row].numpy().transpose(1, 2, 0) * 255).round()
            np.testing.assert_array_equal(tile, expected)
    assert (grid[:HEADING_PX] == 0).any()  # the names


def test_colours_that_cannot_be_shown_are_cut_off() -> None:
    grid = grid_of(Preview({"a": torch.tensor([-1.0, 2.0, float("nan")])[:, None, None].expand(1, 3, 4, 4)}))
    assert grid is not None
    assert grid[HEADING_PX + 1, GAP_PX + 1].tolist() == [0, 255, 0]


def test_an_empty_preview_has_no_grid() -> None:
    assert grid_of(Preview()) is None


def test_files(tmp_path: Path) -> None:
    draw_losses(tmp_path / "loss.png", [1, 2, 3], {"a": [3.0, 2.0, 1.0], "total": [1.0, float("nan"), 2.0]})
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    save_picture(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
    with Image.open(tmp_path / "loss.png") as image:
        image.verify()
