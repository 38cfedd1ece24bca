"""Work for the tests of the pool, which other processes must be able to import."""

import os
import signal


def squared(number, tell):
    """Tell the number, return its square."""
    tell(f"at {number}")
    return number**2


def named(_, tell):
    """Return which process this is."""
    tell(None)
    return os.getpid()


def dying(number, tell):
    """End the process at 2 by a signal and at 3 by its own will."""
    tell(number)
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 3:
        os._exit(7)
    return number
