"""Failures of one job in a row: how often it is tried again, and after which pause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bluesky_tiled_writer.errors import Retry, StorageError

MAX_FAILURES = 5
"""Failures of the same step while the server is healthy, after which its run is set aside."""

MAX_DELAYS = 20
"""The same where the server is away, or asks to come again later."""

LONGEST_PAUSE = 5.0
LONGEST_RETRY_AFTER = 60.0
"""Seconds between two attempts, and such that a server asks for, at most."""


@dataclass(frozen=True)
class Verdict:
    """The meaning of a failure.

    Parameters
    ----------
    give_up : bool
        True if trying again is of no use.
    server_away : bool
        True if nothing can be sent to the server now, whatever the job.
    """

    give_up: bool
    server_away: bool


class Attempts:
    """Counts the failures of a job since its last progress. Pure: it sends nothing."""

    def __init__(self) -> None:
        self._failures = 0
        self._outages = 0  # failures of a server that was away
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
            return Verdict(self._outages > MAX_DELAYS, server_away=True)
        self._failures += 1
        return Verdict(self._failures > limit, server_away=False)

    def succeeded(self) -> None:
        """Take note of an attempt that did not fail."""
        self._failures = self._outages = 0

    def pause(self, retry_after: float = 0.0) -> float:
        """Return the seconds until the next attempt: longer each time, or as the server asks."""
        backoff: float = min(LONGEST_PAUSE, 0.05 * 2 ** min(self._failures + self._outages, 10))
        return max(backoff, min(retry_after, LONGEST_RETRY_AFTER))
