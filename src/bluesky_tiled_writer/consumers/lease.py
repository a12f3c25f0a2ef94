"""The lease: which of several consumers reads a stream, and from where the next one has to."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bluesky_tiled_writer.errors import TiledWriterError

from .source import Start

logger = logging.getLogger("bluesky_tiled_writer")

VALID = 2.0
"""Seconds for which a lease is held after the last renewal was sent."""
PATIENCE = 2.4
"""Seconds without a renewal after which another consumer takes it. By what this is longer than
`VALID`, the clocks of two machines may differ in their pace."""


@dataclass(frozen=True)
class Record:
    """The value under the key of a lease.

    Parameters
    ----------
    owner : str
        The consumer that reads; empty if none does.
    start : Start
        From where the next one has to read.
    stream : str
        Tells the stream from another one of the same name; empty if none was read yet.
    """

    owner: str = ""
    start: Start = Start(0)  # noqa: RUF009
    stream: str = ""

    def pack(self) -> bytes:
        """Return it as JSON."""
        start = {"offset": self.start.offset, "seen": self.start.seen}
        return json.dumps({"owner": self.owner, "stream": self.stream, **start}).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Record:
        """Return what was packed.

        Raises
        ------
        TiledWriterError
            If something else was.
        """
        try:
            found: dict[str, Any] = json.loads(data)
            start = Start(int(found["offset"]), int(found["seen"]))
            return cls(str(found["owner"]), start, str(found["stream"]))
        except (KeyError, TypeError, ValueError) as error:
            raise TiledWriterError(
                f"This is no position in a stream: {data[:200]!r}.",
                hint="Give the consumer another name, or delete the key: what the stream keeps is"
                " then read from its beginning.",
            ) from error


class Key(Protocol):
    """A key whose value changes only for those who know its last revision."""

    async def read(self) -> tuple[int, bytes] | None:
        """Return the revision and the value; None if there is none yet."""
        ...

    async def write(self, value: bytes, revision: int) -> int | None:
        """Set the value and return the new revision; None if the last one was another.

        A revision of 0 stands for no value.
        """
        ...


class Lease:
    """Held by one consumer at a time, as long as it renews it.

    Revisions are compared and set, and each consumer measures by its own clock only: that of the
    server, or another machine's, may say what it likes. Who holds the lease stops to believe in it
    before anyone else can take it. The position is the value of the same key, so that none but the
    holder can commit.

    Parameters
    ----------
    key : Key
        Where it is kept.
    owner : str
        Names this consumer; unique.
    clock : callable
        Returns seconds.
    """

    def __init__(self, key: Key, owner: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.record = Record()
        self.valid_until = 0.0
        self.key = key
        self._owner = owner
        self._clock = clock
        self._revision = 0
        self._seen = -1, 0.0  # the last revision of another one, and since when

    @property
    def is_valid(self) -> bool:
        """True if no other consumer can have it."""
        return self._clock() < self.valid_until

    async def take(self) -> bool:
        """Take the lease if it is free; return True if that was done."""
        found = await self.key.read()
        if found is None:
            return await self._write(Record(self._owner), 0)
        revision, record = found[0], Record.unpack(found[1])
        if record.owner not in ("", self._owner):
            if revision != self._seen[0]:
                self._seen = revision, self._clock()
            if self._clock() - self._seen[1] < PATIENCE:
                return False
            text = "No sign of %s for %.0f s: its stream is taken over"
            logger.warning(text, record.owner, PATIENCE)
        return await self._write(replace(record, owner=self._owner), revision)

    async def renew(self, start: Start, stream: str) -> bool:
        """Go on holding it, and commit a position; return False if another one has it."""
        record = Record(self._owner, start, stream)
        if await self._write(record, self._revision):
            return True
        found = await self.key.read()
        if found is None or Record.unpack(found[1]).owner != self._owner:
            self.valid_until = 0.0
            return False
        return await self._write(record, found[0])  # the answer to the last renewal was lost

    async def release(self, start: Start, stream: str) -> None:
        """Let another one take it at once."""
        self.valid_until = 0.0
        await self.key.write(Record("", start, stream).pack(), self._revision)

    async def _write(self, record: Record, revision: int) -> bool:
        sent = self._clock()
        new = await self.key.write(record.pack(), revision)
        if new is None:
            return False
        self._revision, self.record, self.valid_until = new, record, sent + VALID
        return True
