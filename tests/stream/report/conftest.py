import pytest

from psm_stream.record.reader import Session
from psm_stream.record.testing import fake_encoder, record_run, some_faces


@pytest.fixture
def session(tmp_path):
    encoder = fake_encoder(tmp_path / "bundles", "1" * 12)
    return Session(record_run(tmp_path, encoder, [some_faces(index) for index in range(6)]))
