"""The runs of a writer on their way to Tiled: opened, waited for, recovered, forgotten."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Any

from bluesky_tiled_writer.errors import DuplicateRun, JournalError, StorageError
from bluesky_tiled_writer.journal import DocumentCopies, JournalDirectory, JournalFile
from bluesky_tiled_writer.run import Known

from . import process
from .job_list import JobList, Load
from .jobs import ConnectJob, Destination, IgnoredRun
from .live_status import StatusSource
from .pipeline import count_rows
from .process import Owner
from .recovery import OrphanSearch, Recovery
from .resumption import LateStop, Links, resume
from .run_job import RunJob
from .run_journals import RunJournals
from .run_life import RunState
from .sender import Sender
from .settings import Settings
from .status import Status
from .waiting import wait_closed, wait_delivered, wait_stored

logger = logging.getLogger("bluesky_tiled_writer")

LET_GO = 5.0
"""Seconds after which a run for another container is released if its login may not write it."""


class RunManager:
    """All runs that one writer has taken and not forgotten yet.

    Parameters
    ----------
    settings : Settings
        Of the writer.
    sender : Sender
        Advances the jobs.
    destination : Destination
        The container in Tiled that gets the runs.
    journals : JournalDirectory, optional
        Has a journal for each run.
    """

    def __init__(
        self,
        settings: Settings,
        sender: Sender,
        destination: Destination,
        journals: JournalDirectory | None,
    ) -> None:
        self._settings = settings
        self._sender = sender
        self._destination = destination
        self._journals = RunJournals(journals, settings, destination)
        sender.each_turn = self._journals.mind_room
        self.jobs = JobList()
        self._announced: dict[str, Callable[[], Known]] = {}
        self._closed = self._dropped = False
        self._status_source = StatusSource(lambda: self.status, lambda: self._is_over)
        self._told_of_ignored = False
        self._orphans = None
        if journals is not None:
            self._orphans = OrphanSearch(journals, destination, sender, self._adopt)
        for other in process.register(self):
            other.use_login_of(self._sender)

    # -- runs -----------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise an error if no documents can be taken any more."""
        self._check_process()
        if self._closed:
            raise StorageError("This TiledWriter is closed.", hint="Make another one.")

    def _check_process(self) -> None:
        if not self._sender.of_this_process:
            raise StorageError(
                "This TiledWriter belongs to the process from which this one was forked.",
                hint="Make a client and a TiledWriter in each process.",
            )

    def open(self, uid: str) -> RunJob | IgnoredRun:
        """Open a run.

        Returns
        -------
        RunJob or IgnoredRun
            The latter if another writer of this process has the run.

        Raises
        ------
        DuplicateRun
            If the run is being recovered from its journal.
        """
        self.check_usable()
        self.jobs.forget_stored()
        with process.opening((self._destination.key, uid)) as owner:
            if owner in (Owner.OPEN, Owner.STOPPED):
                if owner is Owner.OPEN:
                    self._tell_of_ignored(uid)
                return IgnoredRun(uid)
            if owner is Owner.RECOVERING:
                raise DuplicateRun(
                    f"The run {uid!r} is being stored from the journal of an earlier process.",
                    hint="Send it again when that is done: TiledWriter.recover() waits for it.",
                )
            journal, failure = self._journals.create(uid)
            copies = DocumentCopies(
                uid,
                journal,
                failure,
                self._settings.new_backup(uid),
                in_file=uid in self._announced,
            )
            known = self._announced.pop(uid, None)
            return self._add(
                RunJob(uid, self._settings, self._destination, self._sender, copies, known=known)
            )

    def _tell_of_ignored(self, uid: str) -> None:
        if self._told_of_ignored:
            return
        self._told_of_ignored = True
        logger.warning(
            "Run %s is already being stored by another TiledWriter of this process, to %s. This"
            " one ignores it, and all others that come twice. Is one subscribed twice?",
            uid,
            self._destination.uri,
        )

    def announce(self, uid: str, documents: Callable[[], Iterable[tuple[str, Any]]] | None) -> None:
        """Know all documents of a run before its start, in case that Tiled holds some of it."""
        if documents is None:
            self._announced[uid] = lambda: Known(all_come=True)
        else:
            self._announced[uid] = lambda: count_rows(documents(), self._settings)

    def forget(self, uid: str) -> None:
        """Forget a run that somebody else stores."""
        for job in self.jobs:
            if job.uid == uid:
                self.cancel(job)

    def cancel(self, job: RunJob) -> None:
        """Forget a run whose start document was refused, or that somebody else stores."""
        job.cancel()
        self.jobs.remove(job)
        self._sender.wake(job)

    def _add(self, job: RunJob) -> RunJob:
        self.jobs.add(job)
        self._sender.add(job)
        return job

    def connect_later(self, connect: Callable[[], object]) -> None:
        """Let the sender make a connection that could not be made yet."""
        job = ConnectJob(connect)
        self._sender.add(job)
        self._sender.wake(job)

    # -- waiting --------------------------------------------------------------------------------

    def wait_stored(self, job: RunJob, *, here: bool = False) -> None:
        """Wait after the stop document of a run, which may go to several places.

        The last of its writers to get the stop document waits for all of them, whose servers work
        at the same time; unless this one has to wait `here`.
        """
        since = time.monotonic()
        others = [(m, found) for m in process.others(self) if (found := m.job_of(job.uid))]
        leaves_it = not (here or job.copies.only_caller_knows)
        if leaves_it and any(not found.life.has_stop for _, found in others):
            return
        for manager, found in [(self, job), *others]:
            manager.wait_here(found, since)

    def wait_here(self, job: RunJob, since: float) -> None:
        """Wait until a run is stored by this writer; see `waiting.wait_stored`."""
        wait_stored(job, self._sender, self._settings, since)

    def flush(self, timeout: float | None) -> bool:
        """See `TiledWriter.flush`."""
        self._check_process()
        return wait_delivered(
            list(self.jobs), self._sender, self._settings.timeout if timeout is None else timeout
        )

    def wait_for(self, uid: str, timeout: float | None) -> bool:
        """See `TiledWriter.wait_for`."""
        self._check_process()
        job = next((job for job in reversed(list(self.jobs)) if job.uid == uid), None)
        if job is None:
            return True
        return wait_closed(
            job, self._sender, self._settings.timeout if timeout is None else timeout
        )

    @property
    def status(self) -> Status:
        """See `TiledWriter.status`."""
        jobs, rows_before = self.jobs.now()
        return Status.of(
            jobs,
            rows_before=rows_before,
            trouble=self._sender.access.trouble,
            silence=self._sender.access.silence,
            last_error=self._sender.last_error,
            journals=self._journals.use,
            closed=self._is_over,
            source=self._status_source,
        )

    @property
    def load(self) -> Load:
        """See `TiledWriter.load`."""
        return Load.of(list(self.jobs))

    # -- the end --------------------------------------------------------------------------------

    def close(self, timeout: float | None) -> bool:
        """See `TiledWriter.close`."""
        if not self._sender.of_this_process:
            return False
        asked, timeout = timeout is not None, self._settings.timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        jobs = list(self.jobs)
        at_risk = any(job.copies.only_caller_knows for job in jobs if not job.finished)
        outlast = asked or at_risk
        done = wait_delivered(jobs, self._sender, timeout, outlast_outage=outlast)
        self._closed = True
        left = deadline - time.monotonic() if done or outlast else 0.0
        self._sender.close(max(0.5, left), self._release_all)  # it may be at a request
        process.unregister(self)
        return done

    def _release_all(self) -> None:
        """Leave what is not stored to others, when the sender has ended."""
        for job in self.jobs:
            if not job.life.stored:
                job.back_up(self._sender.last_error)
            if job.life.orphan and job.life.error is None and job.copies.journal is not None:
                process.forget_try(job.copies.journal.path)  # others may go on with it
            job.release()
        self._sender.access.rest()

    def drop(self) -> None:
        """See to what is left when the writer is gone."""
        if self._closed or not self._sender.of_this_process:
            return
        self._dropped = True
        jobs = [job for job in self.jobs if not job.finished]
        lost = [job.uid for job in jobs if job.waiting and not job.life.has_stop]
        for job in jobs:
            job.abandon()
        self._sender.rest_when_done()
        if lost:
            warnings.warn(
                f"A TiledWriter was dropped with rows of open runs: {', '.join(lost)}. Call"
                " close(), or use it in a with statement.",
                ResourceWarning,
                stacklevel=2,
            )

    # -- for the process ------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        return self._closed or self.unused

    @property
    def unused(self) -> bool:
        """True if the writer is gone, and nothing is left to send."""
        return self._dropped and not self._sender.at_work

    def owns(self, run: Hashable) -> Owner:
        """Return what job there is for a run, if any."""
        for job in self.jobs:
            given_up = job.finished or job.life.state is RunState.SET_ASIDE
            if (job.destination.key, job.uid) != run or given_up:
                continue
            if job.life.orphan:
                return Owner.RECOVERING
            return Owner.STOPPED if job.life.has_stop else Owner.OPEN
        return Owner.NONE

    def job_of(self, uid: str) -> RunJob | None:
        """Return the job of a run whose documents come from the caller, if it is not done."""
        for job in self.jobs:
            if job.uid == uid and not job.life.orphan and not job.finished:
                return job
        return None

    def use_login_of(self, sender: Sender) -> None:
        """Go on with the login of a new writer, if the server does not take that of this one."""
        self._sender.access.use_login_of(sender.access)

    def finish(self) -> None:
        """Send what waits, because the interpreter ends."""
        if self._sender.of_this_process and self._sender.at_work:
            for job in self.jobs:
                job.life.hurried = True
            self._sender.finish()

    def leave_to_parent(self) -> None:
        """Forget everything in a forked child, without taking a lock."""
        self.jobs.leave_to_parent()

    # -- runs of processes that are gone --------------------------------------------------------

    def recover_soon(self) -> None:
        """Let the sender look for runs that other processes left, if there is any journal."""
        if self._orphans is not None and not self._orphans.is_empty:
            self._sender.call_later(self._settings.flush_interval, self._orphans.search)

    def recover(self, timeout: float | None) -> list[Recovery]:
        """See `TiledWriter.recover`."""
        self.check_usable()
        if self._orphans is None:
            raise StorageError(
                "There is no journal to recover runs from.", hint="Give a journal_directory."
            )
        self._orphans.recover(lambda: list(self.jobs), timeout)
        recoveries = [Recovery.of(job) for job in self.jobs if job.life.orphan]
        self.jobs.forget_stored()
        return recoveries

    def resume(self, reference: Hashable) -> tuple[RunJob, Links] | None:
        """Take up a run that another process has left, by the uid of any of its documents."""
        if self._orphans is None or self._orphans.is_empty:
            return None
        self._orphans.search()  # for journals that were not looked at yet
        return resume(list(self.jobs), reference)

    def stop_late(self, stop: Any) -> None:
        """Give a run that other processes have stored its own stop document."""
        self._sender.add(
            job := LateStop(stop, self._destination.new_sink(self._settings.run.limits))
        )
        self._sender.wake(job)

    def _adopt(self, journal: JournalFile, destination: Destination) -> bool | None:
        """Take over a journal; return None for one whose run has a job now."""
        if journal.is_empty:  # the call that brought the start document never returned
            with suppress(JournalError):
                journal.remove()
            return False
        uid = journal.header.uid
        with process.opening((destination.key, uid)) as owner:
            if owner is not Owner.NONE:
                journal.close()
                return None
            job = self._add(
                RunJob(
                    uid,
                    self._settings.with_journal_options(journal.header.options),
                    destination,
                    self._sender,
                    DocumentCopies(uid, journal),
                    orphan=True,
                )
            )
        self._sender.wake(job)
        if destination is not self._destination:
            self._sender.call_later(LET_GO, self._let_go)
        return True

    def _let_go(self) -> None:
        """Release runs for other containers that this login may not write: another one may."""
        others = [job for job in self.jobs if job.destination is not self._destination]
        for job in others:
            if job.obstacle is not None:
                job.release()
        if any(not job.finished for job in others):
            self._sender.call_later(LET_GO, self._let_go)
