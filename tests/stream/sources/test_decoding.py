"""Colours of decoded video, against the standards' own formulas."""

import av
import numpy as np
import pytest

from psm_stream.sources.decoding import RgbConverter

BT601, BT709 = (0.299, 0.114), (0.2126, 0.0722)
UNSPECIFIED, LIMITED, FULL = 0, 1, 2


def expected_rgb(yuv, weights, is_full):
    """ITU-R BT.601 and BT.709, 8 bit."""
    red_weight, blue_weight = weights
    y, u, v = yuv
    y = y / 255 if is_full else (y - 16) / 219
    u, v = ((c - 128) / (255 if is_full else 224) for c in (u, v))
    red, blue = y + 2 * (1 - red_weight) * v, y + 2 * (1 - blue_weight) * u
    green = (y - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return np.clip(np.array([red, green, blue]) * 255, 0, 255)


@pytest.mark.parametrize("yuv", [(120, 90, 170), (60, 128, 128), (180, 150, 100)])
@pytest.mark.parametrize(
    ("colorspace", "color_range", "weights"),
    [
        (1, LIMITED, BT709),
        (5, LIMITED, BT601),
        (6, LIMITED, BT601),
        (2, UNSPECIFIED, BT601),
        (1, FULL, BT709),
        (2, FULL, BT601),
    ],
)
def test_colours(yuv, colorspace, color_range, weights):
    planes = np.concatenate([np.full(size, value, np.uint8) for size, value in zip((256, 64, 64), yuv, strict=True)])
    frame = av.VideoFrame.from_ndarray(planes.reshape(24, 16), format="yuv420p")
    frame.colorspace, frame.color_range = colorspace, color_range
    image = RgbConverter().convert(frame)
    assert image.shape == (16, 16, 3)
    expected = expected_rgb(yuv, weights, color_range == FULL)
    assert np.abs(image.reshape(-1, 3) - expected).max() < 2.5


def test_one_converter_takes_frames_of_any_size_and_format():
    converter = RgbConverter()
    for format_, shape in [("rgb24", (8, 10, 3)), ("gray", (9, 7)), ("rgb24", (30, 20, 3)), ("bgra", (4, 6, 4))]:
        image = converter.convert(av.VideoFrame.from_ndarray(np.full(shape, 99, np.uint8), format=format_))
        assert image.shape == (*shape[:2], 3)
        assert np.abs(image.astype(int) - 99).max() <= 1
