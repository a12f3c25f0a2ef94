"""What the sender knows of the jobs that it advances, and a job of the sender."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bluesky_tiled_writer.errors import StorageError

RunConcurrently = Callable[[Sequence[Callable[[], None]]], None]
"""Calls functions, perhaps at the same time, and raises an error of theirs when all are done."""


def run_sequentially(functions: Sequence[Callable[[], None]]) -> None:
    """Call functions one after the other."""
    for function in functions:
        function()


class Job(Protocol):
    """Something that is sent bit by bit."""

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        ...

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        ...

    @property
    def progress(self) -> int:
        """Something that grows with what was sent: failures in between are not the same one."""
        ...

    def advance(self, rows: bool) -> None:
        """Send what waits; raises an error if that fails, and is called again later.

        Parameters
        ----------
        rows : bool
            Whether it is time for rows, too, that are collected to be sent together.
        """
        ...

    def sync(self) -> None:
        """Have what was taken be on the disk, while nothing can be sent."""
        ...

    def begin_again(self, error: StorageError) -> None:
        """Send everything once more from the beginning, leaving out what Tiled holds."""
        ...

    def complete(self) -> None:
        """Take note that Tiled holds all of it already."""
        ...

    def set_aside(self, error: Exception) -> None:
        """Give up, for this error does not go away."""
        ...


class Pace(Protocol):
    """What a run needs of the sender; see `Sender`."""

    def wake(self, job: Job, *, rows: bool = True) -> None:
        """Advance a job at once."""
        ...

    def notify(self) -> None:
        """Have those who wait look again."""
        ...

    def wait(self, until: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until something is true, `timeout` seconds at most; gives whether it is."""
        ...

    @property
    def run_concurrently(self) -> RunConcurrently:
        """Calls functions that write to different nodes."""
        ...
