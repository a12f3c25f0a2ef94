"""Documents from NATS JetStream, as bluesky-nats publishes them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bluesky_tiled_writer.errors import TiledWriterError

from .mailbox import Gained, Lost
from .nats_worker import Worker
from .source import Assignments, Message, Start

AT_ONCE = 500
"""Messages that are taken together."""
PATIENCE = 15.0
"""Seconds to disconnect."""


class NatsSource:
    """Subjects in a stream of NATS JetStream, which one consumer reads while others stand by.

    Subjects are ``<prefix>.<name of the document>``, and messages the document in msgpack. Runs may
    be interleaved: the header ``run_id`` is not looked at.

    Of all consumers with one name, one reads. Another one takes over at once if that one ends, and
    about 4 s after the last sign of one that was killed.

    Parameters
    ----------
    servers : str or iterable of str
        ``nats://host:4222``, of as many servers of a cluster as are known.
    subject : str
        Prefix of the subjects, in which ``*`` stands for any token, and ``>`` at the end for any
        number of them.
    stream : str, optional
        The stream; by default the one that has the subject. It has to be there, and to keep its
        messages (retention ``limits``) for longer than the longest run and an outage.
    name : str
        Of the consumers that share the work, and of the key-value bucket for their position, which
        is made if it is not there.
    domain : str, optional
        Domain of JetStream.
    **options
        Options of `nats.connect`: ``user_credentials``, ``tls``, ...
    """

    keeps = True

    def __init__(
        self,
        servers: str | Iterable[str] = "nats://localhost:4222",
        subject: str = "events.volatile",
        stream: str | None = None,
        name: str = "bluesky-tiled-writer",
        *,
        domain: str | None = None,
        **options: Any,
    ) -> None:
        if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
            raise TiledWriterError(
                f"{name!r} is no name for a bucket of NATS.", hint="Use letters, digits, - and _."
            )
        self.name = "NATS"
        options["servers"] = [servers] if isinstance(servers, str) else list(servers)
        pattern = subject if subject.endswith(">") else f"{subject}.*"
        self._worker = Worker(pattern, stream, name, domain, options)
        self._assignments: Assignments | None = None
        self._thread: threading.Thread | None = None
        self._epoch: int | None = None
        self._partition = ""

    def open(self, assignments: Assignments) -> None:
        """Connect, in the background."""
        self._assignments = assignments
        self._thread = threading.Thread(target=self._run, name="nats", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.run(self._worker.run())

    def receive(self, timeout: float) -> Sequence[Message]:
        """Return what has come."""
        if self._epoch is not None and not self._worker.reads(self._epoch):
            self._let_go()
        received: list[Message] = []
        for item in self._worker.mailbox.take(timeout, AT_ONCE):
            if isinstance(item, Message):
                received.append(item)
            elif isinstance(item, Exception):
                raise item
            else:
                received.clear()
                self._let_go()
                if not isinstance(item, Lost):
                    self._begin(item)
        return received if self._epoch is not None else []

    def _begin(self, gained: Gained) -> None:
        self._epoch, self._partition = gained.epoch, self._worker.stream
        if self._assignments is not None:
            self._assignments.assign(self._partition, gained.start)

    def _let_go(self) -> None:
        """Leave the stream to another consumer: the one that has the lease commits."""
        if self._epoch is not None and self._assignments is not None:
            self._epoch = None
            self._assignments.revoke([self._partition])

    def pause(self) -> None:
        """Receive nothing more, but hold the lease."""
        self._worker.mailbox.pause()

    def resume(self) -> None:
        """Receive messages again."""
        self._worker.mailbox.resume()

    def commit(self, starts: Mapping[str, Start]) -> None:
        """Commit with the next renewal of the lease, within a second."""
        if self._epoch is not None and self._partition in starts:
            self._worker.commit(self._epoch, starts[self._partition])

    def lag(self) -> int | None:
        """Return how many messages there are still, as of the last one that came."""
        if self._epoch is None or self._worker.pending is None:
            return None
        return self._worker.pending + self._worker.mailbox.messages

    def close(self) -> None:
        """Let another consumer go on at once, and disconnect."""
        if self._thread is not None:
            self._worker.close()
            self._thread.join(PATIENCE)
            self._thread = None
