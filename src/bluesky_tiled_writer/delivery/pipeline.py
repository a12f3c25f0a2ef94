"""The parts that the documents of a run go through, from normalizer to sink."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from bluesky_tiled_writer.journal import DocumentCopies
from bluesky_tiled_writer.normalizer import RunNormalizer
from bluesky_tiled_writer.run import (
    Arrivals,
    CheckHeld,
    Claim,
    ExecuteStep,
    Known,
    RunSummary,
    RunWriter,
    Sink,
    TaskQueue,
)

from .jobs import RunConcurrently, run_sequentially
from .settings import Settings
from .task_executor import Progress, TaskExecutor

logger = logging.getLogger("bluesky_tiled_writer")


@dataclass(frozen=True)
class Pending:
    """Rows in memory that are not in Tiled yet, and about how many bytes they take."""

    rows: int = 0
    nbytes: int = 0


class Pipeline:
    """The way of a run from documents to Tiled; one that failed is replaced by a new one.

    One thread feeds it, another one delivers.

    Parameters
    ----------
    settings : Settings
        Of the writer.
    sink : Sink
        Executes the steps.
    on_stored : callable
        Called by the thread that delivers when Tiled has the stop document.
    run_concurrently : callable, optional
        Calls functions that write to different nodes.
    copies : DocumentCopies, optional
        The copies of the documents outside of Tiled.
    claim : Claim, optional
        What entitles this process to write the run, if others may have it, too.
    """

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        on_stored: Callable[[], None] = lambda: None,
        run_concurrently: RunConcurrently = run_sequentially,
        copies: DocumentCopies | None = None,
        claim: Claim | None = None,
    ) -> None:
        self._queue = TaskQueue()
        self._writer = RunWriter(self._queue, settings.run, claim)
        self._on_stored = on_stored
        self._executor = TaskExecutor(sink, self._queue, self._stored, run_concurrently, copies)
        self._arrivals = Arrivals()
        self._remarks: list[str] = []
        # By uid of a descriptor, what takes its events.
        self._ways: dict[str, Callable[[Any], bool]] = {}
        self._normalizer = settings.new_normalizer()
        if self._normalizer is None:
            self._first: Any = self._writer
        else:
            self._first = self._normalizer
            self._normalizer.subscribe(self._writer.__call__)  # bound: Python calls it faster

    # -- documents in ---------------------------------------------------------------------------

    def feed(self, name: str, doc: Any) -> bool:
        """Take a document.

        Returns
        -------
        bool
            True if a stream has as many rows as should be stored together.

        Raises
        ------
        DocumentError
            If it cannot be stored as it is; nothing of it was.
        """
        if name == "event":
            if (take := self._ways.get(doc["descriptor"])) is not None:
                return take(doc)
            return self._take(name, doc)
        if name == "stop":
            self._remarks = self._arrivals.remarks(doc)
            for remark in self._remarks:
                self.note(remark)
        ready = self._arrivals.feed(name, doc, partial(self._take, name))
        if name == "descriptor":
            self._connect(doc.get("uid"))
        return ready

    def _take(self, name: str, doc: Any) -> bool:
        self._first(name, doc)
        return self._writer.take_ready()

    def _connect(self, descriptor: Any) -> None:
        """Let events skip a normalizer that leaves them alone; subclasses may want to see them."""
        normalizer = self._normalizer
        buffer = self._writer.buffer(descriptor)
        take: Callable[[Any], bool] = partial(self._take, "event")
        if buffer is not None and (
            normalizer is None
            or (type(normalizer) is RunNormalizer and normalizer.leaves_alone(descriptor))
        ):
            take = buffer.event  # the short way: this is what a scan waits for
        if (way := self._arrivals.way(descriptor, take)) is not None:
            self._ways[descriptor] = way

    def _stored(self) -> None:
        for remark in self._remarks:
            logger.warning("Run %s: %s", self._writer.uid, remark)
        self._on_stored()

    def check_held(self, uid: str, known: Callable[[], Known] | None) -> None:
        """Compare what Tiled holds with the documents before anything is sent."""
        self._queue.add(ExecuteStep(CheckHeld(uid, known)))

    def note(self, text: str) -> None:
        """Add a note to the metadata of the run."""
        if text not in self._writer.notes:
            self._writer.notes.append(text)

    def stop_past_normalizer(self, stop: dict[str, Any]) -> None:
        """Take a stop document that the normalizer has failed on."""
        self._writer("stop", stop)

    @property
    def started(self) -> bool:
        """True if there was a start document."""
        return self._writer.started

    @property
    def num_events(self) -> dict[str, int]:
        """Rows of each stream that came so far."""
        return self._writer.num_events

    @property
    def summary(self) -> RunSummary:
        """A summary of the documents so far."""
        return self._writer.summary

    # -- to Tiled -------------------------------------------------------------------------------

    def deliver(self, rows: bool = True) -> None:
        """Send all that waits now; see `TaskExecutor.deliver`."""
        self._executor.deliver(rows)

    @property
    def progress(self) -> Progress:
        """Counts of what was delivered."""
        return self._executor.progress

    @property
    def pending(self) -> Pending:
        """Rows in memory that are not delivered yet."""
        return Pending(self._queue.rows, self._queue.nbytes)

    @property
    def waiting(self) -> bool:
        """True if there is something to deliver."""
        return self._queue.waiting

    def clear(self) -> None:
        """Forget what waits: it will not be delivered from here."""
        self._queue.clear()

    def forget_rows(self) -> None:
        """Forget what waits, but not the streams: only the number of rows is wanted."""
        self._queue.gather()
        self._queue.forget_tasks()


ROWS_AT_ONCE = 50_000
"""Documents that are counted before their rows are dropped from memory."""


class _NoSink:
    """Takes no step, because nothing is delivered."""

    def execute(self, step: Any) -> None:
        raise NotImplementedError


def count_rows(documents: Iterable[tuple[str, Any]], settings: Settings) -> Known:
    """Count the rows of each stream that the documents of a run make in Tiled."""
    pipeline = Pipeline(settings, _NoSink())
    stop = None
    for number, (name, doc) in enumerate(documents, 1):
        if name == "stop":
            stop = doc.get("uid")
        with suppress(Exception):  # a document that is refused makes no rows
            pipeline.feed(name, doc)
        if number % ROWS_AT_ONCE == 0:
            pipeline.forget_rows()
    return Known(pipeline.num_events, stop)
