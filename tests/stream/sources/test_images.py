"""A folder of images: order, time, formats, and what is left out."""

import struct

import cv2
import numpy as np
import pytest

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError
from psm_stream.sources import Picture, Skipped
from psm_stream.sources.images import ImagesSource
from psm_stream.testing import ManualClock, number_in, numbered_image


def read_all(folder, count=1000, **settings):
    source = ImagesSource(SourceSettings(kind="images", path=str(folder), **settings), ManualClock())
    source.open()
    pictures = []
    while len(pictures) < count and (picture := source.read()) is not None:
        pictures.append(picture)
    source.close()
    return pictures


def save(path, image):
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(encoded.tobytes())


def test_natural_order_and_every_format(tmp_path):
    names = ["a9.jpg", "a10.jpeg", "a11.PNG", "A12.bmp", "a100.tif", "b.tiff", "café.webp"]
    for number, name in enumerate(names):
        save(tmp_path / name, numbered_image(number))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "a1.png").mkdir()
    pictures = read_all(tmp_path)
    assert [number_in(picture.image) for picture in pictures] == list(range(7))
    assert [picture.t_source for picture in pictures] == pytest.approx([n / 30 for n in range(7)])


def test_rate_and_loop(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", numbered_image(number))
    pictures = read_all(tmp_path, count=5, fps=10, loop=True)
    assert [number_in(picture.image) for picture in pictures] == [0, 1, 2, 0, 1]
    assert [picture.t_source for picture in pictures] == pytest.approx([0, 0.1, 0.2, 0, 0.1])


def test_what_cannot_be_read_is_skipped_and_counted_and_keeps_its_time(tmp_path):
    save(tmp_path / "0.png", numbered_image(0))
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "2.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (tmp_path / "3.png").symlink_to(tmp_path / "gone.png")
    save(tmp_path / "4.png", numbered_image(4))
    pictures = read_all(tmp_path)
    assert [number_in(p.image) if isinstance(p, Picture) else p for p in pictures] == [
        0,
        Skipped("decode"),
        Skipped("decode"),
        4,
    ]
    assert pictures[-1].t_source == pytest.approx(3 / 30)  # a link to nothing is no file


def test_red_is_first_and_16_bit_and_grey_become_8_bit_rgb(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 250
    save(tmp_path / "0.png", red)
    (tmp_path / "1.png").write_bytes(cv2.imencode(".png", np.full((8, 8, 3), 40_000, np.uint16))[1].tobytes())
    (tmp_path / "2.png").write_bytes(cv2.imencode(".png", np.full((8, 8), 77, np.uint8))[1].tobytes())
    images = [picture.image for picture in read_all(tmp_path)]
    assert [image.dtype for image in images] == [np.uint8] * 3
    assert [image[4, 4].tolist() for image in images] == [[250, 0, 0], [156] * 3, [77] * 3]


def test_the_camera_s_orientation_is_followed(tmp_path):
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, :16] = 255  # white at the left; shown turned a quarter clockwise it is white at the top
    save(tmp_path / "0.jpg", image)
    content = (tmp_path / "0.jpg").read_bytes()
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    (tmp_path / "0.jpg").write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    (picture,) = read_all(tmp_path)
    assert picture.image.shape == (32, 16, 3)
    assert picture.image[:12].min() > 200
    assert picture.image[-12:].max() < 55


def test_what_is_no_folder_of_images_is_said_in_one_line(tmp_path):
    for folder, words in [(tmp_path / "missing", "there is no folder"), (tmp_path, "has no image in it")]:
        with pytest.raises(SourceError, match=words) as error:
            read_all(folder)
        assert str(folder) in str(error.value)
        assert "\n" not in str(error.value)
