"""The jobs of a writer, and how much they have in hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .run_job import RunJob
from .run_life import RunState


@dataclass(frozen=True)
class Load:
    """The work that a writer has in hand: the part of its status that a loop can ask for.

    Parameters
    ----------
    runs : int
        Runs that are open, or not stored to their end.
    pending_rows, pending_bytes : int
        Rows in memory that are not in Tiled yet, and about how many bytes they take.
    set_aside : mapping of str to str
        Uids of runs that were set aside, and why; their journals are kept.
    """

    runs: int = 0
    pending_rows: int = 0
    pending_bytes: int = 0
    set_aside: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, jobs: Sequence[RunJob]) -> Load:
        """Sum up jobs."""
        pending = [job.pending for job in jobs if is_under_way(job)]
        return cls(
            runs=len(pending),
            pending_rows=sum(part.rows for part in pending),
            pending_bytes=sum(part.nbytes for part in pending),
            set_aside={
                job.uid: str(error) for job in jobs if (error := job.life.error) is not None
            },
        )


def is_under_way(job: RunJob) -> bool:
    """Return True if a run is open, or not stored to its end, and was not set aside."""
    return not job.life.finished and job.life.state is not RunState.SET_ASIDE


class JobList:
    """The jobs of a writer's runs, each from its start until it is forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards these; held to look, never across I/O
        self._jobs: list[RunJob] = []
        self._rows_of_forgotten = 0

    def __iter__(self) -> Iterator[RunJob]:
        """Iterate over the jobs as they are now, oldest first."""
        return iter(self.now()[0])

    def now(self) -> tuple[list[RunJob], int]:
        """Return the jobs, oldest first, and the rows that forgotten ones have stored."""
        with self._lock:
            return list(self._jobs), self._rows_of_forgotten

    def add(self, job: RunJob) -> None:
        """Add the job of a run, which takes the place of earlier ones that are done."""
        with self._lock:
            for earlier in [other for other in self._jobs if other.uid == job.uid]:
                if earlier.finished:  # set aside, or stored
                    job.is_told_of |= earlier.is_told_of
                    self._forget(earlier)
            self._jobs.append(job)

    def remove(self, job: RunJob) -> None:
        """Take out a job that somebody else does."""
        with self._lock:
            self._jobs.remove(job)

    def forget_stored(self) -> None:
        """Forget the jobs of runs that are stored to their end."""
        with self._lock:
            for job in list(self._jobs):
                if job.finished and job.life.error is None:
                    self._forget(job)

    def _forget(self, job: RunJob) -> None:
        self._rows_of_forgotten += job.rows_stored
        self._jobs.remove(job)

    def leave_to_parent(self) -> None:
        """Forget everything in a forked child, without taking a lock."""
        for job in self._jobs:
            job.leave_to_parent()
        self._jobs, self._lock = [], threading.Lock()
