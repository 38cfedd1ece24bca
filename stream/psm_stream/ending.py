"""How a run ends: why, with which exit code, and what a person must be told."""

from __future__ import annotations

from dataclasses import dataclass

from psm_stream.errors import PsmError
from psm_stream.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Stop:
    """The run is over. error: None for a clean end."""

    reason: str
    error: BaseException | None = None


def verdict(stop: Stop, interrupted_by: int | None, telemetry: Telemetry, lost_recording: str) -> tuple[int, str]:
    """Return the exit code and what went wrong, "" if nothing did.

    interrupted_by: exit code of the signal that ended the run. lost_recording: why a recording ended early, or "".
    """
    if stop.error is not None:
        kind = "" if isinstance(stop.error, PsmError) else f"unexpected {type(stop.error).__name__}: "
        code = stop.error.exit_code if isinstance(stop.error, PsmError) else 1
        return code, f"{kind}{' '.join(str(stop.error).split())}"
    if lost_recording:
        return interrupted_by or 1, f"the recording ended early: {lost_recording}"
    if interrupted_by is not None:
        return interrupted_by, ""
    complaint = _nothing_seen(telemetry)
    return (1, complaint) if complaint else (0, "")


def _nothing_seen(telemetry: Telemetry) -> str:
    """What to say of a run that ended by itself and gave no embedding; "" if it gave some or there was no frame."""
    if telemetry.processed > telemetry.no_face or telemetry.captured == 0:
        return ""
    if telemetry.processed == 0:
        dropped = ", ".join(f"{count} by {cause}" for cause, count in telemetry.dropped.items())
        return (
            f"none of the {telemetry.captured} frames could be used ({dropped}); check that the source plays elsewhere"
        )
    return (
        f"no face in any of the {telemetry.processed} frames; check that one is in the picture, upright, lit from the "
        "front and at least a tenth of its height"
    )
