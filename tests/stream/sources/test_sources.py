"""The contract of every source in the table."""

import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError, SourceLost
from psm_stream.sources import SOURCES, Picture, Skipped
from psm_stream.sources.camera import CameraSource
from psm_stream.testing import numbered_image
from psm_stream.testing_rtsp import RtspServer


class LoopedCapture:
    """A real cv2.VideoCapture on a file that starts again at its end, at about 100 pictures a second."""

    def __init__(self, path):
        self._capture = cv2.VideoCapture(str(path))

    def grab(self):
        time.sleep(0.01)
        if not self._capture.grab():
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            return self._capture.grab()
        return True

    def __getattr__(self, name):
        return getattr(self._capture, name)


def camera(make_video):
    path = make_video("camera.mp4", count=20)
    return CameraSource(SourceSettings(kind="camera"), time.monotonic, lambda _number, _api: LoopedCapture(path))


def images(tmp_path):
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"{number}.png"), numbered_image(number))
    return SOURCES["images"](SourceSettings(kind="images", path=str(tmp_path)), time.monotonic)


@pytest.fixture(params=list(SOURCES))
def source(request, make_video, tmp_path):
    """Each source in turn, not open yet; all but the camera are made by the table."""
    kind = request.param
    if kind == "rtsp":
        with RtspServer(fps=50) as server:
            yield SOURCES[kind](SourceSettings(kind=kind, rtsp=server.url), time.monotonic)
    elif kind == "file":
        yield SOURCES[kind](SourceSettings(kind=kind, path=str(make_video("a.mp4", count=12))), time.monotonic)
    elif kind == "demo":
        yield SOURCES[kind](SourceSettings(kind=kind), time.monotonic)
    else:
        yield camera(make_video) if kind == "camera" else images(tmp_path)


@pytest.fixture
def opened(source):
    source.open()
    yield source
    source.close()


def take(source, count):
    found = []
    while len(found) < count:
        got = source.read()
        assert isinstance(got, Picture | Skipped)
        found += [got] if isinstance(got, Picture) else []
    return found


def test_it_says_what_it_is(opened):
    assert opened.name.isprintable()
    assert opened.name
    assert isinstance(opened.is_live, bool)
    assert opened.fps is None or opened.fps > 0


def test_pictures_are_rgb_arrays_with_times(opened):
    before = time.monotonic()
    pictures = take(opened, 10)
    for picture in pictures:
        assert picture.image.dtype == np.uint8
        assert picture.image.ndim == 3
        assert picture.image.shape[2] == 3
        assert picture.image.flags.c_contiguous
        assert isinstance(picture.label, str)
    captured = [picture.t_capture for picture in pictures]
    assert captured == sorted(captured)
    assert captured[-1] <= time.monotonic()
    assert captured[0] >= before - 60
    times = np.array([picture.t_source for picture in pictures])
    known = times[~np.isnan(times)]  # the first picture of a stream may have no time yet, a camera may never have one
    assert len(known) == 0 or known[0] == 0
    assert len(known) in (0, 9, 10)
    assert (np.diff(known) > 0).all()


def test_pictures_stay_as_they_were(opened):
    pictures = take(opened, 3)
    copies = [picture.image.copy() for picture in pictures]
    take(opened, 5)
    for picture, copy in zip(pictures, copies, strict=True):
        np.testing.assert_array_equal(picture.image, copy)


def test_close_can_come_at_any_time_and_twice(source):
    source.close()
    source.open()
    take(source, 1)
    source.close()
    source.close()


def test_it_opens_again_and_begins_anew(source):
    for _ in range(2):
        source.open()
        pictures = take(source, 2)
        assert np.isnan(pictures[0].t_source) or pictures[0].t_source == 0
        source.close()


@pytest.mark.parametrize("source", ["file", "images"], indirect=True)
def test_one_that_ends_has_ended(opened):
    assert not opened.is_live
    assert len(take(opened, 12)) == 12
    assert opened.read() is None
    assert opened.read() is None


@pytest.mark.parametrize("source", ["camera", "rtsp"], indirect=True)
def test_a_live_one_is_woken_by_close(opened):
    assert opened.is_live
    take(opened, 1)
    threading.Timer(0.02, opened.close).start()
    with pytest.raises(SourceLost):
        take(opened, 10**6)


@pytest.mark.parametrize(
    "settings",
    [
        SourceSettings(kind="camera", camera=97),
        SourceSettings(kind="rtsp", rtsp="rtsp://127.0.0.1:1/live"),
        SourceSettings(kind="file", path="missing.mp4"),
        SourceSettings(kind="images", path="missing"),
        SourceSettings(kind="demo", width=1, height=1),
    ],
    ids=lambda settings: settings.kind,
)
def test_one_that_is_not_there_says_so_in_one_line(settings, capfd):
    source = SOURCES[settings.kind](settings, time.monotonic)
    with pytest.raises(SourceError) as error:
        source.open()
    source.close()
    assert not isinstance(error.value, SourceLost)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["file", "images"])
def test_a_place_that_is_not_utf8_or_an_address_can_be_named(kind):
    for path in ("missing\udcff\n.mp4", "RTSP://user:secret@cam/1"):
        source = SOURCES[kind](SourceSettings(kind=kind, path=path), time.monotonic)
        with pytest.raises(SourceError) as error:
            source.open()
        assert f"{source.name}{error.value}".isprintable()
        assert "secret" not in f"{source.name}{error.value}"


def test_the_table_costs_nothing_to_import():
    code = "import sys, psm_stream.sources; print(sorted({'cv2', 'av', 'skimage'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
