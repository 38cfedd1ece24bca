"""Holding back mediapipe's chatter, in a process of its own since it is about the process's stderr."""

import subprocess
import sys

CODE = r"""
import os, sys
from psm_stream.align.quiet import quiet
with quiet():
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
    os.write(2, b"W0000 00:00:1795210953.167083   13464 inference_feedback_manager.cc:114] Feedback\n")
    os.write(2, b"a library's own complaint\n")
    print("python's line", file=sys.stderr)
    {inside}
os.write(2, b"after\n")
"""


def stderr_of(inside: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(inside=inside)], capture_output=True, text=True, check=False
    )
    return done.stderr


def test_only_the_chatter_is_lost() -> None:
    assert stderr_of("pass").splitlines() == ["python's line", "a library's own complaint", "after"]


def test_an_error_inside_is_seen() -> None:
    lines = stderr_of("raise ValueError('inside')").splitlines()
    assert lines[-1] == "ValueError: inside"
    assert "a library's own complaint" in lines


def test_python_is_heard_even_if_the_process_ends_inside() -> None:
    assert stderr_of("os._exit(1)").splitlines() == ["python's line"]
