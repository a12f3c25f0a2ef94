"""The position rule: from where a partition has to be read again if the process ends now."""

from __future__ import annotations

from .source import Start


class Positions:
    """The position in one partition: the start document of the oldest run that is not stored.

    Parameters
    ----------
    start : Start
        Where the reading starts.
    """

    def __init__(self, start: Start) -> None:
        self._seen_before = start.seen
        self._next = start.offset
        self._open: dict[str, int] = {}

    def take(self, offset: int) -> None:
        """Take note of a message."""
        self._next = max(self._next, offset + 1)

    def came_before(self, offset: int) -> bool:
        """Return True if an earlier consumer had the message."""
        return offset < self._seen_before

    def begin(self, uid: str, offset: int) -> None:
        """Take note that a run starts with a message."""
        self._open.setdefault(uid, offset)

    def finish(self, uid: str) -> None:
        """Take note that nothing of a run has to come again."""
        self._open.pop(uid, None)

    @property
    def start(self) -> Start:
        """Where the next consumer has to start."""
        seen = max(self._next, self._seen_before)
        return Start(min(self._open.values(), default=self._next), seen)
