"""The protocols of the sender and the jobs that it advances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bluesky_tiled_writer.errors import StorageError

RunConcurrently = Callable[[Sequence[Callable[[], None]]], None]
"""Calls functions, perhaps at the same time; raises one of their errors when all have returned."""


def run_sequentially(functions: Sequence[Callable[[], None]]) -> None:
    """Call functions one after the other."""
    for function in functions:
        function()


class Job(Protocol):
    """Something that is sent bit by bit."""

    @property
    def waiting(self) -> bool:
        """True if there is something to send."""
        ...

    @property
    def finished(self) -> bool:
        """True if there will never be anything to send again."""
        ...

    @property
    def progress(self) -> int:
        """A number that grows with what was sent: failures at the same number are the same one."""
        ...

    def advance(self, rows: bool) -> None:
        """Send what waits; raise an error if that fails, to be called again later.

        Parameters
        ----------
        rows : bool
            True to send rows, too, which are collected to be sent together.
        """
        ...

    def sync(self) -> None:
        """Flush to disk what has come, while nothing can be sent."""
        ...

    def begin_again(self, error: StorageError) -> None:
        """Send everything once more from the beginning, without what Tiled holds."""
        ...

    def complete(self) -> None:
        """Take note that Tiled holds all of it already."""
        ...

    def set_aside(self, error: Exception) -> None:
        """Give up, because of an error that does not go away."""
        ...


class Wakes(Protocol):
    """The sender, as its jobs use it; see `Sender`."""

    def wake(self, job: Job, *, rows: bool = True) -> None:
        """Advance a job at once."""
        ...

    def wake_soon(self, job: Job) -> None:
        """Advance a job as soon as a connection is free."""
        ...

    def notify(self) -> None:
        """Make those who wait look again."""
        ...

    def wait(self, until: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until something is true, `timeout` seconds at most; return whether it is."""
        ...

    @property
    def run_concurrently(self) -> RunConcurrently:
        """Calls functions that write to different nodes."""
        ...
