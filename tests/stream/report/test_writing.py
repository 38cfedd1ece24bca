"""From a session to its page: what it says, that it is whole, and what it refuses."""

import pytest

from psm_stream.errors import SessionError
from psm_stream.record.reader import Session
from psm_stream.record.testing import fake_encoder, open_fake, record_run, some_faces
from psm_stream.report.writing import write_report


@pytest.fixture
def session(tmp_path):
    encoder = fake_encoder(tmp_path / "bundles", "1" * 12)
    return Session(record_run(tmp_path, encoder, [some_faces(index) for index in range(6)]))


def test_the_page_goes_into_the_sessions_next_export(session):
    first, second = (write_report(session, None, open_fake) for _ in range(2))
    exports = session.folder / "exports"
    assert (first, second) == (exports / "001" / "report.html", exports / "002" / "report.html")
    assert first.read_text(encoding="utf-8") == second.read_text(encoding="utf-8")


def test_nothing_is_overwritten(session, tmp_path):
    path = tmp_path / "deep" / "page.html"
    assert write_report(session, path, open_fake) == path
    with pytest.raises(SessionError, match="is there already; name another file with --out FILE"):
        write_report(session, path, open_fake)
