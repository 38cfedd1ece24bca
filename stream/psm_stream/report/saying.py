"""What a source itself says of its frames, joined to runs: the true expression of the demo, a trial, a condition."""

from __future__ import annotations

from psm_stream.report.story import Said

_MOST = 20_000


class Saying:
    """Joins equal labels. A number at the end of a label is how strong it is: "smile 0.62"."""

    def __init__(self) -> None:
        self._done: list[Said] = []
        self._now: Said | None = None
        self._t = 0.0

    def see(self, label: str, t: float) -> None:
        """Take the next frame's label; "" if there is none."""
        name, value = parted(label)
        now = self._now
        if now is not None and now.label == name:
            self._now = Said(name, now.begin, t, max(now.most, value))
        else:
            self._end(t)
            self._now = Said(name, t, t, value) if name else None

    def runs(self, t: float) -> list[Said]:
        """End at t, and return all runs in order; none when there are too many to mean anything."""
        self._end(t)
        return self._done if len(self._done) <= _MOST else []

    def _end(self, t: float) -> None:
        now = self._now
        if now is not None and len(self._done) <= _MOST:
            self._done.append(Said(now.label, now.begin, t, now.most))
        self._now = None


def parted(label: str) -> tuple[str, float]:
    """Part a label into words and value; 1 where it has none."""
    words, _, last = label.rpartition(" ")
    try:
        return (words, float(last)) if words else (label, 1.0)
    except ValueError:
        return label, 1.0
