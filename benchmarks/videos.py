"""Long videos for the benchmarks, made once and kept in the user's cache folder (`PSM_BENCHMARK_CACHE` overrides).

`face_video` is of real people (GRID clips joined, 360x288) where the shared data is there, else of the demo's face;
`demo_video` is the demo's face at any size. Both are H.264 at 30 fps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import platformdirs
from common import say, shared_file
from numpy.typing import NDArray

from psm_stream.config import SourceSettings
from psm_stream.sources.demo import DemoSource

FPS = 30
_GRID = ("grid_s1", "grid_s2", "grid_s5", "grid_s31", "grid_s30")


def face_video(frames: int) -> Path:
    """Return a video of so many frames, 360x288."""
    files = [shared_file(f"grid/{name}.mp4") for name in _GRID]
    found = [file for file in files if file is not None]
    if not found:
        say("no shared face videos (PSM_DATA): the demo's face instead")
        return demo_video(frames, 360, 288)
    return _made(f"grid-360x288-{frames}.mp4", chain.from_iterable(map(pictures, cycle(found))), frames)


def demo_video(frames: int, width: int = 640, height: int = 480) -> Path:
    """Return a video of so many frames of the demo's face."""
    return _made(f"demo-{width}x{height}-{frames}.mp4", demo_pictures(width, height), frames)


def pictures(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Decode a video; [H, W, 3] RGB each."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def demo_pictures(width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """Draw the demo without end; [H, W, 3] RGB each."""
    source = DemoSource(SourceSettings(width=width, height=height), lambda: 0.0)
    source.open()
    while True:
        yield source.read().image


def _made(name: str, images: Iterator[NDArray[np.uint8]], count: int) -> Path:
    folder = Path(os.environ.get("PSM_BENCHMARK_CACHE", platformdirs.user_cache_path("psm-stream") / "benchmarks"))
    path = folder / name
    if not path.exists():
        say(f"making {path} ({count} frames), once")
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.mp4")
        _write(unfinished, islice(images, count))
        unfinished.rename(path)
    return path


def _write(path: Path, images: Iterator[NDArray[np.uint8]]) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "18"})
        first = next(images)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in chain([first], images):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
