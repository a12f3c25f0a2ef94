"""The lease: one consumer at a time holds it, whatever gets lost on the way; without a server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from bluesky_tiled_writer.consumers import Start
from bluesky_tiled_writer.consumers import lease as module
from bluesky_tiled_writer.consumers.lease import Lease, Record
from bluesky_tiled_writer.errors import TiledWriterError

T = TypeVar("T")
STREAM = "made in May"


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what does not wait for anything."""
    return asyncio.run(coroutine)


class MemoryKey:
    """A key in this process; the answer to the next write may get lost."""

    def __init__(self) -> None:
        self.value: bytes | None = None
        self.revision = 0
        self.lose_answer = False

    async def read(self) -> tuple[int, bytes] | None:
        return None if self.value is None else (self.revision, self.value)

    async def write(self, value: bytes, revision: int) -> int | None:
        if revision != self.revision:
            return None
        self.value, self.revision = value, self.revision + 1
        if self.lose_answer:
            self.lose_answer = False
            raise TimeoutError
        return self.revision


class Clock:
    def __init__(self, time: float = 0.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def key() -> MemoryKey:
    return MemoryKey()


def test_one_takes_it_and_the_others_stand_by(key: MemoryKey) -> None:
    clock = Clock()
    first, second = Lease(key, "first", clock), Lease(key, "second", clock)
    assert now(first.take())
    assert first.record.start == Start(0)
    for _ in range(20):
        clock.time += 0.9
        assert not now(second.take())
        assert now(first.renew(Start(3, seen=5), STREAM))
        assert first.is_valid
        assert not second.is_valid


def test_another_one_takes_over_from_where_it_was(
    key: MemoryKey, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    first, second = Lease(key, "first", clock), Lease(key, "second", Clock(500.0))
    assert now(first.take())
    assert now(first.renew(Start(3, seen=5), STREAM))
    assert not now(second.take())
    second._clock.time += module.PATIENCE - 0.01
    assert not now(second.take())
    second._clock.time += 0.02
    with caplog.at_level(logging.WARNING):
        assert now(second.take())
    assert second.record == Record("second", Start(3, seen=5), STREAM)
    assert "No sign of first" in caplog.text
    assert not now(first.renew(Start(4, seen=6), STREAM))
    assert not first.is_valid
    assert second.record.start == Start(3, seen=5)


def test_the_holder_stops_before_another_one_can_begin(key: MemoryKey) -> None:
    """The other one sees a renewal after it was sent, at the earliest, and waits for longer."""
    clock = Clock()
    first, second = Lease(key, "first", clock), Lease(key, "second", clock)
    assert now(first.take())
    while not now(second.take()):
        clock.time += 0.01
        assert not (first.is_valid and second.is_valid)
    assert not first.is_valid
    assert second.is_valid


def test_a_renewal_whose_answer_is_lost_counts(key: MemoryKey) -> None:
    clock = Clock()
    first = Lease(key, "first", clock)
    assert now(first.take())
    clock.time = 1.0
    key.lose_answer = True
    with pytest.raises(TimeoutError):
        now(first.renew(Start(1), STREAM))
    assert first.valid_until == module.VALID  # for all that is known
    assert now(first.renew(Start(2), STREAM))
    assert first.valid_until == 1.0 + module.VALID


def test_a_holder_that_lost_it_takes_it_again_without_waiting(key: MemoryKey) -> None:
    clock = Clock()
    first = Lease(key, "first", clock)
    assert now(first.take())
    assert now(first.renew(Start(7), STREAM))
    clock.time = 60.0
    assert not first.is_valid
    assert now(first.take())
    assert first.record.start == Start(7)


def test_a_lease_that_is_released_is_free_at_once(key: MemoryKey) -> None:
    clock = Clock()
    first, second = Lease(key, "first", clock), Lease(key, "second", clock)
    assert now(first.take())
    assert not now(second.take())
    now(first.release(Start(8, seen=9), STREAM))
    assert not first.is_valid
    assert now(second.take())
    assert second.record.start == Start(8, seen=9)


def test_two_that_take_it_at_once_do_not_both_get_it(key: MemoryKey) -> None:
    key.revision = 1  # another one was faster, after the look
    assert not now(Lease(key, "first", Clock()).take())


def test_what_others_have_put_there_is_not_overwritten(key: MemoryKey) -> None:
    key.value, key.revision = b"something else", 1
    with pytest.raises(TiledWriterError, match="no position"):
        now(Lease(key, "first", Clock()).take())
    assert key.value == b"something else"
