"""Failures of one job in a row: how often it is tried again, and after which pause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bluesky_tiled_writer.errors import Retry, StorageError

from .breaker import Trouble

MAX_FAILURES = 5
"""Failures of the same step while the server is healthy, after which its run is set aside."""

MAX_DELAYS = 20
"""The same where the server is away, or asks to come again later."""

LONGEST_PAUSE = 5.0
LONGEST_RETRY_AFTER = 60.0
"""Seconds between two attempts, and such that a server asks for, at most."""

FIRST_BLOCKED = 0.5
LONGEST_BLOCKED = 60.0
"""The same where the run is not allowed to be written."""


@dataclass(frozen=True)
class Verdict:
    """The meaning of a failure.

    Parameters
    ----------
    give_up : bool
        True if trying again is of no use.
    trouble : Trouble, optional
        What keeps anything from being sent to the server now, whatever the job.
    blocked : bool
        True if it keeps only this run from being sent, for as long as that lasts.
    """

    give_up: bool = False
    trouble: Trouble | None = None
    blocked: bool = False


class Attempts:
    """Counts the failures of a job since its last progress. Pure: it sends nothing."""

    def __init__(self) -> None:
        self._failures = 0
        self._outages = 0  # failures of a server that was away
        self._refusals = 0  # attempts that were not allowed
        self._progress = -1  # of the job, at the last failure

    def judge(self, error: StorageError, progress: int, healthy: Callable[[], bool]) -> Verdict:
        """Decide what a failure means.

        Parameters
        ----------
        error : StorageError
            The failure.
        progress : int
            Of the job; what was sent in between makes it another failure.
        healthy : callable
            Asks the server whether it is there; called only if the error does not tell.
        """
        if progress != self._progress:
            self._progress = progress
            self.succeeded()
        match error.retry:
            case Retry.WHEN_LOGIN_WORKS:
                return Verdict(trouble=Trouble.LOGIN)
            case Retry.WHEN_ALLOWED:
                self._refusals += 1
                return Verdict(blocked=True)
            case Retry.WHEN_FREE:
                self.succeeded()
                return Verdict(blocked=True)
            case Retry.WHEN_SERVER_IS_BACK:
                away, limit = True, MAX_DELAYS
            case Retry.UNLESS_SERVER_IS_AWAY:
                away, limit = not healthy(), MAX_DELAYS
            case Retry.LATER:
                away, limit = False, MAX_DELAYS
            case Retry.MAYBE:
                away, limit = not healthy(), MAX_FAILURES
            case Retry.NEVER:
                away, limit = False, 0
        if away:
            self._outages += 1
            return Verdict(self._outages > MAX_DELAYS, Trouble.AWAY)
        self._failures += 1
        return Verdict(self._failures > limit)

    def succeeded(self) -> None:
        """Take note of an attempt that did not fail."""
        self._failures = self._outages = self._refusals = 0

    def pause(self, retry_after: float = 0.0) -> float:
        """Return the seconds until the next attempt: longer each time, or as the server asks."""
        if self._refusals:
            return min(LONGEST_BLOCKED, FIRST_BLOCKED * 2.0 ** min(self._refusals - 1, 10))
        backoff: float = min(LONGEST_PAUSE, 0.05 * 2 ** min(self._failures + self._outages, 10))
        return max(backoff, min(retry_after, LONGEST_RETRY_AFTER))
