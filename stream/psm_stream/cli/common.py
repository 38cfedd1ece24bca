"""What every command line shares: option errors that name the nearest right one, exit codes, one-line errors."""

from __future__ import annotations

import argparse
import difflib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn, TextIO

import psm_stream
from psm_stream.errors import ConfigError, PsmError

INTERRUPTED = 130
TERMINATED = 143
UNTRAINED = "the encoder is UNTRAINED: its embeddings show that the path works, not what a face does"


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError in one line and suggests the nearest option."""

    def __init__(self, prog: str, description: str, usage: str | None = None, epilog: str | None = None) -> None:
        super().__init__(prog=prog, description=description, usage=usage, epilog=epilog, allow_abbrev=False)
        self.add_argument("--debug", action="store_true", help="show a traceback with an error")
        self.add_argument("--version", action="version", version=f"psm-stream {psm_stream.__version__}")

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError where argparse would print the whole usage and exit."""
        raise ConfigError(f"{_redacted(message, message)}; see {self.prog} --help")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse all of argv. Raises ConfigError naming the nearest option for an unknown one."""
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            raise self._unknown(unknown[0])
        return namespace

    def _unknown(self, word: str) -> ConfigError:
        if word.startswith("-"):
            name = word.partition("=")[0]  # its value may be an address with a password
            return ConfigError(f"unknown option {_redacted(name, name)!r}{nearest(name, self.option_names())}")
        return ConfigError(f"unexpected argument {_redacted(word, word)!r}; see {self.prog} --help")

    def option_names(self) -> list[str]:
        """Every long option of this parser."""
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]


def nearest(word: str, known: Sequence[str]) -> str:
    """Return '; did you mean X?' for the nearest known word, or '; one of ...' when none is near and few exist."""
    bare = word.split("=", 1)[0]
    close = difflib.get_close_matches(bare, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(sorted(known))}" if known and len(known) <= 16 else ""


def put(text: str, stream: TextIO | None = None, end: str = "\n") -> bool:
    """Print to a stream (stdout), at once. Returns False when its reader has left, as in `psm-watch | head`.

    Letters that the stream's encoding lacks are escaped.
    """
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), end=end, file=stream, flush=True)
    except BrokenPipeError:
        # the rest goes nowhere; without this Python complains again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True


def leave(code: int) -> NoReturn:
    """End the process at once, once all is written.

    A daemon thread may still be inside a native library, in mediapipe or a camera driver; taking the interpreter down
    around it can abort the process, and takes a quarter of a second in any case. Whoever read stdout or stderr may be
    gone: the exit code says how the job went.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """While this is open, Ctrl-C and SIGTERM end the process at once: for starts, which have nothing to close.

    As an exception, an interrupt in the middle of an import gets lost or comes out as another error (an ImportError, a
    value that pydantic refuses), and the start would go on, or fail.
    """
    codes = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
    before = {number: signal.signal(number, lambda got, _: os._exit(codes[signal.Signals(got)])) for number in codes}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(job: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command. Expected errors become one line on stderr and their exit code; Ctrl-C becomes 130."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return job(arguments)
    except PsmError as error:
        _tell(error, f"{error}", arguments)
        return error.exit_code
    except Exception as error:
        kind = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _tell(error, f"unexpected {kind}; run again with --debug and report what it prints", arguments)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _tell(error: Exception, line: str, arguments: Sequence[str]) -> None:
    """Say on stderr what went wrong: in one line, or as the traceback that --debug asks for."""
    from psm_stream.redact import printable  # only an error needs it, and its package imports NumPy

    # a file or a library may have put something into the message that a terminal would obey
    text = "".join(traceback.format_exception(error)) if "--debug" in arguments else f"error: {printable(line)}\n"
    # what stands before the last @ of an address, in case it has blanks or quotes in it
    secrets = (argument.partition("://")[2].rpartition("@")[0] for argument in arguments)
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    put(_redacted(text), sys.stderr, end="")


def _redacted(text: str, word: str = "") -> str:
    """Hide the credentials of addresses. word: what was typed, which may hold a password with blanks or quotes."""
    from psm_stream.redact import redact  # only an error needs it, and its package imports NumPy

    return redact(text, word)
