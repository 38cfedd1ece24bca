"""The source video keeps every pixel (lossless), every time stamp, and an account of every frame."""

import threading
from dataclasses import replace

import av
import numpy as np
import pytest

from psm_stream.record.backlog import Bound
from psm_stream.record.reader import Session
from psm_stream.record.testing import a_stamp
from psm_stream.record.video import Timeline, VideoTrack
from psm_stream.values import NAN, Frame, Stamp


def pictures(count: int, height: int = 48, width: int = 64) -> list[Frame]:
    draw = np.random.default_rng(0)
    return [Frame(a_stamp(index), draw.integers(0, 256, (height, width, 3), np.uint8)) for index in range(count)]


class Track:
    """A video track, and all that it reports."""

    def __init__(self, path, kind="lossless", **options):
        self.places, self.troubles, self.done = [], [], threading.Event()
        self.track = VideoTrack(
            path,
            kind,
            **({"is_live": True} | options),
            written=self.places.append,
            trouble=self.troubles.append,
            done=self.done.set,
        )

    def write(self, frames):
        for frame in frames:
            self.track.put(frame)
        self.track.close()
        assert self.track.join(60)
        assert self.done.is_set()
        return self


def decode(path):
    with av.open(str(path)) as container:
        return [
            (round(frame.pts * frame.time_base * 1000), frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (2, 2)])
def test_lossless_keeps_every_pixel(tmp_path, size):
    frames = pictures(12, *size)
    Track(tmp_path / "video.mkv").write(frames)
    shown = decode(tmp_path / "video.mkv")
    assert len(shown) == 12
    for frame, (_, image) in zip(frames, shown, strict=True):
        assert np.array_equal(frame.image, image)


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_h264_keeps_every_frame(tmp_path, size):
    gradient = np.linspace(0, 255, size[0] * size[1] * 3).reshape(*size, 3).astype(np.uint8)
    frames = [Frame(a_stamp(index), np.roll(gradient, index, 0)) for index in range(12)]
    Track(tmp_path / "video.mkv", "h264").write(frames)
    shown = decode(tmp_path / "video.mkv")
    assert len(shown) == 12
    for frame, (_, image) in zip(frames, shown, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 12


def test_uneven_times_are_kept_and_reported(tmp_path):
    times = [100.0, 100.033, 100.2, 100.201, 103.5]
    frames = [
        Frame(Stamp(index * 3, t), frame.image) for index, (t, frame) in enumerate(zip(times, pictures(5), strict=True))
    ]
    track = Track(tmp_path / "video.mkv").write(frames)
    assert [(place.index, place.pts_ms) for place in track.places] == [(0, 0), (3, 33), (6, 200), (9, 201), (12, 3500)]
    assert [pts for pts, _ in decode(tmp_path / "video.mkv")] == [0, 33, 200, 201, 3500]


def pts(stamps, is_live):
    timeline = Timeline(is_live)
    return [timeline.pts_ms(stamp) for stamp in stamps]


def test_a_file_read_fast_keeps_its_own_time():
    stamps = [Stamp(index, 100 + index * 0.004, index * 0.04) for index in range(4)]
    assert pts(stamps, is_live=False) == [0, 40, 80, 120]
    assert pts(stamps, is_live=True) == [0, 4, 8, 12]


def test_a_file_without_times_keeps_capture_times():
    assert pts([Stamp(0, 100.0), Stamp(1, 100.5)], is_live=False) == [0, 500]


def test_a_file_that_starts_again_goes_on():
    assert pts([Stamp(i, 0.0, t) for i, t in enumerate([5.0, 5.1, 5.2, 0.0, 0.1])], is_live=False) == [
        0,
        100,
        200,
        300,
        400,
    ]


def test_times_that_stand_still_still_rise():
    assert pts([Stamp(index, 100.0 + index * 1e-5) for index in range(4)], is_live=True) == [0, 1, 2, 3]


def test_a_time_that_goes_missing_breaks_nothing():
    stamps = [Stamp(0, 100.0, 1.0), Stamp(1, 100.1, NAN), Stamp(2, 100.2, 1.2)]
    result = pts(stamps, is_live=False)
    assert result == sorted(set(result))


def test_a_picture_of_another_size_is_dropped_counted_and_said_once(tmp_path):
    frames = pictures(3) + pictures(2, 24, 32) + pictures(1)
    track = Track(tmp_path / "video.mkv").write(frames)
    assert track.track.frames == 4
    assert track.track.dropped() == {"size": 2}
    assert track.troubles == ["video frames are being dropped: they are 32x24, the video began with 64x48"]


def test_without_room_frames_are_dropped_counted_and_said_once(tmp_path):
    """The encoder is held up, in its report of the first frame, until all frames were put."""
    hold, reached = threading.Event(), threading.Event()
    places, troubles = [], []

    def written(place):
        reached.set()
        assert hold.wait(60)
        places.append(place)

    track = VideoTrack(
        tmp_path / "video.mkv",
        "lossless",
        is_live=True,
        written=written,
        trouble=troubles.append,
        done=lambda: None,
        bound=Bound(items=4, size_bytes=10**9),
    )
    first, *others = pictures(20)
    track.put(first)
    assert reached.wait(60)
    for frame in others:
        track.put(frame)
    assert track.dropped() == {"overflow": 16}
    hold.set()
    track.close()
    assert track.join(60)
    assert (track.frames, len(places)) == (4, 4)
    assert troubles == ["video frames are being dropped: encoding or the disk is slower than the source"]


def test_at_the_fast_pace_who_puts_waits_and_no_frame_is_lost(tmp_path):
    options = {"wait_s": 60, "bound": Bound(items=2, size_bytes=10**9)}
    track = Track(tmp_path / "video.mkv", **options).write(pictures(60))
    assert track.track.frames == 60
    assert track.track.dropped() == {}


def test_a_file_that_cannot_be_made_is_said_and_its_frames_counted(tmp_path):
    track = Track(tmp_path / "nowhere" / "video.mkv").write(pictures(5))
    (trouble,) = track.troubles
    assert trouble.startswith("video stopped: ")
    assert "\n" not in trouble
    assert track.track.dropped() == {"error": 5}


def test_no_frame_makes_no_file(tmp_path):
    Track(tmp_path / "video.mkv").write([])
    assert list(tmp_path.iterdir()) == []


def test_a_recording_maps_frame_index_to_video_time(desk):
    recorder = desk.start(video="h264")
    for frame in pictures(10):
        recorder.frame(frame)
    recorder.stop()
    assert recorder.join(60)
    session = Session(recorder.folder)
    shown = decode(recorder.folder / "video.mkv")
    assert [(place.index, place.pts_ms) for place in session.video_frames()] == [
        (index, pts) for index, (pts, _) in enumerate(shown)
    ]
    assert len(shown) == 10
    assert session.info.finished.video_frames == 10


def test_video_that_fails_leaves_the_log_going_and_is_said(desk, heartbeats):
    recorder = desk.start(video="lossless")
    good, *others = pictures(4)
    recorder.frame(replace(good, image=good.image[:, :, :2]))
    for frame in others:
        recorder.frame(frame)
    desk.wait_for("recording.video")
    recorder.message(heartbeats(1)[0])
    assert recorder.is_recording
    recorder.stop()
    assert recorder.join(60)
    session = Session(recorder.folder)
    assert session.is_finished
    assert session.info.finished.video_frames == 0
    assert session.info.finished.video_dropped == {"error": 4}
    assert len(list(session.messages())) == 1
    assert desk.subjects() == ["recording.started", "recording.video", "recording.stopped"]


def test_without_video_frames_are_not_kept(desk):
    recorder = desk.start()
    recorder.frame(pictures(1)[0])
    recorder.stop()
    assert recorder.join(60)
    assert not (recorder.folder / "video.mkv").exists()
