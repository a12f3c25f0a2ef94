"""A run that is behind, whose journal fails at the worst moment; without any thread."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from documents import Pair, RunBuilder, data_key

from bluesky_tiled_writer.delivery.run_life import RunState
from bluesky_tiled_writer.errors import NotStored
from bluesky_tiled_writer.journal import JournalDirectory
from delivery.model import MemoryWorld, Process

ROWS = 60


def test_a_run_whose_journal_fails_while_rows_come_from_it_is_set_aside_and_the_caller_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = run_of(ROWS)
    world = MemoryWorld()
    process = Process(world, JournalDirectory(tmp_path), max_pending_bytes=500)
    run = process.open(docs[0][1]["uid"])
    for name, doc in docs[:30]:
        run.take(name, doc)
    assert run.life.behind
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", disk_full)
        with pytest.raises(NotStored, match=r"from its journal, which failed.*No space left"):
            run.take(*docs[30])
    assert run.life.state is RunState.SET_ASIDE
    with pytest.raises(NotStored):  # every time: nothing else has these documents
        run.take(*docs[31])
    with pytest.raises(NotStored):
        run.take(*docs[-1])
    process.turn()
    assert run.life.state is RunState.RELEASED
    assert not world.stopped(run.uid)

    later = Process(world, JournalDirectory(tmp_path), max_pending_bytes=500)
    later.recover()
    for _ in range(5):
        later.turn()
    assert [row["x"] for row in world.rows(run.uid)] == [*range(28)], "what the journal has"
    later.kill()
    process.kill()


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
    assert run.life.behind
    assert run.pending.nbytes == 0
    process.kill()


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
