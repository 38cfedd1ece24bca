"""The optional Face Landmarker."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from psm_stream.align import open_aligner
from psm_stream.config import AlignerSettings
from psm_stream.errors import AlignError
from psm_stream.values import Faces, Frame, Image, Stamp


@pytest.fixture
def model(shared_data: Path) -> Path:
    path = shared_data.parent / "models/face_landmarker.task"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


def people(*faces: tuple[int, float]) -> Image:
    """Return a picture, 480x960, with the astronaut's head at each (left edge in px, scale)."""
    from skimage import data

    head = data.astronaut()[0:256, 96:352]
    image = np.full((480, 960, 3), 128, np.uint8)
    for left, scale in faces:
        scaled = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        image[20 : 20 + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return image


def test_a_larger_newcomer_does_not_take_the_id_of_a_followed_face(model: Path) -> None:
    aligner = open_aligner(AlignerSettings(model=model, max_faces=2))
    alone, both = people((80, 1.0)), people((80, 1.0), (440, 1.7))
    centres: dict[int, list[float]] = {}
    for index, image in enumerate([alone] * 5 + [both] * 15):
        sighting = aligner(Frame(Stamp(index, index / 30), image))
        assert isinstance(sighting, Faces)
        for face in sighting.faces:
            centres.setdefault(face.face_id, []).append(float(face.landmarks[:, 0].mean()))
    aligner.close()
    assert len(centres[0]) == 20
    assert max(centres[0]) < 400 < min(centres[1])


def test_gives_blendshapes_and_pose(model: Path) -> None:
    from skimage import data

    aligner = open_aligner(AlignerSettings(model=model))
    sighting = aligner(Frame(Stamp(0, 0.0), np.ascontiguousarray(data.astronaut())))
    aligner.close()
    assert isinstance(sighting, Faces)
    face = sighting.faces[0]
    assert face.blendshapes is not None
    assert face.blendshapes.shape == (52,)
    assert face.blendshapes[44:46].min() > 0.3  # mouthSmileLeft and mouthSmileRight: she smiles
    assert face.pose is not None
    np.testing.assert_allclose(face.pose[:3, :3] @ face.pose[:3, :3].T, np.eye(3), atol=1e-3)
    assert np.isnan(face.confidence)


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_bad_model_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    model = tmp_path / "face.task"
    if content is not None:
        model.write_bytes(content)
    with pytest.raises(AlignError, match=r"face\.task .*psm-doctor --fetch-models") as caught:
        open_aligner(AlignerSettings(model=model))
    assert "\n" not in str(caught.value)
