"""The inbox: everything that happens, in one order, for the main thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """One ordered queue with two doors.

    `put` never waits: orders and markers. `put_when_room` waits while `room` of its items lie unread, so the aligner
    runs at most that far ahead of the main thread and a live source drops at its slot instead of growing a queue here.
    """

    def __init__(self, room: int) -> None:
        self._items: deque[tuple[T, bool]] = deque()
        self._changed = threading.Condition()
        self._room = room
        self._waiting_items = 0
        self._closed = False

    def put(self, item: T) -> None:
        """Add an item at once."""
        with self._changed:
            self._items.append((item, False))
            self._changed.notify_all()

    def put_when_room(self, item: T) -> None:
        """Add an item as soon as there is room; at once when the inbox is closed, for whoever clears up."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting_items < self._room)
            self._waiting_items += 1
            self._items.append((item, True))
            self._changed.notify_all()

    def get(self, timeout_s: float) -> T | None:
        """Return the next item, or None when none came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout=max(timeout_s, 0.0)):
                return None
            item, counted = self._items.popleft()
            if counted:
                self._waiting_items -= 1
                self._changed.notify_all()
            return item

    def __len__(self) -> int:
        return len(self._items)

    def close(self) -> None:
        """Let go whoever waits for room."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
