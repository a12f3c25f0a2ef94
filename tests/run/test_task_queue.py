"""The task queue keeps tasks and rows in order, and counts what waits."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from memory_run import take_out

from bluesky_tiled_writer.run import (
    CloseRun,
    DeclareKeys,
    ExecuteStep,
    ExpectKey,
    RunSettings,
    RunWriter,
    StoreRows,
    Stream,
    TaskQueue,
)
from bluesky_tiled_writer.run.event_buffer import EventBuffer
from bluesky_tiled_writer.schema import DeclaredKey

X = DeclaredKey("x", False, np.dtype("f8"), (), {})
FILES = DeclaredKey("files", True, np.dtype("f8"), (2,), {}, external=True)


def new_queue() -> TaskQueue:
    """A queue whose lock cannot be taken twice by one thread: no call does."""
    queue = TaskQueue()
    queue.lock = threading.Lock()  # type: ignore[assignment]
    return queue


def opened(queue: TaskQueue, name: str = "primary") -> tuple[Stream, EventBuffer]:
    stream = Stream("run", name, RunSettings())
    buffer = EventBuffer(name, RunSettings(), queue.lock)
    for key in (X, FILES):
        buffer.declare(key)
    queue.open(stream, buffer)
    return stream, buffer


def event(number: int, **data: Any) -> dict[str, Any]:
    stamps = dict.fromkeys(data, 1.0)
    return {"seq_num": number, "time": 1.0, "data": data, "timestamps": stamps}


def kinds(queue: TaskQueue) -> list[str]:
    """Take all tasks out, in words: rows by their number, keys by their name."""
    found = []
    for task in take_out(queue):
        match task:
            case StoreRows():
                found.append(f"{len(task.batch)} of {task.stream.name}")
            case ExpectKey():
                found.append(f"expect {task.declared.key}")
            case _:
                found.append(type(task).__name__)
    return found


def test_rows_become_tasks_when_they_are_gathered() -> None:
    queue = new_queue()
    _, buffer = opened(queue)
    buffer.event(event(1, x=1.0))
    buffer.event(event(2, x=2.0))
    assert (len(queue), queue.rows, queue.waiting) == (0, 2, True)
    assert queue.gather() == 1
    assert (len(queue), queue.rows) == (1, 2)
    assert queue.gather() == 1
    assert kinds(queue) == ["2 of primary"]
    assert (len(queue), queue.rows, queue.waiting, queue.nbytes) == (0, 0, False, 0)


def test_rows_that_are_cut_come_before_the_tasks_that_follow() -> None:
    queue = new_queue()
    stream, buffer = opened(queue)
    buffer.event(event(1, x=1.0))
    queue.cut(stream, buffer)
    queue.add(CloseRun("run"))
    buffer.event(event(2, x=2.0))
    queue.cut(stream, buffer)
    queue.cut(stream, buffer)  # there is nothing more to cut
    assert kinds(queue) == ["1 of primary", "CloseRun", "1 of primary"]


def test_an_external_key_is_expected_between_the_rows_before_and_after() -> None:
    queue = new_queue()
    _, buffer = opened(queue)
    buffer.event(event(1, x=1.0))
    buffer.event(event(2, x=2.0, files=[1.0, 2.0]))
    buffer.event(event(3, x=3.0, files=[1.0, 2.0]))
    assert queue.gather() == 3
    assert kinds(queue) == ["1 of primary", "expect files", "2 of primary"]


def test_each_stream_keeps_its_own_order() -> None:
    queue = new_queue()
    _, first = opened(queue, "first")
    _, second = opened(queue, "second")
    second.event(event(1, x=1.0))
    first.event(event(1, x=1.0))
    queue.gather()
    second.event(event(2, x=1.0))
    queue.gather()
    assert kinds(queue) == ["1 of first", "1 of second", "1 of second"]
    assert [stream.name for stream in queue.streams] == ["first", "second"]


def test_bytes_are_the_same_in_a_buffer_and_in_tasks() -> None:
    queue = new_queue()
    stream, buffer = opened(queue)
    for number in range(4):
        buffer.event(event(number, x=1.0))
    buffer.event(event(4, x=1.0, files=np.zeros(100)))
    waiting = queue.nbytes
    assert waiting == buffer.nbytes > 800
    queue.cut(stream, buffer)
    assert queue.nbytes == waiting
    buffer.event(event(5, x=1.0, files=np.zeros(100)))
    more = queue.nbytes - waiting
    assert more == buffer.nbytes > 800
    queue.done(min(queue.first(1)))  # the four rows without files
    assert more + 800 < queue.nbytes < waiting + more
    queue.gather()
    kinds(queue)
    assert (queue.nbytes, queue.rows) == (0, 0)


def test_a_task_stays_until_it_is_done_and_others_may_be_done_before() -> None:
    queue = new_queue()
    tasks = [CloseRun("first"), CloseRun("second"), CloseRun("third")]
    for task in tasks:
        queue.add(task)
    first, second, third = queue.first(5)
    assert list(queue.first(2).values()) == tasks[:2]
    queue.done(second)
    assert list(queue.first(5)) == [first, third]
    assert (queue.passed, first in queue, second in queue) == (first, True, False)
    queue.done(first)
    queue.done(first)
    assert (queue.passed, len(queue)) == (third, 1)
    queue.done(third)
    queue.add(tasks[0])
    assert list(queue.first(5)) == [queue.passed] == [third + 1]


def test_tasks_may_be_forgotten_alone_or_with_the_streams() -> None:
    queue = new_queue()
    _, buffer = opened(queue)
    buffer.event(event(1, x=1.0))
    queue.gather()
    buffer.event(event(2, x=1.0))
    queue.forget_tasks()
    assert (len(queue), queue.rows, queue.nbytes) == (0, 1, buffer.nbytes)
    assert queue.gather() == 1
    queue.clear()
    buffer.event(event(3, x=1.0))
    assert (queue.gather(), queue.rows, queue.nbytes, queue.waiting) == (0, 0, 0, False)


@pytest.mark.parametrize("batch_size", [3, 1000])
def test_two_threads_lose_no_row_and_keep_the_order(batch_size: int) -> None:
    queue = TaskQueue()
    writer = RunWriter(queue, RunSettings(batch_size=batch_size))
    writer("start", {"uid": "run", "time": 0.0})
    data_keys = {
        "x": {"dtype": "number", "shape": [], "source": ""},
        "files": {"dtype": "array", "shape": [2], "source": "", "external": "FILES:"},
    }
    writer("descriptor", {"uid": "d", "name": "primary", "time": 0.0, "data_keys": data_keys})
    ended = threading.Event()
    tasks: list[Any] = []

    def take_all() -> None:
        while not ended.is_set() or queue.waiting:
            queue.gather()
            tasks.extend(take_out(queue))

    thread = threading.Thread(target=take_all)
    thread.start()
    buffer = writer.buffer("d")
    assert buffer is not None
    for number in range(3000):
        data = {"x": 1.0} if number < 1500 else {"x": 1.0, "files": [1.0, 2.0]}
        buffer.event(event(number, **data))
    ended.set()
    thread.join()
    rest = tasks[2:]
    assert isinstance(tasks[0], ExecuteStep)
    assert isinstance(rest.pop(0), DeclareKeys)
    mark = next(i for i, task in enumerate(rest) if isinstance(task, ExpectKey))
    assert sum(len(task.batch) for task in rest[:mark]) == 1500
    assert sum(len(task.batch) for task in rest[mark + 1 :]) == 1500
    assert (queue.rows, queue.nbytes, buffer.rows) == (0, 0, 3000)
