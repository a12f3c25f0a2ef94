"""The run managers of this process, the only global state of the package; and its signals.

It answers which job has a run, sends what is left when the interpreter ends, and keeps a forked
child from touching what belongs to its parent. It remembers for the next writer how large the
requests to a server may be.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, Protocol

from bluesky_tiled_writer.errors import NotCopyable
from bluesky_tiled_writer.journal import JournalSpace
from bluesky_tiled_writer.schema import RequestSize


class Owner(Enum):
    """The job that a run has in this process."""

    NONE = "none"
    OPEN = "its documents come"
    STOPPED = "all of its documents have come"
    RECOVERING = "its documents come from the journal of an earlier process"


class Manager(Protocol):
    """A run manager, as the process knows it."""

    @property
    def unused(self) -> bool:
        """True if its writer is gone, and all is done."""
        ...

    def owns(self, run: Hashable) -> Owner:
        """Return what job it has for a run, if any."""
        ...

    def job_of(self, uid: str) -> Any:
        """Return the job of a run whose documents come from the caller, if it is not done."""
        ...

    def wait_here(self, job: Any, since: float) -> None:
        """Wait for a job whose stop document came at some time of the monotonic clock."""
        ...

    def use_login_of(self, sender: Any) -> None:
        """Go on with the login of a new writer, if the server does not take that of this one."""
        ...

    def finish(self) -> None:
        """Send what waits, because the interpreter ends."""
        ...

    def leave_to_parent(self) -> None:
        """Forget everything in a forked child, without taking a lock."""
        ...


TRIED_AGAIN = 600.0
"""Seconds until a journal is tried again by itself that could not be stored with some login."""


class _Process:
    """All run managers that may have something to do, and the journals that they tried."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held to look, never across I/O
        self.managers: set[Manager] = set()
        self.opening: set[Hashable] = set()
        self.tried: dict[Path, tuple[object, float]] = {}
        self.request_sizes: dict[str, RequestSize] = {}
        self.spaces: dict[tuple[Path, int | None], JournalSpace] = {}


_process = _Process()


def register(manager: Manager) -> list[Manager]:
    """Know a manager until it is unregistered, or unused; return the others."""
    with _process.lock:
        others = [other for other in _process.managers if not other.unused]
        _process.managers = {*others, manager}
        return others


def others(manager: Manager) -> list[Manager]:
    """Return the other managers."""
    with _process.lock:
        return [other for other in _process.managers if other is not manager]


def unregister(manager: Manager) -> None:
    """Forget a manager that is closed."""
    with _process.lock:
        _process.managers.discard(manager)


@contextmanager
def opening(run: Hashable) -> Iterator[Owner]:
    """Open a run, unless it has a job already: one owner a run.

    Yields
    ------
    Owner
        The job that it has. If there is none, no other thread can open the run within this context.
    """
    with _process.lock:
        owners = [manager.owns(run) for manager in _process.managers]
        owner = next((owner for owner in owners if owner is not Owner.NONE), Owner.NONE)
        if run in _process.opening:
            owner = Owner.OPEN
        if owner is Owner.NONE:
            _process.opening.add(run)
    try:
        yield owner
    finally:
        if owner is Owner.NONE:
            with _process.lock:
                _process.opening.discard(run)


def has_tried(journal: Path, credentials: object) -> bool:
    """Return True if a journal was tried with these credentials, and not long ago.

    Programs make a writer for each task: without this each of them would try it, and say so.
    """
    with _process.lock:
        before, when = _process.tried.get(journal, (None, -TRIED_AGAIN))
    return before == credentials and time.monotonic() - when < TRIED_AGAIN


def note_try(journal: Path, credentials: object) -> None:
    """Take note that a journal is tried with some credentials."""
    with _process.lock:
        _process.tried[journal] = (credentials, time.monotonic())


def forget_try(journal: Path) -> None:
    """Forget that a journal was tried: it is stored, or its writer was closed before."""
    with _process.lock:
        _process.tried.pop(journal, None)


def request_size(server: str) -> RequestSize:
    """Return what is known of the size of requests to a server, by the address of its API."""
    with _process.lock:
        return _process.request_sizes.setdefault(server, RequestSize())


def journal_space(directory: Path, most: int | None) -> JournalSpace:
    """Return what minds the room for journals, once for all writers, which would each tell."""
    with _process.lock:
        return _process.spaces.setdefault((directory, most), JournalSpace(directory, most))


@contextmanager
def on_signals(numbers: Iterable[signal.Signals], call: Callable[[], object]) -> Iterator[None]:
    """Call a function when a signal comes; in the main thread, which alone gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: call()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def refuse_to_copy(writer: object) -> NoReturn:
    """Refuse to pickle or copy a writer: it has a thread, connections and locked files."""
    raise NotCopyable(
        f"A {type(writer).__name__} cannot be pickled, copied, or passed to another process.",
        hint="Make a client and a TiledWriter in each process, and one for each RunEngine.",
    )


@atexit.register
def _finish_all() -> None:
    for manager in list(_process.managers):
        manager.finish()


def _leave_to_parent() -> None:
    """In a forked child: a thread of the parent may have held the lock."""
    global _process
    managers = list(_process.managers)
    _process = _Process()
    for manager in managers:
        manager.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
