"""One run between its documents and Tiled: on disk first, then on its way through a pipeline."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from typing import Any

from bluesky_tiled_writer.errors import (
    DocumentsIncomplete,
    InvalidDocument,
    JournalError,
    NotStored,
    StorageError,
    TiledWriterError,
)
from bluesky_tiled_writer.journal import DocumentCopies
from bluesky_tiled_writer.run import CheckHeld, ExecuteStep, Known, TaskQueue

from .catch_up import CatchUp, Feed
from .jobs import Pace
from .pipeline import Pipeline, Settings
from .run_lock import Turn

logger = logging.getLogger("bluesky_tiled_writer")

STARTED = 1
"""Tasks after which a run is in Tiled, and either new there or checked: start, then check."""

MAX_RESTARTS = 5
"""How often a run begins again because Tiled holds something else than it should."""


_CALLER = Feed.CALLER  # a member is found faster so, and every event of a scan asks


class RunJob:
    """A run that is being stored: documents come in by one thread, the sender's sends them.

    Parameters
    ----------
    uid : str
        Uid of the run.
    settings : Settings
        Of its pipeline.
    sender : Pace
        Advances this job.
    keeping : DocumentCopies
        Gets every document before anything else.
    nodes : hashable
        Stands for the nodes in Tiled that the run is stored in; see `Turn`.
    max_pending_bytes : int
        Bytes of rows beyond which they are dropped, since the journal has them; without a journal
        the caller waits then.
    timeout : float
        Seconds that the caller waits then.
    orphan : bool
        Whether the journal is all that there will be, since the process is gone that wrote it.
    known : callable, optional
        Tells what documents will come in all, if that is known.

    Attributes
    ----------
    stored : bool
        Whether Tiled has the run to its stop document.
    error : Exception or None
        Why the run was set aside.
    turn : Turn
        Ends when nothing of it is sent any more.
    is_orphan : bool
        Whether its documents come from an earlier process.
    taken, delivered : int
        Documents that came, and how many of them are in Tiled.
    settled : float
        When these were taken, by the monotonic clock.
    """

    def __init__(
        self,
        uid: str,
        settings: Settings,
        sender: Pace,
        copies: DocumentCopies,
        *,
        nodes: Hashable = None,
        max_pending_bytes: int = 64 * 2**20,
        timeout: float = 30.0,
        orphan: bool = False,
        known: Callable[[], Known] | None = None,
    ) -> None:
        self.uid = uid
        self.stored = False
        self.already_stored = False
        self.over = False
        self.error: Exception | None = None
        self.taken = 0
        self.delivered = 0
        self.settled = time.monotonic()
        self.links: list[str] = []  # uids of other documents that lead to this run
        self._settings = settings
        self._sender = sender
        self.copies = copies
        journal = copies.journal
        self._keep = self._keep_otherwise if journal is None else journal.append
        self._max_pending = max_pending_bytes
        self._timeout = timeout
        self.is_orphan = orphan
        self._known = known
        self._feed = Feed.JOURNAL if orphan else Feed.CALLER
        self._took_stop = False
        self._from_journal = CatchUp(
            uid, journal, settings, orphan=orphan, most_bytes=max_pending_bytes
        )
        self._abandoned = False
        self._restarts = 0
        self.turn = Turn(self, nodes, lambda: sender.wake(self))
        self._is_ours = False  # whatever Tiled holds of it
        self._pipeline = self._new_pipeline()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uid!r}, fed by {self._feed.name.lower()}>"

    def _new_pipeline(self) -> Pipeline:
        return Pipeline(
            self._settings,
            self._on_ready,
            self._on_stored,
            self._sender.run_concurrently,
            self._max_pending,
            self.copies,
        )

    # -- the caller's thread --------------------------------------------------------------------

    def take(self, name: str, doc: Any) -> None:
        """Take a document: it is on disk when this returns, and on its way.

        Raises
        ------
        DocumentError
            If it cannot be stored as it is.
        StorageError
            If the run cannot be stored, and there is neither a journal nor a backup.
        """
        try:
            self._keep(name, doc)
        except JournalError as error:
            if self._feed is not Feed.NOTHING:  # which gives up its journal
                self.copies.lose_journal(error)
                self._keep = self._keep_otherwise
            self._keep_otherwise(name, doc)
        # The sender may replace the pipeline at any time, after it has changed the feed.
        pipeline = self._pipeline
        if self._feed is _CALLER:
            if name == "event":  # the short way: this is what a scan waits for
                if (take := pipeline.straight.get(doc["descriptor"])) is None:
                    pipeline.feed(name, doc)
                elif take(doc):
                    self._on_ready()
                self.taken += 1
                return
            pipeline.feed(name, doc)
            if name == "start":
                pipeline.queue.add(ExecuteStep(CheckHeld(self.uid, self._known)))
        elif self.copies.journal_failure is not None and self.behind:
            self._keep_beyond(name, doc)
        self.taken += 1
        if name == "stop":
            self._took_stop = True
        if name in ("start", "descriptor", "stop"):
            self._sender.wake(self, rows=name == "stop")

    def _keep_otherwise(self, name: str, doc: Any) -> None:
        if not self.copies.keep_for_backup(name, doc) and self.error is not None:
            self._took_stop = self._took_stop or name == "stop"
            raise self.error

    def _keep_beyond(self, name: str, doc: Any) -> None:
        self._from_journal.keep_beyond(name, doc)
        if self._from_journal.overfull:
            self._hold_up(lambda: not self._from_journal.overfull)

    @property
    def stopped(self) -> bool:
        """Whether there was a stop document, in a call or in the journal of an orphan."""
        return self._took_stop or self._from_journal.stopped

    @property
    def interrupted(self) -> bool:
        """Whether there never was one, and it had to be made."""
        return self._from_journal.interrupted

    @property
    def behind(self) -> bool:
        """Whether rows were dropped from memory, and come from the journal."""
        return self._feed in (Feed.ANEW, Feed.JOURNAL)

    @property
    def queue(self) -> TaskQueue:
        """What is in memory and not stored yet."""
        return self._pipeline.queue

    @property
    def rows_stored(self) -> int:
        """Rows that were sent."""
        return self._pipeline.delivery.rows

    def back_up(self, why: Exception | None) -> None:
        """Put the documents into the backup, if there is one."""
        self.copies.back_up(self.error or why or NotStored("it is not stored yet"))

    def _on_ready(self) -> None:
        """See `RunWriter`: in this thread while the caller feeds the pipeline."""
        if self._feed is not Feed.CALLER:
            return
        queue = self.queue
        if queue.nbytes > self._max_pending:
            if self.copies.journaled:
                self._fall_behind()
                return
            self._hold_up(lambda: queue.nbytes <= self._max_pending)
        self._sender.wake(self)

    def _fall_behind(self) -> None:
        self._feed = Feed.ANEW
        self.queue.clear()
        logger.warning(
            "Run %s: Tiled takes rows more slowly than they come. They are kept on disk, and"
            " stored from there.",
            self.uid,
        )

    def _hold_up(self, has_room: Callable[[], bool]) -> None:
        """Wait for room in memory: there is no other place."""
        self._sender.wake(self)
        if not self._sender.wait(lambda: has_room() or self.error is not None, self._timeout):
            self.set_aside(
                NotStored(
                    f"Run {self.uid!r}: as much waits to be stored as memory may take.",
                    hint="Let TiledWriter have a journal (journal_directory=...), or more memory"
                    " (max_pending_bytes=...).",
                )
            )
        if self.error is not None and self.copies.must_tell:
            raise self.error

    # -- the sender's thread --------------------------------------------------------------------

    @property
    def progress(self) -> int:
        """How far it got."""
        return self._pipeline.delivery.tasks + self._pipeline.delivery.detours

    @property
    def at_rest(self) -> bool:
        """Whether nothing of it is sent any more."""
        return self.turn.ended

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        if not self.turn.come:
            return False
        if self._feed is Feed.JOURNAL:
            return self._unread or self.queue.waiting
        return self._feed is Feed.ANEW or self.queue.waiting

    @property
    def _unread(self) -> bool:
        if self.is_orphan and not self.stored:
            return True
        return self._from_journal.unread

    def advance(self, rows: bool = True) -> None:
        """Send what waits; see `Job`. It goes to Tiled when it is on the disk, not before."""
        if self._feed is Feed.NOTHING:
            self.delivered = self.taken
            if self.stopped or self._abandoned:
                self.let_go()
            return
        if not self.turn.come:
            self.sync()
            if self._abandoned:
                self.let_go()
            return
        taken = self.taken
        now = time.monotonic()
        if self._feed is Feed.ANEW:
            self._is_ours |= self._pipeline.delivery.tasks > STARTED
            self._from_journal.rewind(check=not self._is_ours)
            self._pipeline = self._new_pipeline()
            self._feed = Feed.JOURNAL
        if self._feed is Feed.JOURNAL:
            self._read_journal()
        else:
            self._pipeline.delivery.deliver(rows)
        if rows:
            self.delivered, self.settled = taken, now
        if self._pipeline.delivery.closed:
            self._end()
        elif self._abandoned and not self.waiting:
            self.let_go()

    def _read_journal(self) -> None:
        self._from_journal.read_into(self._pipeline)
        if self.stopped and not self._unread and not self._pipeline.delivery.closed:
            raise InvalidDocument(
                f"The stop document of run {self.uid!r} could not be processed.",
                hint="All else is stored; the log says what is wrong with it.",
            )

    def sync(self) -> None:
        """Have what was taken be on the disk."""
        self.copies.sync()

    def _on_stored(self) -> None:
        self.stored = True
        self._sender.notify()

    def _end(self) -> None:
        self._forget_rows()
        self.delivered = self.taken
        self.copies.done(incomplete=self._from_journal.lost)
        if self.stopped or self.is_orphan:
            self._rest()

    def _rest(self) -> None:
        self.over = True
        self.turn.end()

    def _forget_rows(self) -> None:
        self._feed = Feed.NOTHING
        self.queue.clear()
        self._from_journal.beyond.clear()

    # -- what the sender decides ----------------------------------------------------------------

    def begin_again(self, error: StorageError) -> None:
        """Send the run once more from its first document, leaving out what Tiled holds."""
        self._restarts += 1
        too_few = isinstance(error, DocumentsIncomplete)
        no_more = too_few and self._feed is Feed.JOURNAL and self.stopped
        if not self.copies.journaled or no_more or self._restarts > MAX_RESTARTS:
            self.set_aside(error)
            return
        self.turn.until_stop = too_few
        self._feed = Feed.ANEW

    def complete(self) -> None:
        """Take note that Tiled holds the run from start to stop."""
        logger.info("Run %s is already stored; nothing was sent.", self.uid)
        self.stored = self.already_stored = True
        self._end()

    def set_aside(self, error: Exception) -> None:
        """Give the run up, but for its journal, because of an error that does not go away."""
        if self.stored:
            logger.warning(
                "Run %s is stored, but who follows it live was not told of its end: %s",
                self.uid,
                error,
            )
            self._end()
            return
        self.error = error
        self._forget_rows()
        self.turn.end()
        logger.error(
            "Run %s was set aside: %s %s",
            self.uid,
            error,
            self.copies,
            exc_info=None if isinstance(error, TiledWriterError) else error,
        )
        if self.stopped or self.copies.journal is None:
            self.back_up(error)
        if self.stopped or self.is_orphan:
            self.let_go()
        self._sender.notify()

    def abandon(self) -> None:
        """Send what there is of a run that nobody will ever stop, then leave its journal."""
        self._abandoned = True
        self._sender.wake(self)

    def cancel(self) -> None:
        """Forget a run whose start document was not taken."""
        self._took_stop = True
        self._end()

    def let_go(self) -> None:
        """Leave what is not stored to whoever finds the journal."""
        self.copies.let_go()
        self._rest()
