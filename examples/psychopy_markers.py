"""A PsychoPy experiment that marks its trials in the stream and reads the face back.

Each stimulus is marked from `win.callOnFlip`, so the marker leaves when the picture is on the screen; it carries this
program's own time of the flip as `t`, next to which the stream writes its stamp of arrival. After each trial the newest
embedding is fetched from the `latest` port, in a fraction of a millisecond.

PsychoPy brings zmq, msgpack and numpy (`psychopy` depends on all three); beside that it needs `psm_stream.client`,
whose folder can be copied next to this file. Without PsychoPy the same trials run without a screen.

    python psychopy_markers.py [ADDRESS] [TRIALS]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from psm_stream.client import ClientError, Control, LatestReader, Markers

try:
    from psychopy import core, visual
except ImportError:
    core = visual = None

WORDS = ["smile", "frown", "rest"]


def run_trials(address: str, trials: int, screen: Screen | NoScreen) -> None:
    with Control(address) as control, Markers(address) as markers, LatestReader(address) as face:
        control.marker("experiment start")  # waits for the answer: where time does not matter
        for trial in range(trials):
            word = WORDS[trial % len(WORDS)]
            # t is time.monotonic(): on one machine the stream's own clock, so its stamp of arrival can be checked
            screen.show(word, lambda: markers.send(f"show {word}", t=time.monotonic(), trial=trial))  # noqa: B023
            screen.wait(0.1)
            newest = face.read(timeout_s=1.0)
            if newest is None or newest.header["face_id"] < 0:
                print(f"trial {trial} {word}: no face", flush=True)
                continue
            age_ms = (time.monotonic() - newest.header["t_capture"]) * 1000
            length = np.linalg.norm(newest.array)
            print(
                f"trial {trial} {word}: frame {newest.header['frame_index']} {age_ms:.1f} ms old, length {length:.3f}"
            )
        control.marker("experiment end")


class Screen:
    """A PsychoPy window."""

    def __init__(self) -> None:
        self._window = visual.Window(size=(800, 600), color="black", units="height")
        self._text = visual.TextStim(self._window, height=0.1)

    def show(self, word, on_flip) -> None:
        self._text.text = word
        self._text.draw()
        self._window.callOnFlip(on_flip)
        self._window.flip()

    def wait(self, seconds: float) -> None:
        core.wait(seconds)

    def close(self) -> None:
        self._window.close()


class NoScreen:
    """Stands for the window where PsychoPy is not installed."""

    def show(self, word, on_flip) -> None:
        print(word, flush=True)
        on_flip()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        pass


def main(address: str = "tcp://127.0.0.1:50120", trials: str = "6") -> None:
    if not trials.isdecimal():
        sys.exit(f"error: TRIALS is {trials!r}; give a whole number")
    if visual is None:
        print("PsychoPy is not installed: the trials run without a screen", flush=True)
    screen = NoScreen() if visual is None else Screen()
    try:
        run_trials(address, int(trials), screen)
    finally:
        screen.close()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ClientError as error:
        sys.exit(f"error: {error}")
