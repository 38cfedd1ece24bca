"""What every command shares: one-line errors, exit codes, and output whose reader has left."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
from tests.stream.cli.running import installed, tool

from psm_stream.cli.common import Parser, put, run
from psm_stream.errors import ConfigError, SourceError

ADDRESS = "rtsp://user:my secret@camera/1"


def parse(argv: Sequence[str]) -> int:
    parser = Parser("psm-test", "")
    parser.add_argument("--rtsp")
    parser.add_argument("--count", type=int)
    parser.parse(argv)
    return 0


def fail_with(error: Exception) -> int:
    def job(_: Sequence[str]) -> int:
        raise error

    return run(job, [])


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([f"--rtps={ADDRESS}"], "error: unknown option '--rtps'; did you mean --rtsp?"),
        ([ADDRESS], "error: unexpected argument 'rtsp://***@camera/1'; see psm-test --help"),
        ([f"--{ADDRESS}"], "error: unknown option '--rtsp://***@camera/1'; known: --count, "),
        ([f"--count={ADDRESS}"], "error: argument --count: invalid int value: 'rtsp://***@camera/1'; see psm-test"),
        (["--rtsp"], "error: argument --rtsp: expected one argument; see psm-test --help"),
    ],
)
def test_wrong_options_are_one_line_without_credentials(
    capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    assert run(parse, argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(says)
    assert run(parse, [*argv, "--debug"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConfigError("that"), 2, "error: that\n"),
        (SourceError("no https://user:secret@x/y"), 1, "error: no https://***@x/y\n"),
        (
            ValueError("a\nb"),
            1,
            "error: unexpected ValueError: a b; run again with --debug and report what it prints\n",
        ),
        (BrokenPipeError(32, "Broken pipe"), 1, "error: unexpected BrokenPipeError: "),
    ],
)
def test_errors_and_their_exit_codes(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, says: str
) -> None:
    assert fail_with(error) == code
    assert capsys.readouterr().err.startswith(says)


def test_a_reader_that_left_is_noticed_and_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        assert not put("a", stream)
        assert put("b", stream)  # it goes nowhere


def test_letters_that_the_encoding_lacks_are_escaped() -> None:
    code = "from psm_stream.cli.common import put; put('a\\udcff \\u2192')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert done.stdout.split() == [b"a\\udcff", b"\\u2192"]


def test_debug_keeps_the_exit_code_in_a_real_process() -> None:
    done = tool("doctor", "--debug", "--jason")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("option", ["--json", "--debug"])
def test_doctor_ends_as_ever_when_its_reader_left(option: str) -> None:
    command = [installed("psm-doctor"), option, "--control-port", "auto"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


@pytest.mark.parametrize("code", [0, 3])
def test_who_stopped_reading_does_not_change_the_exit_code(code: int) -> None:
    """What is left in stderr's buffer goes nowhere, at the last moment."""
    script = (
        "import io, os, sys\n"
        "from psm_stream.cli.common import leave\n"
        "reader, writer = os.pipe()\n"
        "sys.stderr = io.TextIOWrapper(os.fdopen(writer, 'wb'))\n"
        "sys.stderr.write('a word')\n"
        "os.close(reader)\n"
        f"leave({code})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code


def test_what_a_terminal_would_obey_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """A message may quote a file that somebody else made."""
    assert fail_with(SourceError("it is called \x1b[2Jred\nand has two lines")) == 1
    assert capsys.readouterr().err == "error: it is called \\x1b[2Jred\\nand has two lines\n"
