"""Reads a stream of JetStream: every message once, in order, without acknowledgements."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from .lease import Record
from .mailbox import Mailbox
from .source import Message, Pair, Start, pair, unpack

logger = logging.getLogger("bluesky_tiled_writer")

AGAIN = 0.3
"""Seconds until another attempt."""
BATCH, BATCH_BYTES = 500, 8 * 2**20
"""Messages that are asked for together, at most."""
FAULTS = 3
"""Attempts in a row that failed, after which it is told."""
LIFE = 300.0
"""Seconds for which the server remembers who reads a stream and asks for nothing."""

_EXPIRES, _HEARTBEAT = 3.0, 1.0
_CALM = {"408", "404"}  # there was nothing to send until a request ended


class StreamReader:
    """Puts the messages of some subjects of a stream into a mailbox, as long as that has room.

    The server has an ephemeral consumer for it, which numbers what it sends: so a message that got
    lost is noticed, and the reading begins again there, with another one.

    Parameters
    ----------
    client : nats.aio.client.Client
        The connection.
    js : nats.js.client.JetStreamContext
        JetStream there.
    stream, subject : str
        The stream, and the filter of its subjects.
    name : str
        Begins the names of consumers at the server.
    domain : str, optional
        Domain of JetStream.
    mailbox : Mailbox
        For the messages.
    room : asyncio.Event
        Set when the mailbox may have room again.

    Attributes
    ----------
    next : int
        The message that comes next, or a later one.
    pending : int, optional
        How many there are that were not sent yet, as of the last one that came.
    """

    def __init__(
        self,
        client: Any,
        js: Any,
        stream: str,
        subject: str,
        name: str,
        domain: str | None,
        mailbox: Mailbox,
        room: asyncio.Event,
    ) -> None:
        self.next = 1
        self.pending: int | None = None
        self._client, self._js = client, js
        self._stream, self._subject = stream, subject
        self._name = name
        self._api = "$JS.API" if domain is None else f"$JS.{domain}.API"
        self._mailbox = mailbox
        self._room = room
        self._consumer = ""
        self._faults = 0

    async def look(self) -> None:
        """Ask how many messages are pending."""
        if self._consumer:
            info = await self._js.consumer_info(self._stream, self._consumer)
            self.pending = info.num_pending

    async def read(self, sequence: int) -> None:
        """Read from a message on; begin again at the next one after any fault."""
        while True:
            self.next = sequence = max(sequence, 1)
            subscription = None
            try:
                consumer = self._consumer = await self._begin(sequence)
                inbox = self._client.new_inbox()
                subscription = await self._client.subscribe(f"{inbox}.*")
                expected = 1
                for number in itertools.count():
                    await self._wait_for_room()
                    to = f"{inbox}.{number}"
                    async for message in self._pull(consumer, to, subscription):
                        at = message.metadata.sequence
                        if at.consumer != expected:
                            raise ConnectionError("a message was lost between the server and here")
                        expected, sequence = expected + 1, at.stream + 1
                        self.next = sequence
                        self._take(message)
            except Exception as error:
                self._note(error)
            finally:
                if subscription is not None:
                    with suppress(Exception):
                        await subscription.unsubscribe()
            await asyncio.sleep(AGAIN)

    def _note(self, error: Exception) -> None:
        """Tell of a fault, if it is not over at the next attempt, or the one after."""
        logger.debug("NATS, %s: read again: %r", self._stream, error)
        self._faults += 1
        if self._faults == FAULTS:
            text = "NATS, %s: it cannot be read: %s. It is tried again and again."
            logger.warning(text, self._stream, error)

    def _works(self) -> None:
        if self._faults >= FAULTS:
            logger.warning("NATS, %s: it can be read again", self._stream)
        self._faults = 0

    async def _begin(self, sequence: int) -> str:
        name = f"{self._name}-{uuid.uuid4().hex}"
        config = ConsumerConfig(
            name=name,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=sequence,
            ack_policy=AckPolicy.NONE,
            filter_subject=self._subject,
            inactive_threshold=LIFE,
            num_replicas=1,
            mem_storage=True,
        )
        info = await self._js.add_consumer(self._stream, config=config)
        self.pending = info.num_pending
        return name

    async def _pull(self, consumer: str, inbox: str, subscription: Any) -> AsyncIterator[Any]:
        """Ask for messages, and yield them as they come, until that request ends."""
        largest = max(BATCH_BYTES, 2 * self._client.max_payload)
        request = {
            "batch": BATCH,
            "max_bytes": largest,
            "expires": int(_EXPIRES * 1e9),
            "idle_heartbeat": int(_HEARTBEAT * 1e9),
        }
        subject = f"{self._api}.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
        await self._client.publish(subject, json.dumps(request).encode(), reply=inbox)
        left = BATCH
        while left:
            message = await subscription.next_msg(timeout=2.5 * _HEARTBEAT)
            if message.reply or (message.headers or {}).get("Status") == "100":
                self._works()
            if message.reply:
                left -= 1
                yield message
                continue
            if message.subject != inbox:
                continue  # about an earlier request
            status = (message.headers or {}).get("Status")
            text = (message.headers or {}).get("Description", "")
            if status in _CALM or (status == "409" and "MaxBytes" in text):
                return
            if status != "100":
                raise ConnectionError(f"{status} {text}")

    def _take(self, message: Any) -> None:
        at = message.metadata
        name = message.subject.rpartition(".")[2]
        decode = partial(_decode, name)
        self.pending = at.num_pending
        when = at.timestamp.timestamp()
        self._mailbox.put(Message(self._stream, at.sequence.stream, message.data, decode, when))

    async def _wait_for_room(self) -> None:
        while not self._mailbox.has_room:
            self._room.clear()
            if not self._mailbox.has_room:  # it may have changed before
                await self._room.wait()


def where_to_begin(record: Record, created: str, first: int, last: int) -> tuple[Start, str | None]:
    """Return from where to read a stream, and what to warn of.

    Parameters
    ----------
    record : Record
        What was committed.
    created : str
        When the stream was made.
    first, last : int
        Of the messages that it has.
    """
    offset, first = record.start.offset, max(first, 1)
    if record.stream in ("", created) and offset <= last + 1:
        if offset >= first:
            return record.start, None
        start = Start(first, record.start.seen)
        if not offset:
            return start, None
        return start, (
            f"its limits removed the messages from {offset} to {first - 1} before their runs were"
            " stored. If there were documents among them, runs lack rows, or are missing."
        )
    text = "this is not the stream that was read before; it is read from its beginning"
    return Start(first), text


def _decode(name: str, data: bytes) -> Pair:
    return pair(name, unpack(data))
