"""Cameras, against a scripted cv2.VideoCapture: what is asked and given, time stamps, losses, hangs."""

import os
import threading
from math import isnan

import cv2
import numpy as np
import pytest

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError, SourceLost
from psm_stream.sources import Picture, Skipped
from psm_stream.sources.camera import CameraSource
from psm_stream.testing import ManualClock, number_in, numbered_image


class FakeCapture:
    """What CameraSource uses of cv2.VideoCapture.

    shots: images (BGR) that `retrieve` gives; None: `retrieve` fails; an Event: `grab` waits for it. Then `grab` fails.
    allowed: values that the device has for a property; others are answered with the first.
    """

    def __init__(self, shots, backend="V4L2", is_there=True, stamps_s=(), allowed=None):
        self._shots = iter(shots)
        self._stamps_s = iter(stamps_s)
        self._backend = backend
        self._is_there = is_there
        self._allowed = {cv2.CAP_PROP_FPS: [30.0], cv2.CAP_PROP_FRAME_WIDTH: [640], cv2.CAP_PROP_FRAME_HEIGHT: [480]}
        self._allowed.update(allowed or {})
        self._properties = {key: values[0] for key, values in self._allowed.items()}
        self._shot = None
        self.released = threading.Event()

    def isOpened(self):
        return self._is_there

    def getBackendName(self):
        return self._backend

    def set(self, key, value):
        allowed = self._allowed.get(key, [value])
        self._properties[key] = value if value in allowed else allowed[0]
        if key == cv2.CAP_PROP_FOURCC:
            self._allowed[cv2.CAP_PROP_FPS] = [60.0, 30.0]
        return True

    def get(self, key):
        if key == cv2.CAP_PROP_POS_MSEC:
            return 1000 * next(self._stamps_s, 0.0)
        return self._properties.get(key, 0.0)

    def grab(self):
        for shot in self._shots:
            if not isinstance(shot, threading.Event):
                self._shot = shot
                return True
            shot.wait(60)
        return False

    def retrieve(self):
        return (False, None) if self._shot is None else (True, self._shot)

    def release(self):
        self.released.set()


def camera(*captures, clock=None, **settings):
    """A source that is given these captures, one at each opening."""
    each = iter(captures)
    made = []

    def make(number, api):
        made.append((number, api))
        return next(each)

    source = CameraSource(SourceSettings(kind="camera", **settings), clock or ManualClock(), make)
    source.made = made
    return source


def read_all(source):
    """Everything up to the loss of the camera, and the words of that."""
    pictures = []
    with pytest.raises(SourceLost) as lost:
        pictures.extend(iter(source.read, None))
    source.close()
    return pictures, str(lost.value)


def test_pictures_are_rgb_and_the_camera_is_the_one_asked_for():
    blue = np.zeros((4, 4, 3), np.uint8)
    blue[..., 0] = 200  # OpenCV's order: blue first
    source = camera(FakeCapture([blue]), camera=3, backend="v4l2")
    source.open()
    assert source.made == [(3, cv2.CAP_V4L2)]
    assert source.read().image[0, 0].tolist() == [0, 0, 200]
    assert "camera 3" in read_all(source)[1]


def test_the_name_says_what_was_given_and_what_was_refused():
    given = FakeCapture([numbered_image(0)], allowed={cv2.CAP_PROP_FRAME_WIDTH: [640, 1280]})
    source = camera(given, width=1280, height=960)
    source.open()
    assert source.name == "camera 0 (V4L2, 1280x480 at 30 fps; refused height 960)"
    assert source.fps == 30
    source.close()


def test_compressed_pictures_are_asked_for_where_raw_ones_are_too_slow():
    given = FakeCapture([numbered_image(0)])
    source = camera(given, fps=60)
    source.open()
    assert given.get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"MJPG")
    assert source.name == "camera 0 (V4L2, 640x480 at 60 fps)"
    source.close()


def test_the_driver_is_told_to_queue_little_and_not_to_hold_a_hanging_camera_for_long(monkeypatch):
    monkeypatch.delenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", raising=False)
    given = FakeCapture([numbered_image(0)])
    source = camera(given, stall_s=3.5)
    source.open()
    assert given.get(cv2.CAP_PROP_BUFFERSIZE) == 2
    assert os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] == "4"
    source.close()


@pytest.mark.parametrize(
    ("backend", "stamp_s", "expected"),
    [
        ("V4L2", 999.97, 999.97),  # the driver's own stamp, on our clock
        ("V4L2", 1000.5, 1000.0),  # in the future
        ("V4L2", 12.0, 1000.0),  # of another clock
        ("V4L2", 0.0, 1000.0),  # none
        ("MSMF", 999.97, 1000.0),  # a backend that counts from elsewhere
    ],
)
def test_time_of_capture(backend, stamp_s, expected):
    source = camera(FakeCapture([numbered_image(0)], backend=backend, stamps_s=[stamp_s]), clock=ManualClock(1000.0))
    source.open()
    picture = source.read()
    assert picture.t_capture == pytest.approx(expected)
    assert picture.t_source == 0.0 if expected < 1000 else isnan(picture.t_source)
    source.close()


def test_time_in_the_medium_is_the_driver_s():
    gate = threading.Event()
    shots = [numbered_image(0), gate, numbered_image(1)]
    source = camera(FakeCapture(shots, stamps_s=[999.9, 999.94]))
    source.open()
    assert source.read().t_source == 0.0
    gate.set()
    assert source.read().t_source == pytest.approx(0.04)
    source.close()


def test_only_the_newest_is_given_and_the_others_are_counted():
    capture = FakeCapture([numbered_image(n) for n in range(5)])
    source = camera(capture)
    source.open()
    assert capture.released.wait(10)  # the camera has run out: five pictures, nobody read them
    (skipped, picture), _ = read_all(source)
    assert skipped == Skipped("slot", 4)
    assert number_in(picture.image) == 4


def test_a_corrupt_picture_is_skipped():
    gate = threading.Event()
    source = camera(FakeCapture([None, gate, numbered_image(1)]))
    source.open()
    assert source.read() == Skipped("decode")
    gate.set()
    assert isinstance(source.read(), Picture)
    source.close()


def test_a_camera_that_hangs_is_lost_and_can_be_opened_again():
    gate = threading.Event()
    hanging, working = FakeCapture([numbered_image(0), gate]), FakeCapture([numbered_image(1)])
    source = camera(hanging, working, stall_s=0.02)
    source.open()
    assert number_in(source.read().image) == 0
    with pytest.raises(SourceLost, match=r"no picture for 0\.02 s"):
        source.read()
    source.close()
    source.open()
    assert number_in(source.read().image) == 1
    assert not hanging.released.is_set()
    gate.set()
    assert hanging.released.wait(10)
    source.close()
    assert working.released.wait(10)


def test_a_camera_that_is_unplugged_is_lost():
    capture = FakeCapture([numbered_image(0)])
    source = camera(capture)
    source.open()
    pictures, lost = read_all(source)
    assert len(pictures) == 1
    assert "still plugged in" in lost
    assert capture.released.is_set()


def test_close_from_another_thread_wakes_a_read():
    gate = threading.Event()
    source = camera(FakeCapture([numbered_image(0), gate]), stall_s=60)
    source.open()
    source.read()
    threading.Timer(0.02, source.close).start()
    with pytest.raises(SourceLost):
        source.read()
    gate.set()


def test_what_cannot_be_opened_is_said_in_one_line(capfd):
    there_is_none = [camera(FakeCapture([], is_there=False), camera=97)]
    there_is_none.append(CameraSource(SourceSettings(kind="camera", camera=97), ManualClock()))
    for source in there_is_none:
        with pytest.raises(SourceError, match="camera 97") as error:
            source.open()
        assert "\n" not in str(error.value)
        source.close()
    assert capfd.readouterr() == ("", "")


def test_a_backend_that_opencv_lacks():
    built = cv2.videoio_registry.getCameraBackends()
    name, _ = next((name, api) for name, api in [("msmf", cv2.CAP_MSMF), ("v4l2", cv2.CAP_V4L2)] if api not in built)
    with pytest.raises(SourceError, match=f"backend {name} is not in this OpenCV; choose auto"):
        camera(FakeCapture([], is_there=False), backend=name).open()


def test_reading_before_opening():
    with pytest.raises(SourceLost, match="not open"):
        camera().read()
