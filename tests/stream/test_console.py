"""What stands in the terminal."""

import pytest

from psm_stream.console import Console
from psm_stream.values import Notice


def test_notices_are_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(quiet=False) as console:
        console.tell(Notice("source.lost", 0.0, {"source": "camera [0]", "seconds": 1.23456, "error": "[/gone]"}))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "source.lost: source camera [0], seconds 1.23, error [/gone]\n"  # brackets are no markup


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(quiet=False) as console:
        console.say("word " * 200)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("subject", ["ready", "face.found", "face.lost"])
def test_what_the_status_shows_is_not_told(subject: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Console(quiet=False) as console:
        console.tell(Notice(subject, 0.0, {"face_id": 0}))
    assert capsys.readouterr().err == ""


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(quiet=True) as console:
        console.say("hello")
        console.tell(Notice("source.back", 0.0))
        console.show({})
    assert capsys.readouterr().err == ""
