"""What training shows: plain lines where there is no terminal, and how long things take in words."""

import pytest

from psm_adapt.train.progress import RATE_STEPS, Pace, Teller, duration_in_words, terms_in_words


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_are_neither_many_nor_missing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Teller(False, clock) as teller:
        for number in range(100):
            clock.now = number * 0.5
            teller.step(f"step {number}", number / 100)
            teller.epoch(f"epoch {number}", is_last=number == 99)
    lines = capsys.readouterr().err.splitlines()
    # a step's line stands for 20 s of silence, epochs come once a second, the last one always
    assert lines[0] == "step 0"
    assert lines[1:3] == ["epoch 2", "epoch 4"]
    assert lines[-1] == "epoch 99"
    assert len(lines) == 51


def test_long_epochs_have_lines(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Teller(False, clock) as teller:
        for number in range(100):
            clock.now = number
            teller.step(f"step {number}", 0)
    assert capsys.readouterr().err.split() == ["step", "0", "step", "20", "step", "40", "step", "60", "step", "80"]


def test_quiet_shows_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    with Teller(True) as teller:
        teller.say("a")
        teller.step("b", 0)
        teller.epoch("c", True)
        teller.warn("d")
    assert capsys.readouterr().err == "warning: d\n"


def test_the_pace_is_that_of_the_last_steps() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.steps_per_s == 0
    for _ in range(10):
        clock.now += 10
        pace.step()
    assert pace.steps_per_s == pytest.approx(0.1)
    for _ in range(RATE_STEPS):
        clock.now += 0.5
        pace.step()
    assert pace.steps_per_s == pytest.approx(2)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (90000, "25 h 0 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration_in_words(seconds) == words


def test_the_total_comes_first() -> None:
    assert terms_in_words({"pixel": 1.23456, "total": 20.0}) == "total 20 pixel 1.235"
