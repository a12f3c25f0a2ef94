"""A bus in this process that keeps messages, and starts again where it was told to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack
import msgpack_numpy

from bluesky_tiled_writer.consumers import Assignments, Message, Start
from bluesky_tiled_writer.consumers.source import unpack_pair

PARTITION = "p"


def packed(pairs: Iterable[tuple[str, Any]]) -> list[bytes]:
    """Return documents as bluesky-kafka sends them."""
    return [msgpack.dumps(pair, default=msgpack_numpy.encode) for pair in pairs]


class MemoryBus:
    """A partition of messages, and what was committed; it outlives the consumers."""

    def __init__(self, messages: Iterable[bytes] = ()) -> None:
        self.messages = list(messages)
        self.committed = Start(0)

    def source(self) -> MemorySource:
        return MemorySource(self)


class MemorySource:
    """The way of one consumer to the bus."""

    keeps = True

    def __init__(self, bus: MemoryBus) -> None:
        self.name = "memory"
        self._bus = bus
        self._next = 0
        self.at_once = 10
        self.paused = 0
        self._is_paused = False

    def open(self, assignments: Assignments) -> None:
        self._next = self._bus.committed.offset
        assignments.assign(PARTITION, self._bus.committed)

    def receive(self, timeout: float) -> Sequence[Message]:
        if self._is_paused:
            return []
        begin = self._next
        self._next = min(begin + self.at_once, len(self._bus.messages))
        return [
            Message(PARTITION, offset, self._bus.messages[offset], unpack_pair)
            for offset in range(begin, self._next)
        ]

    def pause(self) -> None:
        self.paused += 1
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False

    def commit(self, starts: Mapping[str, Start]) -> None:
        self._bus.committed = starts[PARTITION]

    def lag(self) -> int:
        return len(self._bus.messages) - self._next

    def close(self) -> None:
        pass
