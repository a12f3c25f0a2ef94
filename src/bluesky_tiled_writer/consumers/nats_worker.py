"""The asyncio side of NATS JetStream: reads a stream in order while it holds the lease."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import nats
import nats.errors
from nats.js.api import RetentionPolicy
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
)

from bluesky_tiled_writer.errors import TiledWriterError

from .lease import VALID, Lease, Record
from .mailbox import Gained, Mailbox
from .nats_reader import StreamReader, where_to_begin
from .source import Start

logger = logging.getLogger("bluesky_tiled_writer")

RENEW_EVERY = 0.6
"""Seconds between renewals of the lease, which carry the position."""
LOOK_EVERY = 0.4
"""Seconds between looks of a stand-by."""
LOOK_AFTER = 5
"""Renewals between looks at the stream."""
AGAIN = 0.3
"""Seconds until another attempt."""
PATIENCE = 5.0
"""Seconds to wait for an answer, where the lease does not say less."""


class Worker:
    """Reads the messages of some subjects of a stream, if no other consumer does.

    Nothing is acknowledged, and so nothing comes twice while a run of hours is stored. Where the
    next reader starts is kept in the lease.

    Parameters
    ----------
    subject : str
        Filter of the subjects.
    stream : str, optional
        The stream; by default the one that has the subject.
    name : str
        Name of the bucket for the lease.
    domain : str, optional
        Domain of JetStream.
    options : mapping
        Options of `nats.connect`.
    """

    def __init__(
        self,
        subject: str,
        stream: str | None,
        name: str,
        domain: str | None,
        options: Mapping[str, Any],
    ) -> None:
        self.mailbox = Mailbox(self._wake)
        self.stream = stream or ""
        self.epoch = 0
        self._first = Start(0)
        self._position: tuple[int, Start] = 0, Start(0)
        self._reader: StreamReader | None = None
        self._subject = subject
        self._name = name
        self._domain = domain
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing, self._room = asyncio.Event(), asyncio.Event()
        self._lease: Lease | None = None
        self._client: Any = None
        self._js: Any = None
        self._is_away = self._is_closed = False
        self._lacks = 0

    # -- called by the thread of the consumer ---------------------------------------------------

    @property
    def pending(self) -> int | None:
        """Messages that did not come yet, as of the last one that did."""
        return None if self._reader is None else self._reader.pending

    def commit(self, epoch: int, start: Start) -> None:
        """Keep a position with the next renewal."""
        self._position = epoch, start

    def reads(self, epoch: int) -> bool:
        """Return True if no other consumer can have the stream."""
        return epoch == self.epoch and self._lease is not None and self._lease.is_valid

    def close(self) -> None:
        """Let go of the stream, so that another consumer goes on at once."""
        self._is_closed = True
        self._call(self._closing.set)

    def _wake(self) -> None:
        self._call(self._room.set)

    def _call(self, function: Any) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function)

    # -- in the thread of the loop --------------------------------------------------------------

    async def run(self) -> None:
        """Read until `close` is called."""
        self._loop = asyncio.get_running_loop()
        if self._is_closed:
            return
        work = asyncio.create_task(self._work())
        closing = asyncio.create_task(self._closing.wait())
        await asyncio.wait({work, closing}, return_when=asyncio.FIRST_COMPLETED)
        if work.done() and (error := work.exception()) is not None:
            assert isinstance(error, Exception)
            self.mailbox.put(error)
            await closing
        work.cancel()
        await asyncio.wait({work})
        with suppress(Exception):
            async with asyncio.timeout(PATIENCE):
                await self._release()
        if self._client is not None:
            with suppress(Exception):
                async with asyncio.timeout(PATIENCE):
                    await self._client.close()

    async def _release(self) -> None:
        if self._lease is not None and self._lease.is_valid:
            await self._lease.release(self._start, self._lease.record.stream)

    async def _work(self) -> None:
        while True:
            try:
                await self._connect()
                lease, info = await self._stand_by()
                await self._read_while_it_lasts(lease, info)
            except TiledWriterError:
                raise
            except Exception as error:
                self._tell(error)
            await asyncio.sleep(AGAIN)

    async def _connect(self) -> None:
        if self._client is not None and not self._client.is_closed:
            return
        ours = {
            "name": self._name,
            "error_cb": self._on_error,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.5,
            "ping_interval": 5,
        }
        self._client = await nats.connect(**{**ours, **self._options})
        self._js = self._client.jetstream(timeout=PATIENCE, domain=self._domain)

    async def _stand_by(self) -> tuple[Lease, Any]:
        """Wait until the lease is free, and take it."""
        info = await self._find_stream()
        key = await self._find_key(info.config.num_replicas)
        if self._lease is None:
            owner = f"{socket.gethostname()}, process {os.getpid()}, {uuid.uuid4().hex[:8]}"
            self._lease = Lease(key, owner)
        self._lease.key = key
        is_told = False
        while not await self._lease.take():
            self._answers()
            if not is_told:
                is_told = True
                logger.info("NATS, %s: another consumer reads it; standing by", self.stream)
            await asyncio.sleep(LOOK_EVERY)
        self._begin(self._lease.record.start)
        return self._lease, await self._find_stream()

    def _begin(self, start: Start) -> None:
        """Take no more commits of what was read before."""
        self.epoch += 1
        self._first, self._position = start, (self.epoch, start)

    async def _find_stream(self) -> Any:
        try:
            if not self.stream:
                self.stream = await self._js.find_stream_name_by_subject(self._subject)
            info = await self._js.stream_info(self.stream)
        except NotFoundError as error:
            raise TiledWriterError(
                f"JetStream has no stream for {self._subject}."
                if not self.stream
                else f"JetStream has no stream {self.stream}.",
                hint="Make one that keeps messages for longer than the longest run and an outage:"
                f" `nats stream add --subjects '{self._subject}' --storage file ...`.",
            ) from error
        if info.config.retention not in (None, RetentionPolicy.LIMITS):
            raise TiledWriterError(
                f"The stream {self.stream} drops messages before their runs are stored.",
                hint=f"Its retention is {info.config.retention}; let it be limits.",
            )
        return info

    async def _find_key(self, replicas: int | None) -> _BucketKey:
        try:
            bucket = await self._js.key_value(self._name)
        except BucketNotFoundError:
            what = "Who reads a stream, and from where"
            options = {"description": what, "replicas": replicas or 1}
            bucket = await self._js.create_key_value(bucket=self._name, **options)
        return _BucketKey(bucket, f"{self.stream}.{_as_key(self._subject)}")

    async def _read_while_it_lasts(self, lease: Lease, info: Any) -> None:
        made = getattr(info, "created", None)  # which older clients do not say
        created = made.isoformat() if made else ""
        start, warning = where_to_begin(
            lease.record, created, info.state.first_seq, info.state.last_seq
        )
        if warning is not None:
            logger.warning("NATS, %s: %s", self.stream, warning)
        self._begin(start)
        self.mailbox.put(Gained(start, self.epoch))
        self._reader = reader = StreamReader(
            self._client,
            self._js,
            self.stream,
            self._subject,
            self._name,
            self._domain,
            self.mailbox,
            self._room,
        )
        reading = asyncio.create_task(reader.read(start.offset))
        try:
            await self._hold(lease, reader, created)
        finally:
            self.mailbox.lose()
            reading.cancel()
            await asyncio.wait({reading})

    @property
    def _start(self) -> Start:
        epoch, start = self._position
        return start if epoch == self.epoch else self._first

    async def _hold(self, lease: Lease, reader: StreamReader, created: str) -> None:
        """Renew the lease as long as that works."""
        renewed = 0
        while lease.is_valid:
            left = lease.valid_until - time.monotonic()
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    if not await lease.renew(self._start, created):
                        logger.warning("NATS, %s: another consumer has taken it", self.stream)
                        return
                    renewed += 1
                    if renewed % LOOK_AFTER == 0:
                        await self._look(reader)
                self._answers()
                await asyncio.sleep(RENEW_EVERY)
            except TiledWriterError:
                raise
            except Exception as error:
                self._tell(error)
                await asyncio.sleep(min(AGAIN, max(left, 0.0)))
        text = "NATS, %s: the lease was not renewed in time; what is not stored comes again"
        logger.warning(text, self.stream)

    async def _look(self, reader: StreamReader) -> None:
        """See how much there is to read, and what the stream will not have any more."""
        first = (await self._find_stream()).state.first_seq
        if not self.mailbox.has_room:
            await reader.look()
        start = self._start
        needed = min(
            reader.next if reader.pending else first,
            start.offset if start.offset < start.seen else first,  # some run is under way
        )
        if first > needed and needed > self._lacks:
            self._lacks = first
            text = (
                "NATS, %s: its limits removed the messages from %d to %d before their runs were"
                " stored. What was not read is lost, and runs that are under way depend on this"
                " process."
            )
            logger.warning(text, self.stream, needed, first - 1)

    # -- the log --------------------------------------------------------------------------------

    async def _on_error(self, error: Exception) -> None:
        if self._client is None or not self._client.is_connected:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            known = isinstance(error, (nats.errors.Error, OSError, TimeoutError))
            text = "NATS: %s. It goes on when the servers answer."
            logger.warning(text, _text(error), exc_info=None if known else error)

    def _answers(self) -> None:
        if self._is_away:
            self._is_away = False
            logger.warning("NATS: the servers answer again")


_WRONG_REVISION = 10164
"""A code of errors that newer servers have, and older clients do not know."""


class _BucketKey:
    """A key in a bucket of JetStream."""

    def __init__(self, bucket: Any, name: str) -> None:
        self._bucket = bucket
        self._name = name

    async def read(self) -> tuple[int, bytes] | None:
        try:
            entry = await self._bucket.get(self._name)
        except KeyNotFoundError as error:
            entry = error.entry  # of a key that was deleted
            return None if entry is None else (entry.revision, Record().pack())
        return entry.revision, entry.value

    async def write(self, value: bytes, revision: int) -> int | None:
        try:
            return int(await self._bucket.update(self._name, value, last=revision))
        except KeyWrongLastSequenceError:
            return None
        except APIError as error:
            if error.err_code == _WRONG_REVISION:
                return None
            raise


def _as_key(subject: str) -> str:
    """Return a subject in the characters that a key may have."""
    return re.sub(r"[^-/_.a-zA-Z0-9]", lambda found: f"={ord(found[0]):X}=", subject)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


assert RENEW_EVERY < VALID
