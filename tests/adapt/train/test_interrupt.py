"""Ctrl-C is remembered; a second one ends a process that is alone, and nothing else."""

import os
import signal
import threading

import pytest

from psm_adapt.train.interrupt import listening


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes that the process would have ended with."""
    codes: list[int] = []
    monkeypatch.setattr("psm_adapt.train.interrupt.os._exit", codes.append)
    return codes


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_remembered_and_the_second_ends(
    number: signal.Signals, code: int, ended: list[int]
) -> None:
    before = signal.getsignal(number)
    with listening(1) as interrupt:
        assert interrupt.exit_code is None
        os.kill(os.getpid(), number)
        assert (interrupt.exit_code, ended) == (code, [])
        os.kill(os.getpid(), number)
        assert ended == [code]
    assert signal.getsignal(number) is before


def test_among_several_processes_repetitions_are_torchruns(ended: list[int]) -> None:
    with listening(2) as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (interrupt.exit_code, ended) == (130, [])


def test_in_a_thread_signals_are_left_alone() -> None:
    before, found = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with listening(1) as interrupt:
            found.append((signal.getsignal(signal.SIGINT), interrupt.exit_code))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(before, None)]
