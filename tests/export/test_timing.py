"""Timing by turns: who is called when, and how often."""

from psm_export.timing import in_turns


def test_candidates_take_turns_and_the_first_round_does_not_count() -> None:
    called: list[str] = []
    told: list[tuple[int, int]] = []
    calls = [lambda name=name: called.append(name) for name in ("a", "b")]
    taken = in_turns(calls, rounds=3, calls_each=2, tell=lambda done, of: told.append((done, of)))
    assert called == ["a", "a", "b", "b"] * 4
    assert [len(seconds) for seconds in taken] == [6, 6]
    assert all((seconds >= 0).all() for seconds in taken)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
