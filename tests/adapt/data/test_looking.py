"""Looking at a recording: crops as on the live path, times, frame numbers, segments."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.adapt.data.conftest import demo_images

from psm_adapt.data.layouts import RecordingSource, sources_in
from psm_adapt.data.looking import Look, look_at, same_face
from psm_adapt.data.store import Making
from psm_stream.align import open_aligner, template
from psm_stream.config import AlignerSettings, SourceSettings
from psm_stream.errors import SourceError
from psm_stream.record.testing import a_face, a_stamp, fake_encoder, record_run, some_faces
from psm_stream.sources import SOURCES
from psm_stream.values import AlignedFace, Faces, Frame, NoFace, Stamp

AS_IS = Making(template="as-is")


def looked(source, making=None, landmarker=None):
    return list(look_at(source, Look(making or Making(), landmarker)))


def live(path: Path, aligner_settings=None):
    """What the live path's source and aligner make of a video."""
    source = SOURCES["file"](SourceSettings(kind="file", path=str(path)), lambda: 0.0)
    aligner = open_aligner(aligner_settings or AlignerSettings())
    source.open()
    sightings = []
    while (picture := source.read()) is not None:
        sightings.append(aligner(Frame(Stamp(len(sightings), 0.0, picture.t_source), picture.image)))
    source.close()
    aligner.close()
    return sightings


def test_crops_are_those_of_the_live_path(videos):
    (source,) = sources_in([videos / "ann/2.mp4"], "folder")
    rows, sightings = looked(source), live(source.path)
    assert len(rows) == 8
    for number, (row, sighting) in enumerate(zip(rows, sightings, strict=True)):
        face = sighting.faces[0]
        np.testing.assert_array_equal(row.crop, face.crop)
        np.testing.assert_array_equal(row.landmarks, template.to_crop_px(face.landmarks, face.to_crop))
        assert (row.frame_index, row.t, row.confidence) == (number, pytest.approx(number / 25), face.confidence)
        assert row.blendshapes is None
        assert row.segment == 0


def test_landmarks_lie_on_the_crop(videos):
    row = looked(RecordingSource("a", "ann", "video", videos / "ann/1.mp4"), Making(frames=1))[0]
    eyes = [row.landmarks[list(side)].mean(axis=0) for side in (template.RIGHT_EYE, template.LEFT_EYE)]
    level = template.EYE_LINE_Y * 128 - 0.5
    np.testing.assert_allclose([eye[1] for eye in eyes], level, atol=3)
    assert eyes[1][0] - eyes[0][0] == pytest.approx(template.EYE_DISTANCE * 128, abs=4)


def test_every_and_frames(videos):
    source = RecordingSource("a", "ann", "video", videos / "ann/2.mp4")
    rows = looked(source, Making(template="as-is", every=3))
    assert [row.frame_index for row in rows] == [0, 3, 6]
    assert [row.t for row in rows] == pytest.approx([0, 0.12, 0.24])
    assert [row.frame_index for row in looked(source, Making(template="as-is", every=3, frames=2))] == [0, 3]


@pytest.fixture
def frames(tmp_path):
    """Write images by name and level of grey, [60, 80, 3]; returns their folder."""

    def write(*names):
        for name in names:
            cv2.imwrite(str(tmp_path / name), np.full((60, 80, 3), int("".join(filter(str.isdigit, name))), np.uint8))
        return tmp_path

    return write


def test_frame_numbers_and_times_come_from_names(frames):
    folder = frames("frame9.png", "frame10.png", "frame14.png")
    rows = looked(RecordingSource("a", "ann", "images", folder, 20.0, is_numbered=True), AS_IS)
    assert [row.frame_index for row in rows] == [9, 10, 14]
    assert [row.t for row in rows] == pytest.approx([0, 0.05, 0.25])
    assert [int(row.crop[0, 0, 0]) for row in rows] == [9, 10, 14]
    rows = looked(RecordingSource("a", "ann", "images", folder, 20.0), AS_IS)
    assert [row.frame_index for row in rows] == [0, 1, 2]
    assert [row.t for row in rows] == pytest.approx([0, 0.05, 0.1])


def test_names_without_numbers_count_from_0(frames):
    folder = frames("9b.png", "10a.png")
    (folder / "x.png").write_bytes((folder / "9b.png").read_bytes())
    rows = looked(RecordingSource("a", "ann", "images", folder, 20.0, is_numbered=True), AS_IS)
    assert [row.frame_index for row in rows] == [0, 1, 2]


def test_an_image_that_cannot_be_read_keeps_its_number(frames):
    folder = frames("frame1.png", "frame2.png", "frame3.png")
    (folder / "frame2.png").write_bytes(b"torn")
    rows = looked(RecordingSource("a", "ann", "images", folder, 20.0, is_numbered=True), AS_IS)
    assert [row.frame_index for row in rows] == [1, 3]


def test_as_is_takes_the_middle_square(tmp_path):
    image = np.zeros((256, 300, 3), np.uint8)
    image[:, :22] = image[:, -22:] = 255  # outside the middle square
    image[:128, 22:278, 2] = 200
    cv2.imwrite(str(tmp_path / "1.png"), image)
    (row,) = looked(RecordingSource("a", "ann", "images", tmp_path), AS_IS)
    assert row.crop.shape == (128, 128, 3)
    assert (row.crop[:64] == (200, 0, 0)).all()  # OpenCV writes BGR
    assert (row.crop[64:] == 0).all()
    assert np.isnan(row.landmarks).all()
    assert np.isnan(row.confidence)


def test_a_file_that_is_no_video_is_an_error(videos):
    with pytest.raises(SourceError, match=r"torn\.mp4 cannot be opened as a video"):
        looked(RecordingSource("torn", "x", "video", videos / "torn.mp4"))


def test_same_face_goes_by_the_faces_width(rng):
    face = rng.uniform(0, 100, (478, 2)).astype(np.float32)
    width = np.ptp(face[:, 0])
    assert same_face(face, np.add(face, (0.09 * width, 0)))
    assert not same_face(face, np.add(face, (0.11 * width, 0)))


def session_of(tmp_path, items):
    folder = record_run(tmp_path / "root", fake_encoder(tmp_path / "bundles", "0123456789ab"), items)
    (source,) = sources_in([folder], "session")
    return source


def face_at(index, x, face_id=0, size_px=128):
    """A face whose landmarks fill the box of 100 px at x."""
    stamp = Stamp(index, t_capture=100 + index / 10)
    drawn = a_face(stamp, face_id, size_px)
    landmarks = np.linspace((x, 0), (x + 100, 100), 478).astype(np.float32)
    return AlignedFace(stamp, face_id, drawn.crop, landmarks, np.eye(2, 3, dtype=np.float32), 0.9)


def test_sessions_are_read_as_they_were_recorded(tmp_path):
    items = [some_faces(0, (0, 1), size_px=128, rich=True), NoFace(a_stamp(1), "none"), some_faces(2, (0,), 128)]
    first, second, third = looked(session_of(tmp_path, items))
    face = items[0].faces[0]
    np.testing.assert_array_equal(first.crop, face.crop)
    np.testing.assert_array_equal(first.landmarks, template.to_crop_px(face.landmarks, face.to_crop))
    np.testing.assert_array_equal(first.blendshapes, face.blendshapes)
    assert first.confidence == face.confidence
    assert second is None
    assert third.blendshapes is None
    assert [first.frame_index, third.frame_index] == [0, 2]
    assert [first.t, third.t] == pytest.approx([0, 2 / 30])


def test_a_session_of_another_crop_size_is_brought_to_128_px(tmp_path):
    stamp = Stamp(0, 100.0)
    crop = np.zeros((64, 64, 3), np.uint8)
    crop[20:24, 40:44] = 255
    landmarks = np.full((478, 2), (41.5, 21.5), np.float32)  # the middle of the spot
    face = AlignedFace(stamp, 0, crop, landmarks, np.eye(2, 3, dtype=np.float32), 0.9)
    (row,) = looked(session_of(tmp_path, [Faces(stamp, (face,))]))
    bright = np.argwhere(row.crop[..., 0] > 127)
    np.testing.assert_allclose(row.landmarks[0], bright.mean(axis=0)[::-1], atol=0.01)


def test_segments_begin_at_jumps_new_faces_and_long_absences(tmp_path):
    away = [NoFace(Stamp(index, 100 + index / 10), "none") for index in range(40)]
    faces = {0: (0, 0), 1: (20, 0), 2: (90, 0), 3: (90, 1), 5: (95, 1), 20: (95, 1), 21: (95, 1)}
    items = [
        Faces(Stamp(index, 100 + index / 10), (face_at(index, *faces[index]),)) if index in faces else away[index]
        for index in range(22)
    ]
    rows = [row for row in looked(session_of(tmp_path, items)) if row is not None]
    # 2 jumps by 70 px of 100, 3 is another face, 5 was away for 0.2 s, 20 for 1.5 s
    assert [row.segment for row in rows] == [0, 0, 1, 2, 2, 3, 3]


def test_frames_far_apart_without_a_miss_stay_one_segment(tmp_path):
    items = [Faces(Stamp(index, 100.0 + index), (face_at(index, 0),)) for index in (0, 25, 50)]
    assert [row.segment for row in looked(session_of(tmp_path, items))] == [0, 0, 0]


def test_blendshapes_come_from_the_face_landmarker_and_crops_from_facemesh(shared_data, tmp_path):
    model = shared_data.parent / "models/face_landmarker.task"
    if not model.is_file():
        pytest.skip(f"no {model}")
    for number, image in enumerate(demo_images(3)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    source = RecordingSource("a", "ann", "images", tmp_path)
    plain, rich = looked(source), looked(source, landmarker=model)
    aligner = open_aligner(AlignerSettings(model=model))
    for number, (without, with_shapes) in enumerate(zip(plain, rich, strict=True)):
        image = cv2.cvtColor(cv2.imread(str(tmp_path / f"{number}.png")), cv2.COLOR_BGR2RGB)
        sighting = aligner(Frame(Stamp(number, 0.0), image))
        np.testing.assert_array_equal(with_shapes.crop, without.crop)
        np.testing.assert_array_equal(with_shapes.landmarks, without.landmarks)
        np.testing.assert_array_equal(with_shapes.blendshapes, sighting.faces[0].blendshapes)
    aligner.close()
