"""A run that is behind, whose journal fails at the worst moment; without any thread."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from documents import Pair, RunBuilder, data_key

from bluesky_tiled_writer.errors import NotStored
from bluesky_tiled_writer.journal import JournalDirectory
from bluesky_tiled_writer.run.steps import AppendRows, Sink, Step
from bluesky_tiled_writer.schema.limits import ServerLimits
from delivery.model import MemorySink, MemoryWorld, Process

ROWS = 60


def test_what_came_while_the_journal_was_read_is_stored_before_what_it_did_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = run_of(ROWS)
    third = len(docs) // 3

    def meanwhile() -> None:
        """The journal was opened for reading already."""
        send(docs[third : 2 * third])
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", disk_full)
            send(docs[2 * third :])

    world = WorldWithMeanwhile(meanwhile)
    process = Process(world, JournalDirectory(tmp_path), max_pending_bytes=500)
    run = process.open(docs[0][1]["uid"])

    def send(pairs: list[Pair]) -> None:
        for name, doc in pairs:
            run.take(name, doc)

    send(docs[:third])
    assert run.behind
    for _ in range(5):
        process.turn()
    process.kill()

    assert run.stored
    assert run.copies.journal_failure is not None
    assert [row["x"] for row in world.rows(run.uid)] == [*range(ROWS)]


def test_long_texts_count_as_much_as_they_take(tmp_path: Path) -> None:
    builder = RunBuilder()
    builder.start()
    builder.descriptor("primary", {"log": "string", "x": "number"})
    for value in range(20):
        builder.event("primary", {"log": "line\n" * 2000, "x": value})
    process = Process(MemoryWorld(), JournalDirectory(tmp_path), max_pending_bytes=50_000)
    run = process.open(builder.uid)
    for name, doc in builder.docs:
        run.take(name, doc)
    assert run.behind
    assert run.queue.nbytes == 0
    process.kill()


def test_memory_is_bounded_when_the_journal_fails_while_rows_come_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluesky_tiled_writer.delivery.catch_up.MOST_BEYOND", 5)
    docs = run_of(ROWS)
    process = Process(MemoryWorld(), JournalDirectory(tmp_path), max_pending_bytes=500)
    run = process.open(docs[0][1]["uid"])
    run._timeout = 0.0
    for name, doc in docs[:30]:
        run.take(name, doc)
    assert run.behind
    monkeypatch.setattr(os, "write", disk_full)
    for name, doc in docs[30:35]:
        run.take(name, doc)
    with pytest.raises(NotStored, match="as much waits to be stored as memory may take"):
        run.take(*docs[35])
    process.kill()


class WorldWithMeanwhile(MemoryWorld):
    """Something happens while it stores the first rows."""

    def __init__(self, meanwhile: Any) -> None:
        super().__init__()
        self.meanwhile = [meanwhile]

    def new_sink(self, limits: ServerLimits) -> Sink:
        return SinkWithMeanwhile(self)


class SinkWithMeanwhile(MemorySink):
    world: WorldWithMeanwhile

    def _act(self, step: Step) -> None:
        super()._act(step)
        if isinstance(step, AppendRows) and self.world.meanwhile:
            self.world.meanwhile.pop()()


def run_of(rows: int) -> list[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "image": data_key("array", [2])})
    for value in range(rows):
        run.event("primary", {"x": value, "image": [value, -value]})
    run.stop()
    return run.docs


def disk_full(*args: Any) -> int:
    raise OSError(28, "No space left on device")
