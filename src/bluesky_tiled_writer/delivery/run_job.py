"""The job of one run: its documents go to disk first, then through a pipeline to Tiled."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from bluesky_tiled_writer.errors import (
    DocumentsIncomplete,
    InvalidDocument,
    JournalError,
    NotStored,
    Retry,
    StorageError,
    TiledWriterError,
)
from bluesky_tiled_writer.journal import DocumentCopies
from bluesky_tiled_writer.run import Claim, Known, RunSummary

from .catch_up import CatchUp
from .jobs import Destination, Wakes
from .pipeline import Pending, Pipeline
from .pipeline_slot import PipelineSlot
from .run_life import SENDING, RunLife, RunState
from .settings import Settings
from .waiting import wait_for_room

logger = logging.getLogger("bluesky_tiled_writer")

MAX_RESTARTS = 5
"""Times that a run begins again because Tiled holds other rows than were sent."""

_TURNING_POINTS = frozenset({"start", "descriptor", "stop"})


class RunJob:
    """A run that is being stored: the caller brings its documents, the sender sends them.

    Parameters
    ----------
    uid : str
        Uid of the run.
    settings : Settings
        Of the writer.
    destination : Destination
        The container that gets the run.
    sender : Wakes
        Advances this job.
    copies : DocumentCopies
        Gets every document before anything else.
    orphan : bool
        True if all documents are in the journal, because the process that had them is gone.
    known : callable, optional
        Counts the rows of all documents that will come, if they are known beforehand.

    Attributes
    ----------
    life : RunLife
        The state of the run.
    already_stored : bool
        True if Tiled held the run before anything was sent.
    taken, delivered : int
        Documents that came, and how many of them are in Tiled.
    delivered_at : float
        When the last of these came, by the monotonic clock.
    is_told_of : bool
        True if the log has a problem of this run: then it also gets a line when that is over.
    obstacle : StorageError or None
        Why this run cannot be sent now, though others can.
    links : list of str
        Uids of other documents that lead to this run.
    """

    def __init__(
        self,
        uid: str,
        settings: Settings,
        destination: Destination,
        sender: Wakes,
        copies: DocumentCopies,
        *,
        orphan: bool = False,
        known: Callable[[], Known] | None = None,
    ) -> None:
        self.uid = uid
        self.life = RunLife(orphan=orphan)
        self.copies = copies
        self.already_stored = self.is_told_of = False
        self.taken = self.delivered = 0
        self.delivered_at = time.monotonic()
        self.obstacle: StorageError | None = None
        self.links: list[str] = []
        self._settings = settings
        self.destination = destination
        self._sender = sender
        self._known = known
        self._wake_for_rows = sender.wake_soon if settings.is_live else sender.wake
        self._keep = self._keep_otherwise if copies.journal is None else copies.journal.append
        self._catch_up = CatchUp(uid, copies.journal, settings, self.life)
        self._restarts, self._abandoned = 0, False
        self._claim = Claim(copies.token, self._documents)
        self._slot = PipelineSlot(self.life, None if orphan else self._new_pipeline())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uid!r}, {self.life.state.value}>"

    def _new_pipeline(self) -> Pipeline:
        return Pipeline(
            self._settings,
            self.destination.new_sink(self._settings.run.limits),
            self._on_stored,
            self._sender.run_concurrently,
            self.copies,
            self._claim,
        )

    def _documents(self) -> float:
        return math.inf if self.life.has_stop or self._known is not None else self.taken

    # -- the caller's thread --------------------------------------------------------------------

    def take(self, name: str, doc: Any) -> None:
        """Take a document: it is on disk, and on its way, when this returns.

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
            self._on_journal_failure(error)
            self._keep_otherwise(name, doc)
        live = self._slot.live  # once: the sender may set it aside, or begin again, at any time
        if live is not None:
            if live.feed(name, doc):
                self._on_ready(live)
            if name == "start" and not self.taken:
                live.check_held(self.uid, self._known)
        self.taken += 1
        if name in _TURNING_POINTS:
            if name == "stop":
                self.life.stop()
            self._sender.wake(self, rows=name == "stop")

    def _on_journal_failure(self, error: JournalError) -> None:
        """Go on from memory; a run that is behind has no memory, and is set aside."""
        self._keep = self._keep_otherwise
        if self.life.finished or self.life.stored:
            return  # the journal was removed, or released
        with self.life.lock:  # the sender decides by the journal whether it may begin again
            behind = self.life.behind
            news = self.copies.lose_journal(error)
        if behind:
            hint = "What came until then is in the journal; what comes now is not stored."
            text = f"{self.name} was being stored from its journal, which failed: {error}"
            self.set_aside(NotStored(text, hint=hint))
        elif news:
            self.copies.log_lost_journal(error)

    def _keep_otherwise(self, name: str, doc: Any) -> None:
        if not self.copies.copy_for_backup(name, doc) and self.life.error is not None:
            if name == "stop":
                self.life.stop()
                self._sender.wake(self)
            raise self.life.error

    def _on_ready(self, live: Pipeline) -> None:
        most = self._settings.max_pending_bytes
        if live.pending.nbytes > most:
            if self.copies.journaled:
                self._fall_behind()
                return
            wait_for_room(self, live, self._sender, self._settings)
        self._wake_for_rows(self)

    def _fall_behind(self) -> None:
        """Drop rows from memory, because the journal has them."""
        if not self._slot.drop_rows():
            return
        self._sender.wake(self)
        self.is_told_of = True
        text = "%s: Tiled takes rows more slowly than they come. They are stored from disk."
        logger.warning(text, self.name)

    def back_up(self, why: Exception | None) -> None:
        """Write the documents to the backup, if there is one."""
        self.copies.back_up(self.life.error or why or NotStored("it is not stored yet"))

    def leave_to_parent(self) -> None:
        """In a forked child: refuse documents, and leave the journal to the parent."""
        self._keep = self._refuse
        if self.copies.journal is not None:
            self.copies.journal.leave_to_parent()

    def _refuse(self, name: str, doc: Any) -> None:
        raise StorageError(
            f"Run {self.uid!r} belongs to the process from which this one was forked.",
            hint="Make a client and a TiledWriter in each process.",
        )

    # -- any thread -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the job in the log."""
        return f"Run {self.uid}"

    @property
    def pending(self) -> Pending:
        """Rows in memory that are not in Tiled yet."""
        return self._slot.pending

    @property
    def rows_stored(self) -> int:
        """Rows that were sent."""
        return self._slot.rows

    @property
    def summary(self) -> RunSummary:
        """A summary of the documents, for people."""
        return self._slot.summary

    @property
    def interrupted(self) -> bool:
        """True if the run had no stop document, and one was made."""
        return self._catch_up.interrupted

    # -- the sender's thread --------------------------------------------------------------------

    @property
    def progress(self) -> int:
        """A number that grows with what was sent."""
        return self._slot.progress

    @property
    def finished(self) -> bool:
        """True if there will never be anything to send again."""
        return self.life.finished

    @property
    def waiting(self) -> bool:
        """True if there is something to send."""
        if self.life.state not in SENDING:
            return False
        if self._slot.waiting:
            return True
        return self.life.behind and not self.life.stored and self._has_unread

    @property
    def _has_unread(self) -> bool:
        return self._slot.current is None or self.life.orphan or self._catch_up.unread

    def advance(self, rows: bool = True) -> None:
        """Send what waits, once it is on disk; see `Job`."""
        state = self.life.state  # once: a stop document may come at any time
        if state is RunState.PAUSED:
            self.sync()
            if self._abandoned:
                self.release()
            return
        if state not in SENDING or (state is RunState.STORED and self._slot.current is None):
            self._advance_to_the_end()
            return
        taken, now = self.taken, time.monotonic()
        pipeline = self._current_pipeline()
        if pipeline is None:
            return
        try:
            self._deliver(pipeline, rows)
        except StorageError as error:
            if not (self.life.stored and error.retry is Retry.WHEN_ALLOWED):
                raise
            self.set_aside(error)  # that subscribers are told is not worth waiting for
            return
        with self.life.lock:  # the caller may have dropped rows of it meanwhile
            if rows and self._slot.current is pipeline:
                self.delivered, self.delivered_at = taken, now
        if pipeline.progress.closed or (self.life.stored and self._slot.current is not pipeline):
            self._end()
        elif self._abandoned and not self.waiting:
            self.release()

    def _deliver(self, pipeline: Pipeline, rows: bool) -> None:
        if self.life.behind:
            self._catch_up.read_into(pipeline)
            self._check_stop(pipeline)
        else:
            pipeline.deliver(rows)

    def _advance_to_the_end(self) -> None:
        """Do what is left for a run of which nothing is sent any more."""
        self.delivered = self.taken
        if self.life.has_stop or self._abandoned:
            if not self.life.close():
                self.release()
            self._sender.notify()

    def _current_pipeline(self) -> Pipeline | None:
        """Return the pipeline to deliver from; a new one if the last one was dropped."""
        if self._slot.current is not None:
            return self._slot.current
        self._catch_up.rewind(check=not self._slot.is_checked)
        return self._slot.renew(self._new_pipeline())

    def _check_stop(self, pipeline: Pipeline) -> None:
        unread = self.life.orphan or self._catch_up.unread
        if self.life.has_stop and not unread and not pipeline.progress.closed:
            raise InvalidDocument(
                f"The stop document of run {self.uid!r} could not be processed.",
                hint="All else is stored; the log says what is wrong with it.",
            )

    def sync(self) -> None:
        """Flush the journal to disk."""
        self.copies.sync()

    def _on_stored(self) -> None:
        self._store()
        self._sender.notify()

    def _store(self) -> None:
        self.life.store()
        if self.is_told_of or self.copies.journal_failure is not None:
            logger.warning("%s is in Tiled now.", self.name)

    def _end(self) -> None:
        with self.life.lock:
            self._slot.drop(keep_rows=True)
            self.delivered = self.taken
        self.copies.remove(incomplete=self._catch_up.lost)
        if self.life.has_stop or self.life.orphan:
            self.life.close()
        self._sender.notify()

    # -- what the sender decides ----------------------------------------------------------------

    def begin_again(self, error: StorageError) -> None:
        """Send the run once more from its first document, without what Tiled holds."""
        self._restarts += 1
        incomplete = isinstance(error, DocumentsIncomplete)
        final = incomplete and self.life.behind and self.life.has_stop
        with self.life.lock:
            again = self.copies.journaled and not final and self._restarts <= MAX_RESTARTS
            if again:  # only all of the documents can be compared with rows that they lack so far
                self._slot.drop_rows(pause=incomplete)
        if not again:
            self.set_aside(error)

    def complete(self) -> None:
        """Take note that Tiled holds the run from start to stop."""
        logger.info("Run %s is already stored; nothing was sent.", self.uid)
        self.already_stored = True
        self._store()
        self._end()

    def set_aside(self, error: Exception) -> None:
        """Give the run up, except for its journal, because of an error that does not go away."""
        with self.life.lock:
            stored = self.life.stored
            if not stored:
                if not self.life.set_aside(error):
                    return
                self._slot.drop(keep_rows=True)
                self.is_told_of = True
        if stored:
            text = "%s is stored, but its live subscribers were not told of its end: %s"
            logger.warning(text, self.name, error)
            self._end()
            return
        traceback = None if isinstance(error, TiledWriterError) else error
        logger.error("%s was set aside: %s %s", self.name, error, self.copies, exc_info=traceback)
        if self.life.has_stop or self.copies.journal is None:
            self.back_up(error)
        if self.life.has_stop:
            self.release()
        self._sender.notify()

    def abandon(self) -> None:
        """Send what there is of a run that will never be stopped, then release its journal."""
        self._abandoned = True
        self._sender.wake(self)

    def cancel(self) -> None:
        """Forget the run: its start document was refused, or somebody else stores it."""
        with self.life.lock:
            self.life.cancel()
            self._slot.drop(keep_rows=False)
        self.copies.remove(incomplete=False)

    def release(self) -> None:
        """Leave what is not stored to the process that finds the journal."""
        if self.life.release():
            self.copies.release()
