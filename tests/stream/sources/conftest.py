"""Fixtures for tests of sources: small videos made on the spot."""

from fractions import Fraction

import av
import pytest

from psm_stream.testing import numbered_image


@pytest.fixture
def make_video(tmp_path):
    """Write a video of numbered pictures; times_ms: when each is shown, by default at 25 fps. Returns its path."""

    def make(
        name, *, count=10, times_ms=None, codec="libx264", pix_fmt="yuv420p", options=None, container_options=None
    ):
        path = tmp_path / name
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=25, options=options or {})
            stream.width, stream.height, stream.pix_fmt = 320, 240, pix_fmt
            stream.codec_context.time_base = Fraction(1, 1000) if times_ms else Fraction(1, 25)
            stream.codec_context.thread_count = 1
            for number in range(len(times_ms) if times_ms else count):
                frame = av.VideoFrame.from_ndarray(numbered_image(number, 320, 240), format="rgb24")
                frame.pts = times_ms[number] if times_ms else number
                frame.time_base = stream.codec_context.time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make
