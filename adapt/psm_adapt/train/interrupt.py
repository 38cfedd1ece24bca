"""Ctrl-C while training: remembered, so that the step in hand is finished and what was learned is kept."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_SAID = b"\nstopping after this step; once more ends at once, without saving\n"


class Interrupt:
    """Whether a signal asked to stop. `exit_code` is None until one did."""

    def __init__(self, processes: int) -> None:
        self.exit_code: int | None = None
        self._is_alone = processes == 1

    def on_signal(self, number: int, _: FrameType | None) -> None:
        """Remember a signal; a second one ends the process.

        With several processes it does not: torchrun sends on the Ctrl-C that the terminal has sent to everyone already,
        and ends those that take longer than 30 s itself.
        """
        code = EXIT_CODES[signal.Signals(number)]
        if self.exit_code is None:
            self.exit_code = code
            if self._is_alone:
                with suppress(OSError):
                    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _SAID)  # print may be interrupted itself
        elif self._is_alone:
            os._exit(code)


@contextmanager
def listening(processes: int) -> Iterator[Interrupt]:
    """Remember Ctrl-C and SIGTERM instead of being ended by them; at the end the handlers from before are back.

    Outside of the main thread signals are left alone.
    """
    interrupt = Interrupt(processes)
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt.on_signal) for number in EXIT_CODES}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
