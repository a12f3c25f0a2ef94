"""The status of a writer, for people to look at."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bluesky_tiled_writer.journal import JournalUse, Room

from .breaker import Trouble
from .job_list import Load, is_under_way
from .live_status import LiveStatus, StatusSource
from .run_job import RunJob
from .run_status import RunStatus
from .status_html import table_of_lines, table_of_runs

State = Literal["idle", "writing", "behind", "degraded", "login"]

SILENCE = 5.0
"""Seconds without an answer to a request after which the server is said not to answer."""


@dataclass(frozen=True)
class Status:
    """The status of a writer.

    Parameters
    ----------
    state : str
        "idle": everything is in Tiled. "writing": rows are on their way. "behind": rows come faster
        than Tiled takes them, and some are only on disk. "degraded": the server does not answer, a
        journal cannot be written, the journals take more than `journal_max_bytes`, or a run was set
        aside. "login": the server does not take the login; everything waits until it does, or the
        client has another one.
    runs : int
        Runs that are open, or not stored to their end.
    pending_rows, pending_bytes : int
        Rows in memory that are not in Tiled yet, and about how many bytes they take.
    oldest : float
        Seconds since everything that had come was in Tiled; 0 if it is.
    rows_stored : int
        Rows that were sent.
    server_down : bool
        True if the server is known not to answer.
    waiting_for : mapping of str to str
        Uids of runs that cannot be sent now, and what they wait for.
    set_aside : mapping of str to str
        Uids of runs that were set aside, and why; their journals are kept.
    last_error : Exception, optional
        The last failure, even if it was overcome.
    journals : JournalUse, optional
        The room that the journals in the directory take, and what is left of it; None if there is
        no directory.
    by_run : sequence of RunStatus
        The same for each run that is not in Tiled to its end.
    closed : bool
        True if the writer is closed, or gone: nothing will change any more.
    source : StatusSource, optional
        Tells it again.
    """

    state: State
    runs: int = 0
    pending_rows: int = 0
    pending_bytes: int = 0
    oldest: float = 0.0
    rows_stored: int = 0
    server_down: bool = False
    waiting_for: Mapping[str, str] = field(default_factory=dict)
    set_aside: Mapping[str, str] = field(default_factory=dict)
    last_error: Exception | None = None
    journals: JournalUse | None = field(default=None, compare=False)
    by_run: Sequence[RunStatus] = ()
    closed: bool = False
    source: StatusSource | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        jobs: Sequence[RunJob],
        *,
        rows_before: int = 0,
        trouble: Trouble | None,
        silence: float = 0.0,
        last_error: Exception | None,
        journals: JournalUse | None = None,
        closed: bool = False,
        source: StatusSource | None = None,
    ) -> Status:
        """Sum up jobs.

        Parameters
        ----------
        jobs : sequence of RunJob
            Those that are not forgotten.
        rows_before : int
            Rows of those that are.
        trouble : Trouble, optional
            What keeps anything from being sent.
        silence : float
            Seconds for which a request has had no answer.
        last_error : Exception, optional
            The last failure.
        journals : JournalUse, optional
            The room that journals take.
        closed : bool
            True if nothing will change any more.
        source : StatusSource, optional
            Tells it again.
        """
        load, under_way = Load.of(jobs), [job for job in jobs if is_under_way(job)]
        waiting = [job.delivered_at for job in under_way if job.delivered < job.taken]
        server_down = trouble is Trouble.AWAY or silence > SILENCE
        state: State = "writing" if waiting or load.pending_rows else "idle"
        if any(job.life.behind and not job.life.orphan for job in under_way):
            state = "behind"
        over = journals is not None and journals.room is Room.OVER
        no_journal = any(job.copies.journal_failure for job in under_way)
        if server_down or load.set_aside or no_journal or over:
            state = "degraded"
        if trouble is Trouble.LOGIN:
            state = "login"
        return cls(
            state=state,
            runs=load.runs,
            pending_rows=load.pending_rows,
            pending_bytes=load.pending_bytes,
            oldest=time.monotonic() - min(waiting) if waiting else 0.0,
            rows_stored=rows_before + sum(job.rows_stored for job in jobs),
            server_down=server_down,
            waiting_for={
                job.uid: str(job.obstacle)
                for job in jobs
                if job.obstacle is not None and job.life.error is None
            },
            set_aside=load.set_aside,
            last_error=last_error,
            journals=journals,
            by_run=tuple(
                RunStatus.of(job, trouble)
                for job in jobs
                if not job.life.finished or job.life.error is not None
            ),
            closed=closed,
            source=source,
        )

    def again(self) -> Status:
        """Return the status of the same writer as it is now."""
        return self if self.source is None else self.source.now()

    def watch(self, every: float = 1.0) -> LiveStatus:
        """Show it in a notebook, and keep it up to date until the writer is closed.

        Parameters
        ----------
        every : float
            Seconds after which it is looked at again.

        Returns
        -------
        LiveStatus
            Its method `stop` ends that; so does a call of `watch` in another cell.
        """
        source = self.source or StatusSource(lambda: replace(self, closed=True), lambda: True)
        return source.show(every)

    def __str__(self) -> str:
        lines = self._lines()
        lines += [("waiting", f"{uid}: {why}") for uid, why in self.waiting_for.items()]
        lines += [("set aside", f"{uid}: {why}") for uid, why in self.set_aside.items()]
        lines += self._last_error()
        return ", ".join(f"{name} {value}" for name, value in lines)

    def _lines(self) -> list[tuple[str, str]]:
        lines = [("state", self.state), ("runs", str(self.runs))]
        if self.server_down:
            lines.append(("server", "does not answer"))
        if self.pending_rows:
            pending = f"{self.pending_rows} rows ({self.pending_bytes / 2**20:.1f} MiB)"
            lines.append(("pending", f"{pending} since {self.oldest:.1f} s"))
        lines.append(("stored", f"{self.rows_stored} rows"))
        if self.journals is not None and self.journals.nbytes:
            lines.append(("journals", str(self.journals)))
        return lines

    def _last_error(self) -> list[tuple[str, str]]:
        error = self.last_error
        return [] if error is None else [("last error", f"{type(error).__name__}: {error}")]

    def _repr_html_(self) -> str:
        closed = [("writer", "is closed")] if self.closed else []
        lines = [*closed, *self._lines(), *self._last_error()]
        return table_of_lines(lines) + table_of_runs(self.by_run)
