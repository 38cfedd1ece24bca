"""A queue from the live loop to a thread that writes: bounded in items and in bytes, never blocking unasked."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bound:
    """How much may wait, what the writing thread has in hand included."""

    items: int
    size_bytes: int


class Backlog(Generic[T]):
    """Items in order, from any number of threads to one, which takes them in batches.

    When it is full, `put` waits up to wait_s for room and then refuses: 0 for live, where nothing may block; seconds
    for files at the fast pace, where nothing may be lost.
    """

    def __init__(self, bound: Bound, wait_s: float = 0.0) -> None:
        self._bound = bound
        self._wait_s = wait_s
        self._waiting: list[T] = []
        self._waiting_bytes = 0
        self._in_hand = 0
        self._in_hand_bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, size_bytes: int, force: bool = False) -> bool:
        """Add an item. Returns False when it was not added: no room, or closed. force: add it beyond the bound too."""
        with self._changed:
            if self._wait_s and not force:
                self._changed.wait_for(lambda: self._closed or self._has_room(size_bytes), self._wait_s)
            if self._closed or not (force or self._has_room(size_bytes)):
                return False
            self._waiting.append(item)
            self._waiting_bytes += size_bytes
            # waking the other thread for each item would cost the live loop more than the items do
            if self._is_half_full():
                self._changed.notify_all()
            return True

    def take(self, gather_s: float) -> list[T]:
        """Declare the last batch done, gather for up to gather_s, and return everything that waits.

        Gathering ends early when the backlog is half full or closed.
        """
        with self._changed:
            self._in_hand = self._in_hand_bytes = 0
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or self._is_half_full(), gather_s)
            batch, self._waiting = self._waiting, []
            self._in_hand, self._in_hand_bytes = len(batch), self._waiting_bytes
            self._waiting_bytes = 0
            return batch

    def close(self) -> None:
        """Refuse further items and wake everybody; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """No further items will come."""
        return self._closed

    def __len__(self) -> int:
        return len(self._waiting) + self._in_hand

    @property
    def size_bytes(self) -> int:
        """How much waits or is being written."""
        return self._waiting_bytes + self._in_hand_bytes

    def _has_room(self, size_bytes: int) -> bool:
        # one item larger than the whole bound is let in alone, or it would wait for ever
        fits = self.size_bytes + size_bytes <= self._bound.size_bytes or len(self) == 0
        return fits and len(self) < self._bound.items

    def _is_half_full(self) -> bool:
        return 2 * len(self._waiting) >= self._bound.items or 2 * self._waiting_bytes >= self._bound.size_bytes
