"""A run that is behind, whose journal fails at the worst moment; without any thread."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from documents import Pair, RunBuilder, data_key
from test_model import MemorySink, MemoryWorld, Process

from bluesky_tiled_writer.journal import JournalDirectory
from bluesky_tiled_writer.limits import Limits
from bluesky_tiled_writer.steps import AppendRows, Sink, Step

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
    assert run.keeping.journal_failure is not None
    assert [row["x"] for row in world.rows(run.uid)] == [*range(ROWS)]


class WorldWithMeanwhile(MemoryWorld):
    """Something happens while it stores the first rows."""

    def __init__(self, meanwhile: Any) -> None:
        super().__init__()
        self.meanwhile = [meanwhile]

    def new_sink(self, limits: Limits) -> Sink:
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
