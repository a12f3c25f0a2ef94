"""The consumer: takes documents from a bus, and stores their runs in Tiled."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from event_model import DocumentNames

from bluesky_tiled_writer.delivery import Status
from bluesky_tiled_writer.errors import DocumentError, InvalidDocument, StorageError
from bluesky_tiled_writer.run import OpenRuns, RunIndex
from bluesky_tiled_writer.writer import TiledWriter

from .directory import Directory
from .positions import Positions
from .set_aside import SetAside
from .source import Message, MessageSource, Start

logger = logging.getLogger("bluesky_tiled_writer")

AT_ONCE = 0.2
"""Seconds to wait for messages before a look at what has been stored meanwhile."""
COMMIT_EVERY = 1.0
"""Seconds between commits, at least."""
MOST_PENDING = 32 * 2**20
"""Bytes of rows that wait for Tiled, beyond which a bus that keeps messages is left alone."""
MOST_RUNS = 1000
"""Runs that wait for Tiled, beyond which a bus that keeps messages is left alone."""
LOOK_EVERY = 2**20
"""Bytes of messages between two looks at what waits."""
REMEMBERED = 10_000
"""Finished runs that are remembered, so that their documents are known if they come again."""
ABANDONED_AFTER = 24 * 3600.0

_WITHOUT_RUN = frozenset({"resource", "datum", "datum_page", "bulk_datum", "bulk_events"})
"""Kinds of documents that may belong to a run without saying so: the writer finds out."""


@dataclass
class _Run:
    """A run that is not known to be stored yet; `last` is when its last document was published."""

    partition: str
    last: float
    stopped: bool = False


class Consumer:
    """Takes documents from a bus, and stores their runs in Tiled.

    **The bus is the journal**, if it keeps messages: what is committed there is the start document
    of the oldest run that Tiled does not hold to its end. Whenever a consumer ends, the next one
    gets everything after that again, and sends what Tiled lacks. A bus that keeps nothing has a
    journal on disk, as any `TiledWriter` has.

    Messages that cannot be stored are set aside in a file, and runs that Tiled refuses as journals,
    in the `directory`; all others go on.

    Parameters
    ----------
    source : MessageSource
        The bus; see `KafkaSource`, `NatsSource` and `ZmqSource`.
    client : tiled.client.base.BaseClient or str
        The container in Tiled that gets the runs, or its URI; then the server may be down.
    directory : str or Path, optional
        For what is set aside, and for copies of the runs that are under way, which may be lost; by
        default in the user's state directory.
    abandoned_after : float
        Seconds without a document after which a run that has no stop document is closed as
        interrupted. Until then everything since its start comes again to each new consumer.
    **options
        Options of `TiledWriter`. With a URI, those of `tiled.client.from_uri`, too.

    Attributes
    ----------
    writer : TiledWriter
        Stores the runs.
    set_aside : SetAside
        What could not be stored.
    documents, runs_stored : int
        How many documents came, and how many runs were stored to their end.
    """

    def __init__(
        self,
        source: MessageSource,
        client: Any,
        *,
        directory: str | Path | None = None,
        abandoned_after: float = ABANDONED_AFTER,
        **options: Any,
    ) -> None:
        self.source = source
        self.documents = self.runs_stored = 0
        self._directory = Directory(directory, source.name)
        self.set_aside = SetAside(self._directory.set_aside)
        if source.keeps:
            options["journal_directory"] = self._directory.make_scratch()
        # A call never waits, and what waits in memory is bounded here.
        make = TiledWriter.from_uri if isinstance(client, str) else TiledWriter
        self.writer: TiledWriter = make(client, **{"timeout": 0.0, **options})
        self._abandoned_after = abandoned_after
        self._index, self._open = RunIndex(), OpenRuns()
        self._partitions: dict[str, Positions] = {}
        self._runs: dict[str, _Run] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()
        self._told: OrderedDict[str, None] = OrderedDict()
        self._committed: dict[str, Start] = {}
        self._next_commit = 0.0
        self._bytes_since_look = 0
        self._paused = False
        self._stopping = threading.Event()
        self.last_pass = time.monotonic()

    # -- the loop -------------------------------------------------------------------------------

    def run(self, timeout: float = 30.0) -> None:
        """Take documents until `stop` is called from a signal handler or another thread.

        Parameters
        ----------
        timeout : float
            Seconds at the end to store what is in hand.
        """
        self.source.open(self)
        try:
            while not self._stopping.is_set():
                self.step()
        finally:
            self.close(timeout)

    def stop(self) -> None:
        """Let `run` end soon."""
        self._stopping.set()

    def step(self, timeout: float = AT_ONCE) -> int:
        """Take what has come, and let the bus know what is stored; return how many documents."""
        messages = self.source.receive(timeout)
        for message in messages:
            self._take(message)
            self._bytes_since_look += len(message.data)
            if self._bytes_since_look > LOOK_EVERY:
                self._mind_memory()
        self._mind_memory()
        self._settle()
        if not messages and not self._paused:
            self._stop_abandoned()
        self._commit()
        self.last_pass = time.monotonic()
        return len(messages)

    def close(self, timeout: float = 30.0) -> None:
        """Store what is in hand, within `timeout` seconds, and leave the bus to others."""
        try:
            if self._directory.is_scratch:
                self.writer.flush(timeout)
                self._settle()
                self._commit(at_once=True)
                self._forget(list(self._runs))
            self.source.close()
        finally:
            self.writer.close(0.0 if self._directory.is_scratch else timeout)
            self._directory.close()

    # -- partitions -----------------------------------------------------------------------------

    def assign(self, partition: str, start: Start) -> None:
        """Take note that the messages of a partition come from now on."""
        logger.info("%s, %s: from message %d on", self.source.name, partition, start.offset)
        self._partitions[partition] = Positions(start)
        self._committed[partition] = start

    def revoke(self, partitions: Iterable[str]) -> Mapping[str, Start]:
        """Leave partitions to another consumer, which sends what of their runs Tiled lacks."""
        self._settle()
        starts = {}
        for partition in partitions:
            if (positions := self._partitions.pop(partition, None)) is None:
                continue
            starts[partition] = positions.start
            self._committed.pop(partition, None)
            self._forget([uid for uid, run in self._runs.items() if run.partition == partition])
            logger.info("%s, %s: left to another consumer", self.source.name, partition)
        return starts

    def _forget(self, uids: Iterable[str]) -> None:
        """Send nothing more of runs: all of their documents come again, to the next consumer."""
        for uid in uids:
            self.writer.forget(uid)
            self._drop(uid)

    def _drop(self, uid: str) -> None:
        del self._runs[uid]
        self._index.forget(uid)
        self._open.discard(uid)

    # -- messages -------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        positions = self._partitions.get(message.partition)
        if positions is None:
            return  # it was revoked meanwhile
        positions.take(message.offset)
        self.documents += 1
        try:
            name, doc = message.decode(message.data)
            uid = self._run_of(name, doc)
        except DocumentError as error:
            self._put_aside(message, error)
            return
        begins = name == "start" and uid is not None and uid not in self._runs
        if begins and uid is not None:
            self._begin(uid, message, positions)
        elif uid not in self._runs and self._leaves_out(name, doc, uid, message, positions):
            return
        try:
            self.writer(name, doc)
        except DocumentError as error:
            self._put_aside(message, error)
            if begins and uid is not None:
                positions.finish(uid)
                self._drop(uid)
            return
        except StorageError as error:  # there is no room for journals, and Tiled refuses it
            logger.error("%s, %s: not stored: %s", self.source.name, _place(message), error)
        if uid in self._runs:
            self._count(uid, name, doc, message.time)

    def _run_of(self, name: str, doc: Mapping[str, Any]) -> str | None:
        if name not in DocumentNames.__members__:
            raise InvalidDocument(f"There is no kind of document called {name!r}.")
        try:
            return self._index.run_of(name, doc)
        except Exception as error:
            raise InvalidDocument(f"This is no {name} document: {error!r}.") from error

    def _begin(self, uid: str, message: Message, positions: Positions) -> None:
        self._finished.pop(uid, None)
        positions.begin(uid, message.offset)
        self._runs[uid] = _Run(message.partition, message.time)
        if self.source.keeps:
            self.writer.announce(uid)

    def _count(self, uid: str, name: str, doc: Mapping[str, Any], when: float) -> None:
        run = self._runs[uid]
        run.last = when
        run.stopped |= name == "stop"
        if name != "stop":  # one more may come
            self._open.add(uid, name, doc)

    def _leaves_out(
        self, name: str, doc: Mapping[str, Any], uid: str | None, message: Message, at: Positions
    ) -> bool:
        """Leave out a document whose start document did not come; return True if that was done."""
        if not self.source.keeps:
            return False  # its run may be in a journal: the writer takes it up, or says so
        if uid is None and name in _WITHOUT_RUN and not doc.get("run_start"):
            return False
        if uid in self._finished or at.came_before(message.offset):
            return True  # of a run that is stored; another one, which is not, began before its end
        reference = str(uid or doc.get("descriptor") or doc.get("resource"))
        text = f"the {name} document belongs to a run whose start document did not come"
        self.set_aside.put(self.source.name, message, f"{text}: {reference}", durable=True)
        if self._is_news(reference):
            logger.warning("%s, %s: %s: %s", self.source.name, _place(message), text, reference)
        return True

    def _put_aside(self, message: Message, error: DocumentError) -> None:
        self.set_aside.put(self.source.name, message, str(error), durable=self.source.keeps)
        if self._is_news(str(error)):
            logger.error("%s, %s is set aside: %s", self.source.name, _place(message), error)

    def _is_news(self, text: str) -> bool:
        news = text not in self._told
        _remember(self._told, text)
        return news

    # -- what is stored -------------------------------------------------------------------------

    def _settle(self) -> None:
        """Take note of the runs that are stored, or never will be."""
        stopped = [(uid, run) for uid, run in self._runs.items() if run.stopped]
        if not stopped:
            return
        set_aside = self.writer.load.set_aside
        for uid, run in stopped:
            if uid in set_aside:
                self._put_run_aside(uid, set_aside[uid])
            elif self._is_stored(uid):
                self.runs_stored += 1
            else:
                continue
            self._partitions[run.partition].finish(uid)
            self._drop(uid)
            _remember(self._finished, uid)

    def _is_stored(self, uid: str) -> bool:
        try:
            return self.writer.wait_for(uid, 0.0)
        except StorageError:  # it was set aside just now
            return False

    def _put_run_aside(self, uid: str, why: str) -> None:
        """Keep the journal of a run that Tiled refuses; the position goes on without it."""
        if self._directory.is_scratch:
            paths = self.set_aside.put_run(self._directory.scratch, uid)
            self.writer.forget(uid)
            where = ", ".join(map(str, paths))
            text = "Run %s is set aside as %s, for `bluesky-tiled-writer replay`: %s"
            logger.error(text, uid, where, why)
        else:
            self.set_aside.runs += 1

    def _stop_abandoned(self) -> None:
        """Close runs that have had no documents for long, because their program is gone."""
        now = time.time()
        for uid, run in self._runs.items():
            if not run.stopped and now - run.last > self._abandoned_after:
                logger.warning("Run %s: no documents came for long; it is interrupted", uid)
                self.writer("stop", self._open.stop_document(uid))
                run.stopped = True

    def _commit(self, *, at_once: bool = False) -> None:
        if not at_once and time.monotonic() < self._next_commit:
            return
        news = {
            partition: start
            for partition, positions in self._partitions.items()
            if (start := positions.start) != self._committed.get(partition)
        }
        if news:
            self.source.commit(news)
            self._committed.update(news)
            self._next_commit = time.monotonic() + COMMIT_EVERY

    # -- memory ---------------------------------------------------------------------------------

    def _mind_memory(self) -> None:
        """Take nothing from the bus while much waits for Tiled: the bus keeps it."""
        self._bytes_since_look = 0
        if not self.source.keeps:
            return
        load = self.writer.load
        full = max(load.pending_bytes / MOST_PENDING, load.runs / MOST_RUNS)
        if not self._paused and full > 1:
            self._paused = True
            self.source.pause()
        elif self._paused and full < 0.5:
            self._paused = False
            self.source.resume()

    # -- what an operator sees ------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """True while nothing is taken from the bus, because much waits for Tiled."""
        return self._paused

    @property
    def open_runs(self) -> int:
        """Runs that are not known to be stored."""
        return len(self._runs)

    @property
    def status(self) -> Status:
        """The status of the writer."""
        return self.writer.status


def _remember(known: OrderedDict[str, None], item: str) -> None:
    known[item] = None
    if len(known) > REMEMBERED:
        known.popitem(last=False)


def _place(message: Message) -> str:
    return f"{message.partition}, message {message.offset}"
