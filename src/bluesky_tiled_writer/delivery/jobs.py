"""The protocols of the sender, of the jobs that it advances, and of the server."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from bluesky_tiled_writer.errors import StorageError
from bluesky_tiled_writer.run import Sink
from bluesky_tiled_writer.schema import ServerLimits

RunConcurrently = Callable[[Sequence[Callable[[], None]]], None]
"""Calls functions, perhaps at the same time, until one fails; its error is raised at the end."""


def run_sequentially(functions: Sequence[Callable[[], None]]) -> None:
    """Call functions one after the other."""
    for function in functions:
        function()


NewSink = Callable[[ServerLimits], Sink]
"""Makes a sink that knows nothing yet of what Tiled holds."""


class Destination(Protocol):
    """A container that gets runs."""

    @property
    def uri(self) -> str:
        """Its address, by which journals name it."""
        ...

    @property
    def key(self) -> Hashable:
        """Tells it from others in this process."""
        ...

    @property
    def web_page(self) -> str:
        """Its address in Tiled's web page; empty if it has none."""
        ...

    @property
    def new_sink(self) -> NewSink:
        """Makes a sink that writes there."""
        ...

    def at(self, uri: Any) -> Destination | None:
        """Return the container of the same server that a journal names; None for another one."""
        ...


class Server(Protocol):
    """The server, as the sender looks at it; see `sink.Connection`."""

    def healthy(self) -> bool:
        """Return True if it answers, and soon."""
        ...

    def answers(self, timeout: float) -> bool:
        """Ask whether it is there, whatever else it is at."""
        ...

    @property
    def credentials(self) -> object:
        """The login of requests, to be compared with an earlier one."""
        ...

    @property
    def unanswered(self) -> float:
        """Seconds for which the oldest request has had no answer."""
        ...

    def rest(self) -> None:
        """Close what is connected: perhaps nothing will be sent any more."""
        ...

    def use_credentials_of(self, other: Any) -> None:
        """Log in as another client of the same server does, from now on."""
        ...


class Job(Protocol):
    """Something that is sent bit by bit."""

    obstacle: StorageError | None
    """Why it cannot be sent now, though other jobs can."""

    @property
    def name(self) -> str:
        """The name of the job in the log."""
        ...

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


class ConnectJob:
    """Makes the connection to the server: a job that fails as others do while it is down.

    Parameters
    ----------
    connect : callable
        Makes the connection; raises an error if that cannot be done now.
    """

    name = "The connection"
    progress = 0
    waiting = False  # nothing that was measured

    def __init__(self, connect: Callable[[], object]) -> None:
        self.obstacle: StorageError | None = None
        self.finished = False
        self._connect = connect

    def advance(self, rows: bool) -> None:
        """Make the connection."""
        self._connect()
        self.finished = True

    def sync(self) -> None:
        """Do nothing: there are no rows to flush."""

    def begin_again(self, error: StorageError) -> None:
        """Do nothing: no request needs to be sent again."""

    def complete(self) -> None:
        """Do nothing: Tiled holds nothing of this job."""

    def set_aside(self, error: Exception) -> None:
        """Give up: a run will say why."""
        self.finished = True


class IgnoredRun:
    """A run that another writer of this process stores: its documents are not needed here."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.links: list[str] = []

    def take(self, name: str, doc: Any) -> None:
        """Ignore a document."""


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
