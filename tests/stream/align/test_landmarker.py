"""The optional Face Landmarker."""

from pathlib import Path

import numpy as np
import pytest

from psm_stream.align import open_aligner
from psm_stream.config import AlignerSettings
from psm_stream.errors import AlignError
from psm_stream.values import Faces, Frame, Stamp


def test_gives_blendshapes_and_pose(shared_data: Path) -> None:
    from skimage import data

    model = shared_data.parent / "models/face_landmarker.task"
    if not model.is_file():
        pytest.skip(f"no {model}")
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
