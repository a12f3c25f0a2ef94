"""A scheduler that decides after every line of code which of several threads goes next.

The threads are real, but only one of them runs at a time: each stops before every line of the
modules that are watched, and goes on when the scheduler says so. Locks of those modules are
replaced by ones that the scheduler knows, so that a thread which waits for a lock stops as well.
So an interleaving is a list of numbers: how many lines each thread runs before the next one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from bluesky_tiled_writer.delivery import (
    job_list,
    pipeline,
    pipeline_slot,
    process,
    run_job,
    run_life,
    run_manager,
    sender,
    task_executor,
    waiting,
)
from bluesky_tiled_writer.journal import file as journal_file
from bluesky_tiled_writer.run import event_buffer, task_queue
from bluesky_tiled_writer.testing import memory

WATCHED = (
    pipeline_slot,
    waiting,
    run_job,
    run_life,
    run_manager,
    job_list,
    pipeline,
    sender,
    task_executor,
    task_queue,
    event_buffer,
)
"""Modules of which every line is a place to stop at."""
LOCKING = (memory, process, run_life, job_list, sender, task_queue, event_buffer, journal_file)
"""Modules whose locks the scheduler replaces."""
MOST_LINES = 100_000
WAITS = 200
"""Times that a wait with a timeout looks again before it gives up."""


class _Unwanted(BaseException):
    """Ends a thread of a test that has failed."""


class _Worker:
    def __init__(self, name: str, function: Callable[[], object], files: set[str]) -> None:
        self.name = name
        self.alive = True
        self.function_name = ""
        self.error: BaseException | None = None
        self.unwanted = False
        self._function = function
        self._files = files
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        _here.worker = self
        self._go.acquire()
        sys.settrace(self._trace)
        try:
            self._function()
        except _Unwanted:
            pass
        except BaseException as error:
            self.error = error
        finally:
            sys.settrace(None)
            self.alive = False
            self._stopped.release()

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        return self._at_line

    def _at_line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            self.function_name = frame.f_code.co_name
            self.stop()
        return self._at_line

    def stop(self) -> None:
        """In the thread: wait until it is its turn again."""
        self._stopped.release()
        self._go.acquire()
        if self.unwanted:
            raise _Unwanted

    def end(self) -> None:
        """End the thread, wherever it is."""
        self.unwanted = True
        while self.alive:
            self.step()

    def step(self) -> None:
        """Let the thread run one line."""
        self._go.release()
        self._stopped.acquire()
        if not self.alive:
            self._thread.join()


_here = threading.local()


def _pass_on() -> None:
    worker: _Worker | None = getattr(_here, "worker", None)
    if worker is not None:
        worker.stop()


class _Lock:
    """Owned by one thread at a time; no real lock, since only one thread runs."""

    def __init__(self) -> None:
        self.owner: object = None
        self.depth = 0

    def acquire(self) -> bool:
        me = threading.get_ident()
        while self.owner not in (None, me):
            _pass_on()
        self.owner, self.depth = me, self.depth + 1
        return True

    def release(self) -> None:
        assert self.owner == threading.get_ident()
        self.depth -= 1
        if not self.depth:
            self.owner = None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *args: object) -> None:
        self.release()


class _Condition(_Lock):
    def notify_all(self) -> None:
        pass

    def wait(self, timeout: float | None = None) -> bool:
        self.release()
        _pass_on()
        return self.acquire()

    def wait_for(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        for _ in range(WAITS if timeout is None or timeout > 0 else 0):
            if until():
                break
            self.wait()
        return until()


@contextmanager
def known_locks() -> Iterator[None]:
    """Let the watched modules make locks that the scheduler knows."""
    shim = SimpleNamespace(**{name: getattr(threading, name) for name in threading.__all__})
    shim.Lock = shim.RLock = _Lock
    shim.Condition = _Condition
    with pytest.MonkeyPatch.context() as patch:
        for module in LOCKING:
            patch.setattr(module, "threading", shim)
        patch.setattr(process, "_process", process._Process())
        yield


class Scheduler:
    """Runs functions in threads of which one runs at a time.

    Parameters
    ----------
    **functions : callable
        By the name of their thread.
    """

    def __init__(self, **functions: Callable[[], object]) -> None:
        files = {str(module.__file__) for module in WATCHED}
        self._workers = {name: _Worker(name, f, files) for name, f in functions.items()}
        self._lines = 0

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *args: object) -> None:
        for worker in self._workers.values():
            worker.end()

    def alive(self, name: str) -> bool:
        return self._workers[name].alive

    def step(self, name: str) -> None:
        """Let a thread run one line."""
        self._lines += 1
        assert self._lines < MOST_LINES, "it goes on for ever"
        self._workers[name].step()

    def run_to(self, name: str, function: str) -> None:
        """Run a thread until it is in a function."""
        while self._workers[name].function_name != function:
            assert self.alive(name), f"{name} never came to {function}"
            self.step(name)

    def run(self, name: str) -> None:
        """Run a thread to its end, and the others only if it waits for them."""
        while self.alive(name):
            for _ in range(100):
                if self.alive(name):
                    self.step(name)
            for other in self._workers:
                if other != name and self.alive(other):
                    self.step(other)

    def interleave(self, lines: Iterable[int]) -> None:
        """Let each thread run so many lines, one after the other; then all of them to their end."""
        names = list(self._workers)
        for turn, count in enumerate(lines):
            name = names[turn % len(names)]
            for _ in range(count):
                if self.alive(name):
                    self.step(name)
        while any(self.alive(name) for name in names):
            for name in names:
                for _ in range(50):
                    if self.alive(name):
                        self.step(name)
        self.check()

    def check(self) -> None:
        """Raise the error that a thread ended with."""
        deadline = time.monotonic() + 5.0
        for worker in self._workers.values():
            assert not worker.alive or time.monotonic() < deadline
            if worker.error is not None:
                raise worker.error
