"""Video files: every picture in order with the file's own time, upright, and clear words for those that fail."""

import struct
import sys
import wave
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError
from psm_stream.sources import Picture, Skipped
from psm_stream.sources.file import FileSource
from psm_stream.testing import ManualClock, number_in


def read_all(path, **settings):
    source = FileSource(SourceSettings(kind="file", path=str(path), **settings), ManualClock())
    source.open()
    try:
        while (picture := source.read()) is not None:
            yield picture
    finally:
        source.close()


def failure(path) -> str:
    with pytest.raises(SourceError) as error:
        list(read_all(path))
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("h264.mp4", {}),
        ("bframes.mkv", {"options": {"bf": "3"}}),
        ("hevc.mov", {"codec": "libx265", "options": {"x265-params": "log-level=none:pools=1"}}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("mpeg1.mpg", {"codec": "mpeg1video"}),
        ("vp8.webm", {"codec": "libvpx"}),
        ("stream.ts", {}),
        ("full_range.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("ten_bit.mkv", {"codec": "ffv1", "pix_fmt": "yuv420p10le"}),
    ],
)
def test_every_picture_comes_in_order_with_its_time(make_video, name, options):
    pictures = list(read_all(make_video(name, count=12, **options)))
    assert [number_in(picture.image) for picture in pictures] == list(range(12))
    assert [picture.t_source for picture in pictures] == pytest.approx([n / 25 for n in range(12)], abs=1e-3)
    image = pictures[1].image  # black but for the leftmost bar
    assert image.dtype == np.uint8
    assert image.shape == (240, 320, 3)
    assert image[:, 2:14].min() > 240
    assert image[:, 40:].max() < 15


def test_variable_frame_rate(make_video):
    times_ms = [0, 40, 50, 90, 400, 401, 900]
    for name in ("vfr.mkv", "vfr.mp4"):
        pictures = list(read_all(make_video(name, times_ms=times_ms)))
        assert [picture.t_source for picture in pictures] == pytest.approx([t / 1000 for t in times_ms], abs=1e-3)


def test_time_counts_from_the_first_picture(make_video):
    pictures = list(read_all(make_video("late.mkv", times_ms=[5000, 5040, 5080])))
    assert [picture.t_source for picture in pictures] == pytest.approx([0.0, 0.04, 0.08])


@pytest.mark.parametrize(
    "name",
    ["fixtures/pyfeat_face_noface.mov", "fixtures/pyfeat_single_face.mp4", "fixtures/intel_asl_bird.mkv",
     "fixtures/pyfeat_no_face.mp4", "grid/grid_extra_brbk7n.mpg", "people/audun_ht_capture4_320x240.mp4"],
)  # fmt: skip
def test_as_another_decoder_reads_it(shared_data, name):
    """OpenCV brings an FFmpeg of its own, five years older."""
    other = cv2.VideoCapture(str(shared_data / name))
    count = 0
    for picture in read_all(shared_data / name):
        is_there, expected = other.read()
        assert is_there
        if count % 25 == 0:
            difference = picture.image.astype(int) - cv2.cvtColor(expected, cv2.COLOR_BGR2RGB)
            assert np.abs(difference).mean() < 4  # it takes BT.709 for BT.601
        count += 1
    assert count > 50
    assert not other.read()[0]


# The matrix of a QuickTime track header (tkhd), 16.16 and 2.30 fixed point, of a 320x240 video shown turned clockwise.
MATRICES = {
    0: (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30),
    90: (0, 1 << 16, 0, -1 << 16, 0, 0, 240 << 16, 0, 1 << 30),
    180: (-1 << 16, 0, 0, 0, -1 << 16, 0, 320 << 16, 240 << 16, 1 << 30),
    270: (0, -1 << 16, 0, 1 << 16, 0, 0, 0, 320 << 16, 1 << 30),
}


@pytest.mark.parametrize(("clockwise", "bright_side"), [(0, "left"), (90, "top"), (180, "right"), (270, "bottom")])
def test_rotation_in_the_file_is_followed(make_video, clockwise, bright_side):
    path = make_video("phone.mp4", count=3)
    content = bytearray(path.read_bytes())
    at = content.find(b"tkhd") + 44
    assert struct.unpack(">9i", content[at : at + 36]) == MATRICES[0]
    content[at : at + 36] = struct.pack(">9i", *MATRICES[clockwise])
    path.write_bytes(content)

    image = list(read_all(path))[1].image  # stored white at the left
    assert image.shape == ((240, 320, 3) if clockwise in (0, 180) else (320, 240, 3))
    edges = {"left": image[:, 5], "right": image[:, -6], "top": image[5], "bottom": image[-6]}
    assert [side for side, edge in edges.items() if edge.mean() > 128 and edge.min() > 128] == [bright_side]


def test_red_is_first(tmp_path):
    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 64
        red = np.zeros((64, 64, 3), np.uint8)
        red[..., 0] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode())
    (picture,) = read_all(path)
    assert np.abs(picture.image.mean((0, 1)) - (255, 0, 0)).max() < 5


def test_loop_starts_again(make_video):
    pictures = read_all(make_video("short.mp4", count=4), loop=True)
    some = [next(pictures) for _ in range(10)]
    assert [number_in(picture.image) for picture in some] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert some[4].t_source == 0.0


def test_a_refused_picture_is_skipped_and_counted(make_video):
    path = make_video("damaged.mp4", count=10, options={"g": "1"})
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[4]
        start, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    pictures = list(read_all(path))
    assert sum(picture.count for picture in pictures if isinstance(picture, Skipped)) == 1
    assert [number_in(p.image) for p in pictures if isinstance(p, Picture)] == [0, 1, 2, 3, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("name", "container_options"), [("cut.mp4", {"movflags": "faststart"}), ("cut.mkv", {})])
def test_a_file_that_is_cut_off_is_played_to_the_cut_and_then_fails(make_video, name, container_options):
    path = make_video(name, count=200, options={"bf": "0"}, container_options=container_options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    pictures = read_all(path)
    numbers = []

    def play():
        numbers.extend(number_in(picture.image) for picture in pictures if isinstance(picture, Picture))

    with pytest.raises(SourceError, match=r"is cut off: it should last 8\.0 s") as error:
        play()
    assert "\n" not in str(error.value)
    assert numbers == list(range(len(numbers)))
    assert 40 < len(numbers) < 160


def test_what_cannot_be_played_is_said_in_one_line(make_video, tmp_path):
    assert "there is no file" in failure(tmp_path / "missing.mp4")
    assert "is a folder" in failure(tmp_path)
    (tmp_path / "empty.mp4").touch()
    assert "is empty" in failure(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    assert "cannot be opened as a video" in failure(tmp_path / "text.mp4")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    assert "only audio" in failure(tmp_path / "sound.wav")
    whole = make_video("whole.mp4", count=50).read_bytes()
    (tmp_path / "no_index.mp4").write_bytes(whole[: whole.find(b"moov")])
    assert "cut off" in failure(tmp_path / "no_index.mp4")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_name_with_a_colon_is_a_file(make_video, monkeypatch):
    path = make_video("12:30 h.mp4", count=2)
    monkeypatch.chdir(path.parent)
    assert len(list(read_all(Path("12:30 h.mp4")))) == 2
