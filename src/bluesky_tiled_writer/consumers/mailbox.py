"""The mailbox: between the thread that reads a stream and the one that stores its runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .source import Message, Start

MOST_BYTES = 16 * 2**20
"""Bytes of messages beyond which no more are asked for."""
MOST_MESSAGES = 5000
"""Messages beyond which no more are asked for."""


@dataclass(frozen=True)
class Gained:
    """From now on this consumer reads the stream, for the n-th time."""

    start: Start
    epoch: int


@dataclass(frozen=True)
class Lost:
    """It does so no more."""


Item = Message | Gained | Lost | Exception


class Mailbox:
    """Items in order, of which messages may be held back; safe to use from several threads.

    Parameters
    ----------
    on_room : callable
        Called when messages were taken, or may be again.
    """

    def __init__(self, on_room: Callable[[], None]) -> None:
        self._items: deque[Item] = deque()
        self._bytes = self._messages = 0
        self._on_room = on_room
        self._condition = threading.Condition()
        self._is_paused = False

    def put(self, item: Item) -> None:
        """Add an item."""
        with self._condition:
            self._items.append(item)
            if isinstance(item, Message):
                self._count(item, 1)
            self._condition.notify()

    def lose(self) -> None:
        """Drop the messages, which will come to another consumer, and say so."""
        with self._condition:
            self._items = deque(item for item in self._items if not isinstance(item, Message))
            self._bytes = self._messages = 0
            self._items.append(Lost())
            self._condition.notify()

    def take(self, timeout: float, most: int) -> list[Item]:
        """Return the items that are there; wait for the first one, `timeout` seconds at most."""
        taken: list[Item] = []
        with self._condition:
            self._condition.wait_for(self._is_ready, timeout)
            while len(taken) < most and self._is_ready():
                item = self._items.popleft()
                if isinstance(item, Message):
                    self._count(item, -1)
                taken.append(item)
        if taken:
            self._on_room()
        return taken

    def pause(self) -> None:
        """Hold back messages."""
        self._is_paused = True

    def resume(self) -> None:
        """Hold back nothing."""
        self._is_paused = False
        self._on_room()

    @property
    def has_room(self) -> bool:
        """True if more messages may be asked for."""
        is_full = self._bytes >= MOST_BYTES or self._messages >= MOST_MESSAGES
        return not (is_full or self._is_paused)

    @property
    def messages(self) -> int:
        """Number of messages."""
        return self._messages

    def _is_ready(self) -> bool:
        if not self._items:
            return False
        return not (self._is_paused and isinstance(self._items[0], Message))

    def _count(self, message: Message, sign: int) -> None:
        self._bytes += sign * len(message.data)
        self._messages += sign
