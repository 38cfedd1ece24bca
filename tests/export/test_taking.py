"""Crops out of sessions and videos are those of the live path, at the encoder's size."""

from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from psm_export import taking
from psm_export.crops import sample
from psm_stream.align import open_aligner
from psm_stream.bundle import Alignment
from psm_stream.config import AlignerSettings, SourceSettings
from psm_stream.errors import SourceError
from psm_stream.record.testing import a_stamp, fake_encoder, record_run, some_faces
from psm_stream.sources import SOURCES
from psm_stream.sources.demo_script import EXPRESSIONS, expression_at
from psm_stream.values import Frame, NoFace, Stamp

OURS = Alignment(template="eyes-level-1", crop_px=128)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of the demo."""
    path = tmp_path_factory.mktemp("video") / "demo.mp4"
    demo = SOURCES["demo"](SourceSettings(kind="demo", width=320, height=240, fps=25), lambda: 0.0)
    demo.open()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 4_000_000
        for _ in range(12):
            picture = demo.read()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.image, "rgb24")))
        container.mux(stream.encode())
    demo.close()
    return path


def test_a_videos_crops_are_those_of_the_live_path(video: Path) -> None:
    source = SOURCES["file"](SourceSettings(kind="file", path=str(video)), lambda: 0.0)
    aligner = open_aligner(AlignerSettings())
    source.open()
    live = []
    while (picture := source.read()) is not None:
        stamp = Stamp(len(live), picture.t_source, picture.t_source)
        crop = aligner(Frame(stamp, picture.image)).faces[0].crop
        live.append(cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA))
    source.close()
    aligner.close()
    taken = sample(video, 64, OURS)
    assert len(live) == 12
    np.testing.assert_array_equal(np.concatenate([taken.calibration, taken.measured]), live)
    assert taken.described.startswith("6 crops of the video demo.mp4")


def test_a_larger_encoder_gets_larger_crops_and_no_enlarged_ones(video: Path) -> None:
    taken = sample(video, 256, Alignment(template="wide", crop_px=256, eye_distance=0.3, eye_line_y=0.4))
    assert taken.measured.shape == (6, 256, 256, 3)
    assert "enlarged" not in taken.described
    assert "another template" not in taken.described


def test_what_is_no_video_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("none")
    with pytest.raises(SourceError, match=r"notes\.mp4"):
        sample(tmp_path / "notes.mp4", 64, OURS)


def test_a_sessions_crops_are_as_they_were_recorded(tmp_path: Path) -> None:
    items = [NoFace(a_stamp(0), "none"), *(some_faces(index, (0, 1), size_px=96) for index in range(1, 11))]
    folder = record_run(tmp_path / "root", fake_encoder(tmp_path / "bundles", "0123456789ab"), items)
    taken = sample(folder, 96, OURS)
    faces = [item.faces[0].crop for item in items[1:]]
    np.testing.assert_array_equal(np.concatenate([taken.calibration, taken.measured]), faces)
    assert "the session" in taken.described
    assert "another template" in sample(folder, 96, Alignment(template="x", crop_px=96, eye_distance=0.3)).described


def test_the_demo_shows_every_expression_several_times() -> None:
    names = [expression_at(0, frame / taking._DEMO_FPS).name for frame in range(taking._DEMO_FRAMES)]
    changes = [then for now, then in pairwise(names) if now != then]
    assert all(changes.count(name) >= 4 for name in EXPRESSIONS)
