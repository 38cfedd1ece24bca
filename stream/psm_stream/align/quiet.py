"""Keeps mediapipe's start-up chatter off the terminal.

mediapipe 0.10.21 writes four lines to the process's stderr when its networks first run, and no setting stops it. While
`quiet` is open, what native code writes to stderr goes to a file, and all but that chatter is passed on at the end.
What Python writes goes to the terminal as ever: an error in another thread must not wait for this one.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_CHATTER = re.compile(
    rb"INFO: Created TensorFlow Lite XNNPACK delegate"
    rb"|WARNING: All log messages before absl::InitializeLog"
    rb"|[WI]\d{4} [\d:. ]+ \S+\.cc:\d+\]"
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what native code writes to stderr, and pass on all but the known chatter."""
    before = sys.stderr
    try:
        terminal = os.dup(2)
    except OSError:  # no stderr at all, as under pythonw
        yield
        return
    if _is_plain(before):
        before.flush()
        sys.stderr = open(terminal, "w", buffering=1, encoding=before.encoding, errors=before.errors, closefd=False)  # noqa: SIM115
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            sys.stderr = before
            os.close(terminal)
            held.seek(0)
            rest = b"".join(line for line in held if not _CHATTER.match(line))
            if rest:
                os.write(2, rest)


def _is_plain(stream: TextIO | None) -> bool:
    """Tell whether a stream writes to the process's own stderr, and not to what a test or a notebook put there."""
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError, AttributeError):
        return False
