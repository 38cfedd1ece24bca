"""How long psm-stream takes to end after Ctrl-C, in every state that it can be in.

    python benchmarks/shutdown.py [--rounds 2] [--state NAME]

Each state is set up with a real process, which then gets SIGINT. `seconds` is from the signal to the end of the
process, `exit` its exit code: 130, also while it still starts. For states in which the source vanishes there is a small
RTSP server in this process.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from common import PATIENCE_S, Stream, at_most, report, say
from videos import face_video

from psm_stream.client import Control, Subscriber
from psm_stream.testing_rtsp import RtspServer

GOAL_S = 1.0
INTERRUPTED = 130
STARTS_S = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3)
"""How long psm-stream has been starting when it is interrupted."""
LIVE = ("--source", "demo", "--pace", "live")


@contextmanager
def starting(after_s: float) -> Iterator[Stream]:
    """Not ready yet: models are being opened, or Python itself."""
    with Stream(*LIVE) as stream:
        time.sleep(after_s)
        yield stream


@contextmanager
def running(*options: str) -> Iterator[Stream]:
    """Embeddings come."""
    with Stream(*options) as stream, Subscriber(stream.address(), ["embedding."]) as subscriber:
        subscriber.receive(PATIENCE_S)
        time.sleep(1.0)
        yield stream


@contextmanager
def recording(video: str) -> Iterator[Stream]:
    """A session is being written."""
    with (
        tempfile.TemporaryDirectory(prefix="psm-benchmark-") as root,
        running(*LIVE, "--record", root, "--record.video", video) as stream,
    ):
        yield stream


@contextmanager
def source_gone(take_away: Callable[[RtspServer], None], after_s: float) -> Iterator[Stream]:
    """An RTSP camera has vanished while a session is written; psm-stream tries to get it back."""
    with (
        tempfile.TemporaryDirectory(prefix="psm-benchmark-") as root,
        RtspServer() as server,
        Stream("--rtsp", server.url, "--record", root) as stream,
    ):
        stream.address()
        time.sleep(1.0)
        take_away(server)
        time.sleep(after_s)
        yield stream


@contextmanager
def stalled_subscriber() -> Iterator[Stream]:
    """A subscriber is stopped, so messages queue up for it."""
    program = (
        "import sys; from psm_stream.client import Subscriber\nfor m in Subscriber(sys.argv[1]): print(flush=True)"
    )
    with Stream(*LIVE) as stream:
        command = [sys.executable, "-c", program, stream.address()]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
            try:
                assert reader.stdout is not None
                reader.stdout.readline()
                reader.send_signal(signal.SIGSTOP)
                time.sleep(3.0)
                yield stream
            finally:
                reader.kill()


@contextmanager
def control_held() -> Iterator[Stream]:
    """A client is connected to the control port and asks without a pause."""
    asking = "import sys; from psm_stream.client import Control; c = Control(sys.argv[1])\nwhile c.ask('STATUS'): pass"
    with (
        running(*LIVE) as stream,
        subprocess.Popen([sys.executable, "-c", asking, stream.address()], stderr=subprocess.DEVNULL) as client,
    ):
        try:
            time.sleep(1.0)
            yield stream
        finally:
            client.kill()


@contextmanager
def order_in_hand() -> Iterator[Stream]:
    """An order to swap the encoder has just been given."""
    with running(*LIVE) as stream, Control(stream.address()) as control:
        control.send("REVERT")
        yield stream


def freeze(server: RtspServer) -> None:
    server.is_frozen = True


STATES: dict[str, Callable[[], Any]] = {
    **{f"starting, after {after_s} s": partial(starting, after_s) for after_s in STARTS_S},
    "running live": partial(running, *LIVE),
    "running fast": lambda: running("--source", str(face_video(3000)), "--pace", "fast"),
    "recording": partial(recording, "off"),
    "recording with h264 video": partial(recording, "h264"),
    "RTSP refused, in back-off": partial(source_gone, RtspServer.cut, 1.5),
    "RTSP frozen, not yet noticed": partial(source_gone, freeze, 0.5),
    "RTSP frozen, being retried": partial(source_gone, freeze, 3.0),
    "subscriber stalled": stalled_subscriber,
    "control port busy": control_held,
    "order in hand": order_in_hand,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Ctrl-C in every state; prints JSON")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--state", action="append", choices=list(STATES), help="only this one; may be given again")
    options = parser.parse_args()
    ends: dict[str, list[dict[str, Any]]] = {state: [] for state in options.state or STATES}
    for _ in range(options.rounds):
        for state, done in ends.items():
            done.append(interrupt(STATES[state]))
            say(f"{state}: {done[-1]}")
    everything = [end for done in ends.values() for end in done]
    worst = at_most(GOAL_S, max(end["seconds"] for end in everything))
    wrong = at_most(0, sum(end["exit"] != INTERRUPTED for end in everything))
    report("shutdown", vars(options), {"worst_s": worst, "wrong_exit_codes": wrong, "states": ends})


def interrupt(state: Callable[[], Any]) -> dict[str, Any]:
    """Set a state up, press Ctrl-C, and wait. A process that does not end within a minute is killed."""
    with state() as stream:
        stream.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        try:
            code = stream.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = None
        seconds = time.monotonic() - began
        said = stream.said()
    complaint = {} if code == INTERRUPTED else {"said": said[-500:]}
    return {"seconds": round(seconds, 3), "exit": code, **complaint}


if __name__ == "__main__":
    main()
