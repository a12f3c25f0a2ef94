"""What of a run waits to be stored, in the order in which it has to be.

This is where two threads meet: the one that has the documents puts in, through `RunWriter`; the
sender's takes out, through `TaskExecutor`. Neither waits for the other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bluesky_tiled_writer.schema import DeclaredKey

from .batch import Batch
from .event_buffer import EventBuffer
from .external import Resource
from .steps import Step
from .stream import Stream


@dataclass(frozen=True)
class ExecuteStep:
    """Have a step carried out as it is."""

    step: Step


@dataclass(frozen=True)
class DeclareKeys:
    """A stream gets keys, which rows before this have no values of."""

    stream: Stream
    new: Sequence[DeclaredKey]


@dataclass(frozen=True)
class ExpectKey:
    """Values of an external key come with the events from here on."""

    stream: Stream
    declared: DeclaredKey


@dataclass(frozen=True)
class StoreRows:
    """StoreRows rows of a stream."""

    stream: Stream
    batch: Batch


@dataclass(frozen=True)
class RegisterDatum:
    """Take a StreamDatum into its stream, to be registered."""

    stream: Stream
    resource: Resource
    datum: Mapping[str, Any]


@dataclass(frozen=True)
class FinishRun:
    """StoreRows what is left of a run, then its stop document."""

    run: str
    stop: Mapping[str, Any]
    notes: Sequence[str]


@dataclass(frozen=True)
class CloseRun:
    """Tell live subscribers that no more will come."""

    run: str


Task: TypeAlias = (
    ExecuteStep | DeclareKeys | ExpectKey | StoreRows | RegisterDatum | FinishRun | CloseRun
)


class TaskQueue:
    """The tasks of one run that are not done yet, and the rows that are to become tasks.

    Attributes
    ----------
    lock : threading.RLock
        Guards it, together with the rows that wait in the intakes of its streams.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._tasks: deque[Task] = deque()
        self._streams: list[tuple[Stream, EventBuffer]] = []
        self._batches = 0  # bytes of rows in tasks

    # -- in -------------------------------------------------------------------------------------

    def add(self, task: Task) -> None:
        """Put a task behind the others."""
        with self.lock:
            self._tasks.append(task)

    def open(self, stream: Stream, buffer: EventBuffer) -> None:
        """Have the rows of a stream stored from now on."""
        with self.lock:
            self._streams.append((stream, buffer))

    def cut(self, stream: Stream, buffer: EventBuffer) -> None:
        """Have the rows so far stored before the tasks that follow."""
        with self.lock:
            self._gather_rows(stream, buffer)

    # -- out ------------------------------------------------------------------------------------

    @property
    def streams(self) -> list[Stream]:
        """The streams of the run."""
        with self.lock:
            return [stream for stream, _ in self._streams]

    def gather(self) -> int:
        """Make tasks of all rows that wait; gives how many tasks there are."""
        with self.lock:
            for stream, buffer in self._streams:
                self._gather_rows(stream, buffer)
            return len(self._tasks)

    def _gather_rows(self, stream: Stream, buffer: EventBuffer) -> None:
        batch = buffer.take()
        if len(batch):
            self._batches += batch.nbytes
            self._tasks.append(StoreRows(stream, batch))

    def __len__(self) -> int:
        return len(self._tasks)

    def head(self) -> Task | None:
        """The task to do first, if there is any; it stays until it is done."""
        with self.lock:
            return self._tasks[0] if self._tasks else None

    def done(self, task: Task) -> None:
        """Forget the first task."""
        with self.lock:
            if self._tasks and self._tasks[0] is task:
                self._tasks.popleft()
                if isinstance(task, StoreRows):
                    self._batches -= task.batch.nbytes

    def clear(self) -> None:
        """Forget everything: none of it will be stored from here."""
        with self.lock:
            self.forget_tasks()
            self._streams.clear()

    def forget_tasks(self) -> None:
        """Forget the tasks, but not the streams: rows that come in become tasks again."""
        with self.lock:
            self._tasks.clear()
            self._batches = 0

    # -- how much -------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether there is anything to do."""
        with self.lock:
            return bool(self._tasks) or any(buffer.pending for _, buffer in self._streams)

    @property
    def rows(self) -> int:
        """Rows that are not stored yet."""
        with self.lock:
            tasks = sum(len(task.batch) for task in self._tasks if isinstance(task, StoreRows))
            return tasks + sum(buffer.pending for _, buffer in self._streams)

    @property
    def nbytes(self) -> int:
        """About how much memory these rows take."""
        with self.lock:
            return self._batches + sum(buffer.nbytes for _, buffer in self._streams)
