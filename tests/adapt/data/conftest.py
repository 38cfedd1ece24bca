"""What the tests of data share: small stores of random crops, and small videos of the demo's face."""

from collections.abc import Callable
from fractions import Fraction
from itertools import repeat
from pathlib import Path

import av
import numpy as np
import pytest

from psm_adapt.data.store import CropStore
from psm_adapt.data.writer import RecordedCrops, write_store
from psm_stream.config import SourceSettings
from psm_stream.sources import SOURCES


def some_crops(name: str, person: str, count: int, **arrays: np.ndarray) -> RecordedCrops:
    """Return a recording whose crops are noise drawn from its name."""
    draw = np.random.default_rng(list(name.encode()))
    crops = draw.integers(0, 256, (count, 128, 128, 3), np.uint8)
    return RecordedCrops(name, person, {"crops": crops, **arrays})


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., CropStore]:
    """Make a store from (recording, person, frames) triples."""

    def make(*recordings: tuple[str, str, int], folder: str = "store") -> CropStore:
        return write_store(tmp_path / folder, [some_crops(*recording) for recording in recordings])

    return make


def demo_images(count: int, seed: int = 0) -> list[np.ndarray]:
    """Return frames of the demo's moving face, [240, 320, 3]."""
    source = SOURCES["demo"](SourceSettings(kind="demo", width=320, height=240, seed=seed), lambda: 0.0)
    source.open()
    images = [source.read().image for _ in range(count)]
    source.close()
    return images


def write_video(path: Path, images) -> Path:
    """Write images [240, 320, 3] as a video of 25 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.thread_count = 1
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two people, a film without a face, and a file that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    first, second = demo_images(14), demo_images(6, seed=1)
    write_video(folder / "ann/1.mp4", first[:6])
    write_video(folder / "ann/2.mp4", first[6:])
    write_video(folder / "bob.mp4", second)
    write_video(folder / "empty.mp4", repeat(np.full((240, 320, 3), 90, np.uint8), 3))
    (folder / "torn.mp4").write_bytes(b"no video at all")
    return folder
