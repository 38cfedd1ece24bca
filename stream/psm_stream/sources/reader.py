"""A blocking device on a thread of its own, so that a device that hangs is a time-out here and not a deadlock.

The thread opens the device, reads it and closes it; nobody else touches it. A thread that hangs inside the device is
left behind: it closes the device when it comes back.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar

from psm_stream.errors import SourceLost

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)

_CLOSE_WAIT_S = 0.3


class Device(Protocol[Item_co]):
    """Something that blocks. All three run on the reader's thread."""

    def open(self) -> None:
        """Raises SourceError: it cannot be opened."""
        ...

    def next(self) -> Item_co:
        """Wait for the next item. Raises SourceLost: there will be none."""
        ...

    def close(self) -> None:
        """Let go; also after an `open` that failed."""
        ...


class Reader(Generic[Item]):
    """Reads one device, once. Keeps the newest `room` items for whoever takes them, and counts the others."""

    def __init__(self, device: Device[Item], room: int) -> None:
        self._device = device
        self._items: deque[Item] = deque()
        self._room = room
        self._lost = 0
        self._error: BaseException | None = None
        self._is_wanted = True
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self, timeout_s: float) -> bool:
        """Open the device and wait for its first item. Returns False if there was none in time.

        Raises what opening or reading it raised; SourceLost if it was closed meanwhile.
        """
        self._thread.start()
        return self._wait(timeout_s)

    def take(self, timeout_s: float) -> tuple[list[Item], int]:
        """Take every item that waits, oldest first, and the number of those that were lost before them.

        Waits up to `timeout_s` for one; the list is empty if there was none. Raises as `start` does.
        """
        self._wait(timeout_s)
        with self._changed:
            items, lost = list(self._items), self._lost
            self._items.clear()
            self._lost = 0
        return items, lost

    def close(self) -> None:
        """Wake whoever waits here, and let the thread close the device; waits a little for that, once. Any thread."""
        with self._changed:
            is_first, self._is_wanted = self._is_wanted, False
            self._changed.notify_all()
        if is_first and self._thread.is_alive():
            self._thread.join(_CLOSE_WAIT_S)

    def _wait(self, timeout_s: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._error or not self._is_wanted, timeout_s)
            if not self._is_wanted:
                raise SourceLost("the source was closed")
            if not self._items and self._error is not None:
                raise self._error
            return bool(self._items)

    def _run(self) -> None:
        try:
            try:
                self._device.open()
                while self._is_wanted:
                    self._keep(self._device.next())
            finally:
                self._device.close()
        except BaseException as error:  # `start` or `take` raises it, whatever it is
            self._fail(error)

    def _keep(self, item: Item) -> None:
        with self._changed:
            if len(self._items) == self._room:
                self._items.popleft()
                self._lost += 1
            self._items.append(item)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()
