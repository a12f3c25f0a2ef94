"""The tasks of one run, in the order in which they have to be done.

Two threads meet here: the one with the documents puts tasks in, through `RunWriter`, and that of
the sender takes them out, through `TaskExecutor`. Neither waits for the other.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from bluesky_tiled_writer.schema import DeclaredKey

from .batch import Batch
from .event_buffer import EventBuffer
from .external import Resource
from .steps import Step
from .stream import Stream


@dataclass(frozen=True)
class ExecuteStep:
    """Execute a step as it is."""

    step: Step


@dataclass(frozen=True)
class DeclareKeys:
    """Add keys to a stream; rows before this have no values of them."""

    stream: Stream
    new: Sequence[DeclaredKey]


@dataclass(frozen=True)
class ExpectKey:
    """Add an external key to a stream: the events from here on bring its values themselves."""

    stream: Stream
    declared: DeclaredKey


@dataclass(frozen=True)
class StoreRows:
    """Store rows of a stream."""

    stream: Stream
    batch: Batch


@dataclass(frozen=True)
class RegisterDatum:
    """Register the rows of a StreamDatum, now or with others."""

    stream: Stream
    resource: Resource
    datum: Mapping[str, Any]


@dataclass(frozen=True)
class FinishRun:
    """Store what is left of a run, then its stop document."""

    run: str
    stop: Mapping[str, Any]
    notes: Sequence[str]


@dataclass(frozen=True)
class CloseRun:
    """Tell live subscribers of a run that no more will come."""

    run: str


Task: TypeAlias = (
    ExecuteStep | DeclareKeys | ExpectKey | StoreRows | RegisterDatum | FinishRun | CloseRun
)


class TaskQueue:
    """The tasks of one run that are not done yet, and the rows that will become tasks.

    Attributes
    ----------
    lock : threading.RLock
        Guards the tasks, and the rows in the event buffers of the streams. No method holds it
        twice.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._tasks: dict[int, Task] = {}  # by number, in order
        self._added = 0
        self._streams: list[tuple[Stream, EventBuffer]] = []
        self._task_bytes = 0  # of the rows in tasks

    # -- in -------------------------------------------------------------------------------------

    def add(self, task: Task) -> None:
        """Add a task behind the others."""
        with self.lock:
            self._append(task)

    def _append(self, task: Task) -> None:
        self._tasks[self._added] = task
        self._added += 1

    def open(self, stream: Stream, buffer: EventBuffer) -> None:
        """Make tasks of the rows in an event buffer from now on."""
        with self.lock:
            self._streams.append((stream, buffer))

    def cut(self, stream: Stream, buffer: EventBuffer) -> None:
        """Make tasks of the rows of a stream now, ahead of the tasks that follow."""
        with self.lock:
            self._gather_rows(stream, buffer)

    # -- out ------------------------------------------------------------------------------------

    @property
    def streams(self) -> list[Stream]:
        """The streams of the run."""
        with self.lock:
            return [stream for stream, _ in self._streams]

    def gather(self) -> int:
        """Make tasks of all rows that wait, and return the number of tasks."""
        with self.lock:
            for stream, buffer in self._streams:
                self._gather_rows(stream, buffer)
            return len(self._tasks)

    def _gather_rows(self, stream: Stream, buffer: EventBuffer) -> None:
        for part in buffer.take():
            if isinstance(part, Batch):
                self._task_bytes += part.nbytes
                self._append(StoreRows(stream, part))
            else:
                self._append(ExpectKey(stream, part))

    def __len__(self) -> int:
        return len(self._tasks)

    def first(self, count: int) -> dict[int, Task]:
        """Return the first tasks by their numbers; each stays until it is done."""
        with self.lock:
            return dict(islice(self._tasks.items(), count))

    def __contains__(self, number: int) -> bool:
        """Return True if a task is still to be done: not if it was forgotten meanwhile."""
        return number in self._tasks

    def done(self, number: int) -> None:
        """Remove a task, if it is still there."""
        with self.lock:
            if isinstance(task := self._tasks.pop(number, None), StoreRows):
                self._task_bytes -= task.batch.nbytes

    @property
    def passed(self) -> int:
        """The number of the first task that is left: all before it are done."""
        with self.lock:
            return next(iter(self._tasks), self._added)

    def clear(self) -> None:
        """Forget all tasks and streams; rows that come in are no longer noticed."""
        with self.lock:
            self._forget_tasks()
            self._streams.clear()

    def forget_tasks(self) -> None:
        """Forget the tasks, but not the streams: rows that come in become tasks again."""
        with self.lock:
            self._forget_tasks()

    def _forget_tasks(self) -> None:
        self._tasks.clear()
        self._task_bytes = 0

    # -- how much -------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """True if there are tasks, or rows that will become tasks."""
        with self.lock:
            return bool(self._tasks) or any(buffer.pending for _, buffer in self._streams)

    @property
    def rows(self) -> int:
        """Rows that are not stored yet, in tasks and in event buffers."""
        with self.lock:
            tasks = self._tasks.values()
            in_tasks = sum(len(task.batch) for task in tasks if isinstance(task, StoreRows))
            return in_tasks + sum(buffer.pending for _, buffer in self._streams)

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory these rows take."""
        with self.lock:
            return self._task_bytes + sum(buffer.nbytes for _, buffer in self._streams)
