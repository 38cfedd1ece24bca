"""The FaceMesh aligner on real faces: against mediapipe's own solution, and against what the pictures show."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from psm_stream.align import open_aligner, template
from psm_stream.config import AlignerSettings
from psm_stream.values import Faces, Frame, NoFace, Stamp


def frames(path: Path, count: int, start: int = 0) -> list[Frame]:
    with av.open(str(path)) as container:
        pictures = (np.ascontiguousarray(picture.to_ndarray(format="rgb24")) for picture in container.decode(video=0))
        return [Frame(Stamp(n, n / 25), image) for n, image in enumerate(pictures) if start <= n < start + count]


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(data.astronaut())


def test_finds_the_face_of_the_photograph(photograph: np.ndarray) -> None:
    sighting = open_aligner(AlignerSettings())(Frame(Stamp(0, 1.0), photograph))
    assert isinstance(sighting, Faces)
    (face,) = sighting.faces
    assert face.face_id == 0
    assert face.confidence > 0.9
    assert face.crop.shape == (128, 128, 3)
    assert face.landmarks.shape == (478, 2)
    # read off the photograph by eye: the eyes lie near (203, 103) and (247, 104), the mouth near (224, 140)
    right = face.landmarks[list(template.RIGHT_EYE)].mean(axis=0)
    mouth = face.landmarks[list(template.MOUTH_CORNERS)].mean(axis=0)
    assert np.linalg.norm(right - (203, 103)) < 6
    assert np.linalg.norm(mouth - (224, 140)) < 6


def test_no_face_is_a_value() -> None:
    aligner = open_aligner(AlignerSettings())
    sighting = aligner(Frame(Stamp(7, 1.0), np.full((240, 320, 3), 90, np.uint8)))
    assert isinstance(sighting, NoFace)
    assert sighting.frame.index == 7


def test_follows_like_mediapipes_own_solution(shared_data: Path) -> None:
    from mediapipe.python.solutions import face_mesh

    aligner = open_aligner(AlignerSettings())
    with face_mesh.FaceMesh(max_num_faces=1, refine_landmarks=True) as solution:
        for frame in frames(shared_data / "people/audun_cap12_400x300.mp4", 30):
            sighting = aligner(frame)
            theirs = solution.process(frame.image).multi_face_landmarks[0].landmark
            assert isinstance(sighting, Faces)
            apart = np.abs(sighting.faces[0].landmarks - [(p.x * 400, p.y * 300) for p in theirs]).max()
    # another detector finds the first region, after which the same network runs on what soon is the same region
    assert apart < 0.1


def test_loses_and_finds_again_under_the_same_id(shared_data: Path) -> None:
    aligner = open_aligner(AlignerSettings())
    sightings = [aligner(frame) for frame in frames(shared_data / "fixtures/pyfeat_face_noface.mov", 120)]
    has_face = [isinstance(sighting, Faces) for sighting in sightings]
    assert has_face[0]
    assert not has_face[-1]
    assert 0.3 < np.mean(has_face) < 0.8
    assert {face.face_id for sighting in sightings if isinstance(sighting, Faces) for face in sighting.faces} == {0}


def test_takes_the_largest_face_and_all_of_five(shared_data: Path) -> None:
    image = cv2.cvtColor(cv2.imread(str(shared_data / "fixtures/pyfeat_multi_face.jpg")), cv2.COLOR_BGR2RGB)
    five = open_aligner(AlignerSettings(max_faces=5))(Frame(Stamp(0, 0.0), image))
    assert isinstance(five, Faces)
    assert [face.face_id for face in five.faces] == [0, 1, 2, 3, 4]
    areas = [np.ptp(face.landmarks, axis=0).prod() for face in five.faces]
    one = open_aligner(AlignerSettings())(Frame(Stamp(0, 0.0), image))
    assert isinstance(one, Faces)
    area = np.ptp(one.faces[0].landmarks, axis=0).prod()
    assert area > 0.9 * max(areas)  # the detector's boxes order faces of nearly one size its own way


def test_two_runs_give_the_same_bytes(shared_data: Path) -> None:
    some = frames(shared_data / "grid/grid_s31.mp4", 25)
    first, second = (
        [aligner(frame) for frame in some]
        for aligner in (open_aligner(AlignerSettings()), open_aligner(AlignerSettings()))
    )
    for a, b in zip(first, second, strict=True):
        assert isinstance(a, Faces)
        assert isinstance(b, Faces)
        assert a.faces[0].crop.tobytes() == b.faces[0].crop.tobytes()


def test_a_film_without_people_has_no_face(shared_data: Path) -> None:
    aligner = open_aligner(AlignerSettings())
    some = frames(shared_data / "fixtures/pyfeat_no_face.mp4", 95)
    assert all(isinstance(aligner(frame), NoFace) for frame in some)
