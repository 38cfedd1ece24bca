"""What the last line of a run says of its adaptations."""

import pytest

from psm_stream.cli.stream import _adapted

ACCEPTED, REJECTED = {"accepted": True, "stopped": False}, {"accepted": False, "stopped": False}
STOPPED = {"accepted": False, "stopped": True}


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], ""),
        ([ACCEPTED], "; 1 adaptation, 1 accepted"),
        ([ACCEPTED, REJECTED, STOPPED], "; 2 adaptations, 1 accepted; 1 training stopped"),
        ([STOPPED, STOPPED], "; 2 trainings stopped"),
    ],
)
def test_the_farewell_counts_adaptations(entries: list[dict[str, bool]], says: str) -> None:
    assert _adapted(entries) == says
