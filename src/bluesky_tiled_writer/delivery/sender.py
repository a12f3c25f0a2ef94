"""The thread that talks to Tiled: when to send, and what to do when that fails.

What is sent is the affair of the jobs, of which each run is one. A job is advanced every
`flush_interval`, and at once when it asks for it. When that fails, either the server is down, for
all jobs, until it answers again; or the job waits a moment; or it is set aside.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from bluesky_tiled_writer.errors import (
    OutOfStep,
    RequestRefused,
    RunComplete,
    ServerUnreachable,
    StorageError,
    StorageUnsupported,
    TooEarly,
)

from .breaker import Breaker
from .jobs import Job

logger = logging.getLogger("bluesky_tiled_writer")

CONNECTIONS = 8
"""Requests that are under way at the same time, at most, unless it is said otherwise."""

AWAY = frozenset({502, 503, 504})
"""Statuses by which a proxy says that the server behind it does not answer."""

BUSY = frozenset({408, 425, 429})
"""Statuses by which a server asks to come again later."""

MOST_AHEAD = 0.25
"""How much of an interval rows are sent ahead, at most, for the time that the server takes."""

MAX_FAILURES = 5
"""How often the same thing may fail while the server is healthy, until it is given up."""

MAX_DELAYS = 20
"""The same for failures that speak of trouble on the way rather than of the request."""


@dataclass(eq=False)
class _Entry:
    """A job, and when to advance it."""

    job: Job
    due: float
    urgent: bool = False
    rows_urgent: bool = False
    not_before: float = 0.0
    failures: int = 0
    outages: int = 0  # failures of which the server was not there
    progress: int = -1  # at the last failure


class Sender:
    """Advances jobs in a thread of its own, which lives as long as there are any.

    Parameters
    ----------
    healthy : callable
        Asks the server whether it is there.
    flush_interval : float
        Seconds that anything waits, at most, before it is sent.
    connections : int
        Requests on different nodes that are under way at the same time, at most.
    exit_timeout : float
        Seconds that the end of the interpreter waits for what is left.
    clock : callable, optional
        Gives the time in seconds.
    """

    def __init__(
        self,
        healthy: Callable[[], bool],
        flush_interval: float,
        *,
        connections: int = CONNECTIONS,
        exit_timeout: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.last_error: Exception | None = None
        self._healthy = healthy
        self._interval = flush_interval
        self._connections = connections
        self._exit_timeout = exit_timeout
        self._clock = clock
        self._breaker = Breaker()
        self._changed = threading.Condition()
        self._entries: dict[int, _Entry] = {}
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._woken = False
        self._closing = False
        self._pid = os.getpid()

    # -- for the threads that have documents ----------------------------------------------------

    @property
    def down(self) -> bool:
        """Whether the server is known not to answer."""
        return self._breaker.confirmed

    @property
    def of_this_process(self) -> bool:
        """Whether the thread is, or would be, in this process: not if it was forked off since."""
        return self._pid == os.getpid()

    @property
    def jobs(self) -> list[Job]:
        """What there is to advance."""
        return [entry.job for entry in list(self._entries.values())]

    def add(self, job: Job) -> None:
        """Advance a job from now on."""
        with self._changed:
            self._entries[id(job)] = _Entry(job, self._clock() + self._interval)
            self._woken = True
            if self._thread is None:
                name = "bluesky-tiled-writer"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
                _at_work.add(self)

    def wake(self, job: Job, *, rows: bool = True) -> None:
        """Advance a job at once; without `rows`, only what is not collected to be sent together."""
        with self._changed:
            if (entry := self._entries.get(id(job))) is not None:
                entry.urgent = True
                entry.rows_urgent |= rows
                self._woken = True
                self._changed.notify_all()

    def notify(self) -> None:
        """Have those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, until: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until something is true, `timeout` seconds at most; gives whether it is.

        It does not wait for a thread that was ended by `close`.
        """
        with self._changed:
            self._changed.wait_for(lambda: until() or self._ended, timeout)
            return until()

    @property
    def _ended(self) -> bool:
        """Whether nothing will ever change again."""
        return self._closing and self._thread is None

    def close(self, timeout: float) -> bool:
        """End the thread, after what it is at; False if that takes longer than `timeout`."""
        _at_work.discard(self)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(max(0.0, timeout))
        return not thread.is_alive()

    def finish(self) -> None:
        """At the end of the interpreter, send what waits, as far as that can be done in time."""
        deadline = time.monotonic() + self._exit_timeout
        jobs = self.jobs
        for job in jobs:
            self.wake(job)
        if not self.wait(lambda: self.down or not any(j.waiting for j in jobs), self._exit_timeout):
            logger.warning("At exit, Tiled does not have everything yet; the journals do.")
        self.close(deadline - time.monotonic())

    # -- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            delay = self.turn()
            with self._changed:
                if self._closing or not self._entries:
                    pool, self._pool, self._thread = self._pool, None, None
                    _at_work.discard(self)
                    self._changed.notify_all()
                    break
                if not self._woken:
                    self._changed.wait(delay)
                self._woken = False
        if pool is not None:
            pool.shutdown()

    def turn(self) -> float | None:
        """Do what is due.

        Returns
        -------
        float or None
            Seconds until there may be more to do; None if there are no jobs.
        """
        if self._breaker.open and not self._ask_server():
            for job in self.jobs:
                job.sync()
            return max(0.0, self._breaker.next_check - self._clock())
        for entry in list(self._entries.values()):
            now = self._clock()
            due = entry.urgent or (now >= entry.due and entry.job.waiting)
            if due and now >= entry.not_before and not self._closing:
                self._advance(entry)
            if self._breaker.open:
                break
        with self._changed:
            for key, entry in list(self._entries.items()):
                if entry.job.over:
                    del self._entries[key]
            self._changed.notify_all()
            return self._delay()

    def _delay(self) -> float | None:
        now = self._clock()
        times = []
        for entry in self._entries.values():
            due = now if entry.urgent else max(entry.due, now)
            if not entry.urgent and entry.due <= now:
                due = now + self._interval  # nothing waited
            times.append(max(due, entry.not_before))
        return max(0.0, min(times) - now) if times else None

    def _advance(self, entry: _Entry) -> None:
        now = self._clock()
        with self._changed:  # or what `wake` asks for right now would be forgotten
            rows = entry.rows_urgent or now >= entry.due
            entry.urgent = entry.rows_urgent = False
        if rows:
            entry.due = now + self._interval
        try:
            entry.job.advance(rows)
        except RunComplete:
            entry.job.complete()
        except TooEarly as error:
            self._try_again(entry, error.retry_after)
        except OutOfStep as error:
            logger.warning("%s", error)
            self._try_again(entry)
            entry.job.begin_again(error)
        except StorageError as error:
            self.last_error = error
            self._judge(entry, error)
        except Exception as error:  # a defect, here or in a normalizer: it costs this run only
            self.last_error = error
            entry.job.set_aside(error)
        else:
            entry.failures = entry.outages = 0
            if rows:  # the next ones are to be in Tiled by then, not only on their way
                entry.due -= min(self._clock() - now, MOST_AHEAD * self._interval)
            if self._breaker.succeeded():
                logger.warning("Tiled answers again; going on.")

    def _judge(self, entry: _Entry, error: StorageError) -> None:
        """Decide what a failure means."""
        status = error.status if isinstance(error, RequestRefused) else None
        if entry.job.progress != entry.progress:
            entry.progress, entry.failures, entry.outages = entry.job.progress, 0, 0
        away, limit = False, 0
        if isinstance(error, ServerUnreachable) or status in AWAY:
            away = True
        elif status in BUSY:
            limit = MAX_DELAYS
        elif error.uncertain or status == HTTPStatus.NOT_FOUND:  # or somebody deleted the node
            limit = MAX_FAILURES
            away = not self._healthy()
        if away:
            entry.outages += 1
            given_up = entry.outages > MAX_DELAYS
        else:
            entry.failures += 1
            given_up = entry.failures > limit
        if given_up:
            entry.job.set_aside(error)
            return
        self._try_again(entry, getattr(error, "retry_after", 0.0))
        if away and self._breaker.trip(self._clock()):
            logger.warning(
                "Tiled does not answer. What is measured meanwhile is kept, and stored when it"
                " does. %s",
                error,
            )

    def _try_again(self, entry: _Entry, at_least: float = 0.0) -> None:
        entry.urgent = entry.rows_urgent = True
        backoff = min(5.0, 0.05 * 2 ** min(entry.failures + entry.outages, 10))
        entry.not_before = self._clock() + max(backoff, min(at_least, 60.0))

    def _ask_server(self) -> bool:
        now = self._clock()
        if now < self._breaker.next_check:
            return False
        if not self._healthy():
            self._breaker.still_down(self._clock())
            self.notify()  # nobody waits for a server that is down
            return False
        self._breaker.answers()
        return True

    def run_concurrently(self, functions: Sequence[Callable[[], None]]) -> None:
        """Call functions at the same time; raises one of their errors when all have ended."""
        futures = []
        if len(functions) > 1 and self._connections > 1:
            if self._pool is None:
                name = "bluesky-tiled-writer"
                self._pool = ThreadPoolExecutor(self._connections, thread_name_prefix=name)
            # At the end of the interpreter, pools take nothing any more.
            with suppress(RuntimeError):
                futures = [self._pool.submit(function) for function in functions]
        if not futures:
            for function in functions:
                function()
        errors = [error for future in futures if (error := future.exception()) is not None]
        # One that cannot be worked around counts more than one that can.
        for error in sorted(errors, key=lambda error: isinstance(error, StorageUnsupported)):
            raise error


_at_work: set[Sender] = set()
"""Those with a thread, which are in use even if nobody refers to their writer any more."""


@atexit.register
def _finish_all() -> None:
    for sender in list(_at_work):
        if sender.of_this_process:
            sender.finish()
