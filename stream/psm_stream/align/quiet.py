"""Keeps mediapipe's start-up chatter off the terminal.

mediapipe 0.10.21 writes four lines to the process's stderr when its networks first run, and no setting stops it. While
`quiet` is open, stderr goes to a file; what is not that chatter is passed on at the end, so nothing else is lost.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTER = re.compile(
    rb"INFO: Created TensorFlow Lite XNNPACK delegate"
    rb"|WARNING: All log messages before absl::InitializeLog"
    rb"|[WI]\d{4} [\d:. ]+ \S+\.cc:\d+\]"
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what native code writes to stderr, and pass on all but the known chatter."""
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # no stderr at all, as under pythonw
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            rest = b"".join(line for line in held if not _CHATTER.match(line))
            if rest:
                os.write(2, rest)
