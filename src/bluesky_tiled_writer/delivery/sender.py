"""The thread that talks to Tiled: it decides when to send, and what a failure means.

Each run is a job. A job is advanced once in a `flush_interval`, and at once when something wakes
the sender. If that fails, either the server is away, for all jobs, until it answers again; or the
job is tried again after a pause; or it is set aside.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bluesky_tiled_writer.errors import (
    OutOfStep,
    RunComplete,
    StorageError,
    TooEarly,
)

from .access import LOOK_AT_CREDENTIALS, ServerAccess
from .attempts import Attempts
from .breaker import Trouble
from .jobs import Job, Server
from .settings import CONNECTIONS
from .workers import Workers

logger = logging.getLogger("bluesky_tiled_writer")

LIVE_INTERVAL = 0.1
"""Seconds between two requests for rows of a live run: rows that come faster share a request."""

PATIENCE = 0.4
"""Seconds without an answer after which those who wait ask whether the server is there."""

MOST_AHEAD = 0.25
"""Part of an interval by which rows are sent earlier, at most, for the time that sending takes."""


@dataclass(eq=False)
class _Entry:
    """A job, and when to advance it."""

    job: Job
    due: float
    urgent: bool = False  # as soon as possible
    rows_urgent: bool = False  # ... its rows, too
    soon: bool = False  # `due` was brought forward for a live run
    advanced: float = 0.0
    not_before: float = 0.0
    refused: object = None  # the credentials with which this was not allowed
    attempts: Attempts = field(default_factory=Attempts)


class Sender:
    """Advances jobs in a thread of its own, which lives as long as it has something to do.

    Parameters
    ----------
    server : Server
        Where the jobs are sent.
    flush_interval : float
        Seconds that anything waits, at most, before it is sent.
    connections : int
        Requests on different nodes that may be under way at the same time.
    exit_timeout : float
        Seconds that the end of the interpreter waits for what is left.
    clock : callable, optional
        Returns the time in seconds.

    Attributes
    ----------
    access : ServerAccess
        Whether anything can be sent to the server.
    last_error : Exception or None
        The last failure, even if it was overcome.
    each_turn : callable
        Called in the thread again and again; it returns at once, and raises nothing.
    """

    def __init__(
        self,
        server: Server,
        flush_interval: float,
        *,
        connections: int = CONNECTIONS,
        exit_timeout: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.last_error: Exception | None = None
        self.each_turn: Callable[[], object] = lambda: None
        self._interval = flush_interval
        self._exit_timeout = exit_timeout
        self._clock = clock
        self.access = ServerAccess(server, clock)
        # Guards the entries, the calls and the thread; notified when something was sent.
        self._condition = threading.Condition()
        self._entries: dict[int, _Entry] = {}
        self._calls: list[tuple[float, Callable[[], object]]] = []
        self._thread: threading.Thread | None = None
        self._workers = Workers(connections)
        self.run_concurrently = self._workers.run
        self._woken = self._closing = False
        self._at_end: Callable[[], object] = lambda: None  # called in the thread
        self._pid = os.getpid()

    # -- for other threads ----------------------------------------------------------------------

    @property
    def of_this_process(self) -> bool:
        """True if the thread is, or would be, in this process: not in a forked child."""
        return self._pid == os.getpid()

    @property
    def at_work(self) -> bool:
        """True if the thread has something to do."""
        return self._thread is not None

    @property
    def jobs(self) -> list[Job]:
        """The jobs that are advanced."""
        return [entry.job for entry in list(self._entries.values())]

    def add(self, job: Job) -> None:
        """Advance a job from now on."""
        with self._condition:
            self._entries[id(job)] = _Entry(job, self._clock() + self._interval)
            self._start()

    def call_later(self, delay: float, function: Callable[[], object]) -> None:
        """Call a function in the thread, after some seconds."""
        with self._condition:
            self._calls.append((self._clock() + delay, function))
            self._start()

    def _start(self) -> None:
        self._woken = True
        self._condition.notify_all()
        if self._thread is None and not self._closing:
            name = "bluesky-tiled-writer"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def wake(self, job: Job, *, rows: bool = True) -> None:
        """Advance a job at once; without `rows`, only what is not collected to be sent together."""
        entry = self._entries.get(id(job))
        if entry is None or (entry.urgent and (entry.rows_urgent or not rows)):
            return  # the flags are taken before what waits is
        with self._condition:
            entry.urgent = True
            entry.rows_urgent |= rows
            self._woken = True
            self._condition.notify_all()

    def wake_soon(self, job: Job) -> None:
        """Advance a job at once, or, if that was just done, after the rest of `LIVE_INTERVAL`."""
        entry = self._entries.get(id(job))
        if entry is None or entry.soon:
            return
        with self._condition:
            entry.soon = True
            entry.due = min(entry.due, entry.advanced + LIVE_INTERVAL)
            self._woken = True
            self._condition.notify_all()

    def notify(self) -> None:
        """Make those who wait look again."""
        with self._condition:
            self._condition.notify_all()

    def wait(self, until: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until something is true, `timeout` seconds at most; return whether it is.

        The wait ends with the thread that `close` has ended, too.
        """
        with self._condition:
            self._condition.wait_for(lambda: until() or self._ended, timeout)
            return until()

    def wait_for_server(self, until: Callable[[], bool], timeout: float) -> bool:
        """Wait as `wait` does, but no longer than the server answers.

        This asks the server itself while a request has no answer.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            known = self.wait(
                lambda: until() or self.access.trouble is not None, min(left, PATIENCE)
            )
            if known or self._ended or self.access.is_silent(PATIENCE):
                break
        return until()

    @property
    def _ended(self) -> bool:
        """True if nothing will ever change again."""
        return self._closing and self._thread is None

    def close(self, timeout: float, then: Callable[[], object] | None = None) -> None:
        """End the thread, after what it is at; return after `timeout` seconds at most.

        A function is called when the thread has ended: now, or by the thread itself.
        """
        with self._condition:
            self._closing = True
            self._condition.notify_all()
            thread = self._thread
        if then is not None:
            self._when_done(then)
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, timeout))

    def rest_when_done(self) -> None:
        """Close what is connected to the server as soon as there is nothing to do."""
        self._when_done(self.access.rest)

    def _when_done(self, function: Callable[[], object]) -> None:
        with self._condition:
            if self._thread is not None:
                self._at_end = function
                return
        function()

    def finish(self) -> None:
        """Send what waits, as far as that can be done in time, because the interpreter ends."""
        deadline = time.monotonic() + self._exit_timeout
        jobs = self.jobs
        for job in jobs:
            self.wake(job)

        def is_sent() -> bool:
            return not any(job.waiting and job.obstacle is None for job in jobs)

        if not self.wait_for_server(is_sent, self._exit_timeout):
            logger.warning("At exit, Tiled does not have everything yet; the journals do.")
        self.close(deadline - time.monotonic())

    # -- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            delay = self.turn()
            with self._condition:
                if self._closing or not (self._entries or self._calls):
                    end_workers, self._thread = self._workers.release(), None
                    at_end, self._at_end = self._at_end, lambda: None
                    self._condition.notify_all()
                    break
                if not self._woken:
                    self._condition.wait(delay)
                self._woken = False
        end_workers()
        at_end()

    def turn(self) -> float | None:
        """Do what is due.

        Returns
        -------
        float or None
            Seconds until there may be more to do; None if there is nothing.
        """
        self._call()
        self.each_turn()
        if self.access.is_closed and not self.access.open():
            for job in self.jobs:
                job.sync()
            self.notify()  # those who wait for the server stop waiting
            return self.access.next_check
        for entry in list(self._entries.values()):
            now = self._clock()
            due = entry.urgent or (now >= entry.due and entry.job.waiting)
            if due and self._may_try(entry, now) and not self._closing:
                self._advance(entry)
            if self.access.is_closed:
                break
        with self._condition:
            for key, entry in list(self._entries.items()):
                if entry.job.finished:
                    del self._entries[key]
            self._condition.notify_all()
            return self._delay()

    def _may_try(self, entry: _Entry, now: float) -> bool:
        """Return True after the pause that a failure calls for, or with other credentials."""
        if now >= entry.not_before:
            return True
        return entry.job.obstacle is not None and entry.refused != self.access.credentials

    def _delay(self) -> float | None:
        now = self._clock()
        times = [due for due, _ in self._calls]
        for entry in self._entries.values():
            due = now if entry.urgent else max(entry.due, now)
            if not entry.urgent and entry.due <= now:
                due = now + self._interval  # nothing waited
            due = max(due, entry.not_before)
            if entry.job.obstacle is not None:
                due = min(due, now + LOOK_AT_CREDENTIALS)
            times.append(due)
        return max(0.0, min(times) - now) if times else None

    def _call(self) -> None:
        """Call the functions that are due."""
        now = self._clock()
        with self._condition:
            due = [function for time, function in self._calls if time <= now]
            self._calls = [(time, function) for time, function in self._calls if time > now]
        for function in due:
            try:
                function()
            except Exception:  # it costs no run that is being stored
                logger.exception("A search for runs of other processes failed; see the traceback.")

    def _advance(self, entry: _Entry) -> None:
        now = self._clock()
        with self._condition:  # or what `wake` asks for right now would be forgotten
            rows = entry.rows_urgent or now >= entry.due
            entry.urgent = entry.rows_urgent = False
            if rows:
                entry.soon = False
                entry.advanced = now
                entry.due = now + self._interval
        try:
            entry.job.advance(rows)
        except RunComplete:
            self._unblock(entry)
            entry.job.complete()
        except TooEarly as error:
            self._try_again(entry, error.retry_after)
        except OutOfStep as error:
            logger.warning("%s", error)
            self._try_again(entry)
            entry.job.begin_again(error)
        except StorageError as error:
            self.last_error = error
            self._on_failure(entry, error)
        except Exception as error:  # a defect, here or in a normalizer: it costs this run only
            self.last_error = error
            entry.job.set_aside(error)
        else:
            self._on_success(entry, now, rows)

    def _on_success(self, entry: _Entry, began: float, rows: bool) -> None:
        entry.attempts.succeeded()
        self._unblock(entry)
        if rows:  # the next ones are to be in Tiled by then, not only on their way
            ahead = min(self._clock() - began, MOST_AHEAD * self._interval)
            with self._condition:
                entry.due -= ahead
        self.access.succeeded()

    def _on_failure(self, entry: _Entry, error: StorageError) -> None:
        verdict = entry.attempts.judge(error, entry.job.progress, self.access.healthy)
        if verdict.give_up:
            entry.job.set_aside(error)
            return
        if verdict.trouble is not Trouble.LOGIN:  # all runs wait for that, as long as it takes
            self._try_again(entry, error.retry_after)
        else:
            entry.urgent = entry.rows_urgent = True
        if verdict.blocked:
            self._block(entry, error)
        if verdict.trouble is not None and self.access.close(verdict.trouble, error):
            self.notify()

    def _block(self, entry: _Entry, error: StorageError) -> None:
        """Take note that a run may not be written now."""
        news = entry.job.obstacle is None
        entry.job.obstacle = error
        entry.refused = self.access.credentials
        if news:
            logger.warning(
                "%s has to wait, and is tried again now and then: %s",
                entry.job.name,
                error,
            )
            self.notify()

    def _unblock(self, entry: _Entry) -> None:
        """Take note that a run may be written."""
        if entry.job.obstacle is not None:
            entry.job.obstacle = None
            logger.warning("%s does not have to wait any more; going on.", entry.job.name)

    def _try_again(self, entry: _Entry, at_least: float = 0.0) -> None:
        entry.urgent = entry.rows_urgent = True
        entry.not_before = self._clock() + entry.attempts.pause(at_least)
