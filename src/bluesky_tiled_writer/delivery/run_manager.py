"""The runs of a writer on their way to Tiled: opened, waited for, recovered, counted."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Any

from bluesky_tiled_writer.errors import DuplicateRun, JournalError, NotStored, StorageError
from bluesky_tiled_writer.journal import Backup, DocumentCopies, JournalDirectory, JournalFile
from bluesky_tiled_writer.run import Known

from .jobs import Job
from .pipeline import Settings, count_rows
from .recovery import OrphanSearch, Recovery, options_of, settings_for
from .run_job import RunJob
from .run_lock import under_way
from .sender import Sender
from .status import State, Status

logger = logging.getLogger("bluesky_tiled_writer")

PATIENCE = 1.0
"""Seconds that write-through waits for a server that answers slowly, before it waits no more."""


class RunManager:
    """All runs that one writer has taken and not forgotten yet.

    Parameters
    ----------
    settings : Settings
        Of the runs.
    sender : Sender
        Advances them.
    server : str
        Identity of the place in Tiled that gets them.
    place : hashable, optional
        The same, if it takes more to tell places apart within this process.
    journals : JournalDirectory, optional
        Where documents are kept until they are stored.
    timeout : float
        Seconds that anybody waits, unless they say otherwise.
    max_pending_bytes : int
        Bytes of rows of a run in memory; see `Pipeline`.
    to_the_end : bool
        Whether a run is waited for until all is done, and not only until it can be read.
    """

    def __init__(
        self,
        settings: Settings,
        sender: Sender,
        server: str,
        *,
        place: Hashable = None,
        journals: JournalDirectory | None,
        timeout: float,
        max_pending_bytes: int,
        to_the_end: bool = False,
    ) -> None:
        self.server = server
        self._place = (server, place)
        self._settings = settings
        self._sender = sender
        self._journals = journals
        self._timeout = timeout
        self._max_pending = max_pending_bytes
        self._to_the_end = to_the_end
        self._runs: list[RunJob] = []
        self._known: dict[str, Callable[[], Known]] = {}
        self._rows_of_forgotten = 0
        self._stalled = False
        self._closed = False
        self._told_of_another = False

    # -- runs -----------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise an error if no documents can be taken any more."""
        self._check_process()
        if self._closed:
            raise StorageError("This TiledWriter is closed.", hint="Make another one.")

    def _check_process(self) -> None:
        if not self._sender.of_this_process:
            raise StorageError(
                "This TiledWriter belongs to another process, from which this one was forked off.",
                hint="Make a client and a TiledWriter in each process.",
            )

    def open(self, uid: str, backup: Backup | None) -> RunJob:
        """Begin a run.

        Raises
        ------
        DuplicateRun
            If it is on its way through another writer of this process, and there is no place to
            wait for that.
        """
        self.check_usable()
        self._forget_stored()
        journal, failure = self._new_journal(uid)
        copies = DocumentCopies(uid, journal, failure, backup, in_file=uid in self._known)
        self._look_for_another(uid, copies)
        run = RunJob(
            uid,
            self._settings,
            self._sender,
            copies,
            nodes=self._nodes(uid),
            max_pending_bytes=self._max_pending,
            timeout=self._timeout,
            known=self._known.pop(uid, None),
        )
        self._add(run)
        return run

    def announce(self, uid: str, documents: Callable[[], Iterable[tuple[str, Any]]]) -> None:
        """Know all documents of a run before it is opened, in case that Tiled holds some of it."""
        self._known[uid] = lambda: self.count(documents)

    def count(self, documents: Callable[[], Iterable[tuple[str, Any]]]) -> Known:
        """What documents of a run give."""
        return count_rows(documents(), self._settings)

    def cancel(self, run: RunJob) -> None:
        """Forget a run whose start document was not taken."""
        run.cancel()
        self._runs.remove(run)
        self._sender.wake(run)

    def _add(self, run: RunJob) -> None:
        for earlier in list(self._runs):
            if earlier.uid == run.uid and earlier.over:  # set aside, or done
                self._forget(earlier)
        run.turn.line_up()
        self._runs.append(run)
        self._sender.add(run)

    def _nodes(self, uid: str) -> Hashable:
        """What stands for the nodes of a run."""
        return (self._place, uid)

    def _look_for_another(self, uid: str, copies: DocumentCopies) -> None:
        """See whether a run goes on in another writer of this process, which people should know."""
        if all(turn.complete for turn in under_way(self._nodes(uid))):
            return
        if copies.must_vouch:
            raise DuplicateRun(
                f"The run {uid!r} is on its way through another TiledWriter of this process to"
                f" {self.server}.",
                hint="Is one subscribed twice? Unsubscribe this one, or let it have a journal to"
                " wait in.",
            )
        if self._told_of_another:
            return
        self._told_of_another = True
        logger.warning(
            "Run %s is on its way through another TiledWriter of this process to %s. Is one"
            " subscribed twice? This one waits, then looks whether anything is missing.",
            uid,
            self.server,
        )

    def _new_journal(self, uid: str) -> tuple[JournalFile | None, JournalError | None]:
        if self._journals is None:
            return None, None
        try:
            return self._journals.create(uid, self.server, options_of(self._settings)), None
        except JournalError as error:
            logger.error(
                "Run %s has no journal, and goes on from memory, which the end of this process"
                " would lose. %s",
                uid,
                error,
            )
            return None, error

    def _forget_stored(self) -> None:
        for run in list(self._runs):
            if run.over and run.error is None:
                self._forget(run)

    def _forget(self, run: RunJob) -> None:
        self._rows_of_forgotten += run.rows_stored
        self._runs.remove(run)

    def write_through(self, run: RunJob, name: str, doc: Any) -> None:
        """Take a document of a run, and wait until it is in Tiled."""
        run.take(name, doc)
        target = run.taken
        self._sender.wake(run)
        if run.copies.must_vouch:
            self._wait_or_tell(run, lambda: run.delivered >= target)
            return
        if not run.turn.come or (self._stalled and run.delivered < target - 1):
            return  # not for another run, nor for a server that is slow or down
        self._sender.wait(
            lambda: run.delivered >= target or run.error is not None or self._sender.down, PATIENCE
        )
        self._stalled = run.delivered < target

    def wait_stored(self, run: RunJob) -> None:
        """Wait until a run is stored, or it is known that it cannot be soon."""
        if self._timeout > 0 and run.copies.must_vouch:
            self._wait_or_tell(run, lambda: self._is_stored(run))
            return
        # Whoever waited for the turn of another run has waited long enough.
        self._sender.wait(
            lambda: (
                self._is_stored(run)
                or run.error is not None
                or self._sender.down
                or not run.turn.is_near
            ),
            max(0.0, self._timeout),
        )
        if run.error is not None:
            run.back_up(run.error)
            if run.copies.must_tell:
                raise run.error
        elif not run.stored and self._timeout > 0:
            run.back_up(self._sender.last_error)
            where = "its journal" if run.copies.journaled else "memory"
            logger.warning("Run %s is not in Tiled yet; it waits in %s.", run.uid, where)

    def _is_stored(self, run: RunJob) -> bool:
        return run.over if self._to_the_end else run.stored

    def _wait_or_tell(self, run: RunJob, done: Callable[[], bool]) -> None:
        """Wait for what only this call can vouch for."""
        self._sender.wait(lambda: done() or run.error is not None, self._timeout)
        if run.error is not None:
            raise run.error
        if not done():
            raise NotStored(
                f"Run {run.uid!r} was not stored within {self._timeout} s.",
                hint="It goes on in the background; the end of this process would lose it."
                " Let TiledWriter have a journal (journal_directory=...).",
            ) from self._sender.last_error

    # -- all of them ----------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """See `TiledWriter.status`."""
        runs = list(self._runs)
        waiting = [run for run in runs if not run.at_rest]
        unsettled = [run.settled for run in waiting if run.delivered < run.taken]
        aside = {run.uid: str(run.error) for run in runs if run.error is not None}
        rows = sum(run.queue.rows for run in waiting)
        state: State = "writing" if unsettled or rows else "idle"
        if any(run.behind and not run.is_orphan for run in waiting):
            state = "behind"
        if self._sender.down or aside or any(run.copies.journal_failure for run in waiting):
            state = "degraded"
        return Status(
            state=state,
            runs=len(waiting),
            pending_rows=rows,
            pending_bytes=sum(run.queue.nbytes for run in waiting),
            oldest=time.monotonic() - min(unsettled) if unsettled else 0.0,
            rows_stored=self._rows_of_forgotten + sum(run.rows_stored for run in runs),
            server_down=self._sender.down,
            set_aside=aside,
            last_error=self._sender.last_error,
        )

    def flush(self, timeout: float | None) -> bool:
        """See `TiledWriter.flush`."""
        self._check_process()
        targets = [(run, run.taken) for run in list(self._runs)]
        for run, _ in targets:
            self._sender.wake(run)

        def done(run: RunJob, target: int) -> bool:
            if run.error is not None:
                return True
            return run.delivered >= target and (run.over or not run.stopped)

        self._sender.wait(
            lambda: all(
                run.turn.waits_for_documents or done(run, target) for run, target in targets
            ),
            self._timeout if timeout is None else timeout,
        )
        return all(done(run, target) for run, target in targets)

    def wait_for(self, uid: str, timeout: float | None) -> bool:
        """See `TiledWriter.wait_for`."""
        self._check_process()
        run = next((run for run in reversed(self._runs) if run.uid == uid), None)
        if run is None:
            return True
        done = self._sender.wait(lambda: run.at_rest, self._timeout if timeout is None else timeout)
        if run.error is not None:
            raise run.error
        return done and run.stored  # it is over, too, when it was left to another process

    def leave_to_parent(self) -> None:
        """In a child process: forget the runs, and their locks that nobody may ever release."""
        self._runs.clear()

    def close(self, timeout: float | None) -> bool:
        """See `TiledWriter.close`."""
        if not self._sender.of_this_process:
            return False
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        done = self.flush(max(0.0, deadline - time.monotonic()))
        self._closed = True
        if self._sender.close(max(0.5, deadline - time.monotonic())):
            for run in list(self._runs):
                if not run.stored:
                    run.back_up(self._sender.last_error)
                if not run.over:
                    run.let_go()
        return done

    def drop(self) -> None:
        """See to what is left when nobody refers to the writer any more."""
        if self._closed or not self._sender.of_this_process:
            return
        runs = [run for run in self._runs if not run.over]
        lost = [run.uid for run in runs if run.waiting and not run.stopped]
        for run in runs:
            run.abandon()
        if lost:
            warnings.warn(
                f"A TiledWriter was dropped with rows of open runs: {', '.join(lost)}. Call"
                " close(), or use it in a with statement.",
                ResourceWarning,
                stacklevel=2,
            )

    # -- runs of processes that are gone --------------------------------------------------------

    def recover_soon(self) -> None:
        """Have the sender look for runs that other processes left, if there is any journal."""
        if self._journals is not None and not self._journals.is_empty:
            self._sender.add(OrphanSearch(self._journals, self.server, self._adopt))

    def recover(self, timeout: float | None) -> list[Recovery]:
        """See `TiledWriter.recover`."""
        self.check_usable()
        if self._journals is None:
            raise StorageError(
                "There is no journal to recover runs from.", hint="Give a journal_directory."
            )
        deadline = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - time.monotonic())

        for search in self._searches:
            self._sender.wake(search)
        self._sender.wait(lambda: not self._searches, left())
        # Those set aside let go of their journals in the sender's thread.
        aside = [run for run in self._runs if run.error is not None and run.stopped]
        self._sender.wait(lambda: all(run.over for run in aside), left())
        for journal in self._journals.orphans(self.server):
            self._adopt(journal)
        runs = [run for run in list(self._runs) if run.is_orphan]
        self._sender.wait(
            lambda: all(run.at_rest or run.turn.waits_for_documents for run in runs), left()
        )
        recoveries = [Recovery.of(run) for run in runs]
        self._forget_stored()
        return recoveries

    @property
    def _searches(self) -> list[Job]:
        return [job for job in self._sender.jobs if isinstance(job, OrphanSearch)]

    def _adopt(self, journal: JournalFile) -> None:
        if journal.is_empty:  # the call that brought the start document never returned
            with suppress(JournalError):
                journal.remove()
            return
        uid = journal.header.uid
        run = RunJob(
            uid,
            settings_for(self._settings, journal),
            self._sender,
            DocumentCopies(uid, journal),
            nodes=self._nodes(uid),
            orphan=True,
        )
        self._add(run)
        self._sender.wake(run)
