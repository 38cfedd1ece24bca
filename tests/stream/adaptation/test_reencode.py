"""The recent faces encoded again, against one by one; and given up when another encoder came."""

import numpy as np

from psm_stream.adaptation.reencode import reencode
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.config import FacesSettings
from psm_stream.encoder import open_encoder
from psm_stream.faces import RecentFaces
from psm_stream.record.testing import some_faces


def some_recent(count: int) -> RecentFaces:
    faces = RecentFaces(FacesSettings(capacity=16, min_confidence=0), 128)
    for index in range(count):
        for face in some_faces(index, (0, 3), size_px=128).faces:
            faces.offer(face)
    return faces


def test_each_face_has_the_bytes_that_the_stream_would_give() -> None:
    encoder = open_encoder(open_bundle(general_bundle()), "cpu")
    faces = some_recent(5).copy()
    codes = reencode(faces, encoder)
    assert codes is not None
    assert (codes.model_id, codes.face_id.tolist()) == (encoder.model_id, [0, 3] * 5)
    assert codes.frame_index.tolist() == faces["frame_index"].tolist()
    assert codes.vectors.dtype == np.float32
    assert np.array_equal(codes.vectors, [encoder.encode(crop) for crop in faces["crops"]])


def test_it_gives_up_when_it_is_not_wanted() -> None:
    encoder = open_encoder(open_bundle(general_bundle()), "cpu")
    answers = iter([True, True, False])
    assert reencode(some_recent(5).copy(), encoder, lambda: next(answers)) is None


def test_no_faces_are_no_codes() -> None:
    encoder = open_encoder(open_bundle(general_bundle()), "cpu")
    codes = reencode(some_recent(0).copy(), encoder)
    assert codes is not None
    assert codes.vectors.shape == (0, encoder.dimension)
