"""Journals that were damaged in any way: recovery goes on, invents nothing, and deletes nothing.

What is held against Tiled is the list of rows that were measured. A sink in memory makes hundreds
of journals cheap; a few go to Tiled in this process.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from documents import Pair, RunBuilder, data_key
from faults import LONG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import Storage, in_process
from tiled.client import from_context

from bluesky_tiled_writer.delivery.run_job import RunJob
from bluesky_tiled_writer.errors import DocumentsIncomplete, JournalError
from bluesky_tiled_writer.journal import JournalDirectory
from delivery.model import MemoryWorld, Process, TiledWorld, World

Damage = Callable[[bytes], bytes]
ROWS = 9


def measured(stopped: bool) -> list[Pair]:
    """Nine rows: events, a page, events after a second descriptor."""
    run = RunBuilder()
    keys = {"x": "number", "image": data_key("array", [2])}
    run.start()
    run.descriptor("primary", keys)
    for i in range(3):
        run.event("primary", row(i))
    run.event_page("primary", [row(i) for i in range(3, 6)])
    run.descriptor("primary", keys)
    for i in range(6, ROWS):
        run.event("primary", row(i))
    if stopped:
        run.stop()
    return run.docs


def row(i: int) -> dict[str, Any]:
    return {"x": float(i), "image": [i, -i]}


@dataclass
class Outcome:
    """What became of a run: rows that Tiled held before, and holds now, and the recovered run."""

    before: list[int]
    after: list[int]
    run: RunJob | None
    logged: list[str]
    stopped: bool
    kept: list[str]


def recover(world: World, docs: list[Pair], stored: int, damage: Damage) -> Outcome:
    """Have a process store some documents and end, then another one find the damaged journal."""
    uid = docs[0][1]["uid"]
    with temporary_directory() as directory, logged() as messages:
        journals = JournalDirectory(directory)
        process = Process(world, journals, 2**20)
        run = process.open(uid)
        for name, doc in docs[:stored]:
            run.take(name, doc)
        process.turn()
        for name, doc in docs[stored:]:
            run.take(name, doc)
        process.kill()
        before = rows(world, uid)
        (path,) = directory.iterdir()
        path.write_bytes(damage(path.read_bytes()))

        process = Process(world, journals, 2**20)
        process.recover()
        for _ in range(5):
            process.turn()
        runs = process.runs
        process.kill()
        kept = [path.suffix for path in directory.iterdir()]
    assert all(run.finished for run in runs), "it goes on for ever"
    after = rows(world, uid)
    return Outcome(before, after, runs[0] if runs else None, messages, world.stopped(uid), kept)


def rows(world: World, uid: str) -> list[int]:
    """Which of the rows that were measured Tiled holds; all of their values are right."""
    table, image = world.rows(uid), world.image(uid)
    numbers = [int(row["x"]) for row in table]
    assert [row["seq_num"] for row in table] == [number + 1 for number in numbers]
    assert [row["x"] for row in table] == [float(number) for number in numbers]
    assert image == [[float(number), -float(number)] for number in numbers]
    return numbers


def assert_nothing_invented_or_lost(outcome: Outcome) -> None:
    assert outcome.after == sorted({*outcome.after} & {*range(ROWS)})
    assert {*outcome.before} <= {*outcome.after}


def assert_told(outcome: Outcome) -> None:
    """Whoever reads the log knows, and the journal is still there if it lacks anything."""
    if outcome.run is None:  # nobody knows whose it is
        assert outcome.kept == [".journal"]
    elif outcome.run.life.error is not None:
        assert isinstance(outcome.run.life.error, DocumentsIncomplete | JournalError)
        assert outcome.kept == [".journal"]
        assert any("was set aside" in message for message in outcome.logged)
    else:
        assert outcome.stopped
        assert any("journal is damaged" in message for message in outcome.logged)
        if len(outcome.after) < ROWS:
            assert outcome.kept == [".damaged"]


@contextmanager
def temporary_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp())
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def logged() -> Iterator[list[str]]:
    """Messages from the package, also within a test that runs many times."""
    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger("bluesky_tiled_writer"), Handler()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def truncated(where: float) -> Damage:
    return lambda data: data[: int(len(data) * where)]


def flipped(where: float, bits: int) -> Damage:
    def flip(data: bytes) -> bytes:
        index = int(len(data) * where)
        return data[:index] + bytes([data[index] ^ bits]) + data[index + 1 :]

    return flip


PLACES = st.floats(0.0, 1.0, exclude_max=True)
STORED = st.integers(0, 10)
fuzz = settings(
    max_examples=1000 if LONG else 60, deadline=None, suppress_health_check=list(HealthCheck)
)


@fuzz
@given(where=PLACES, stored=STORED, stopped=st.booleans())
def test_a_journal_that_was_cut_off_anywhere(where: float, stored: int, stopped: bool) -> None:
    outcome = recover(MemoryWorld(), measured(stopped), stored, truncated(where))
    assert_nothing_invented_or_lost(outcome)
    if outcome.run is not None and outcome.run.life.error is None:
        assert outcome.stopped
        assert outcome.kept == []


@fuzz
@given(where=PLACES, bits=st.integers(1, 255), stored=STORED, stopped=st.booleans())
def test_a_journal_with_any_byte_flipped(
    where: float, bits: int, stored: int, stopped: bool
) -> None:
    outcome = recover(MemoryWorld(), measured(stopped), stored, flipped(where, bits))
    assert_nothing_invented_or_lost(outcome)
    assert_told(outcome)


@pytest.fixture
def tiled_world(tmp_path: Path) -> Iterator[TiledWorld]:
    storage = Storage("duckdb", tmp_path, f"duckdb:///{tmp_path / 'tables.db'}")
    with in_process(storage) as context:
        yield TiledWorld(from_context(context))


def test_damaged_journals_of_runs_in_tiled(tiled_world: TiledWorld) -> None:
    @settings(fuzz, max_examples=100 if LONG else 5)
    @given(
        damage=st.one_of(
            st.builds(truncated, PLACES), st.builds(flipped, PLACES, st.integers(1, 255))
        ),
        stored=STORED,
    )
    def test(damage: Damage, stored: int) -> None:
        outcome = recover(tiled_world, measured(True), stored, damage)
        assert_nothing_invented_or_lost(outcome)

    test()


@pytest.fixture(params=["memory", "tiled"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return MemoryWorld()
    world: World = request.getfixturevalue("tiled_world")
    return world


def in_event(number: int) -> Damage:
    """Flip a byte in the event with this `seq_num`: in its uid, which nothing else looks at."""

    def flip(data: bytes) -> bytes:
        index = [i for i in range(len(data)) if data.startswith(b"timestamps", i)][number - 1]
        return data[:index] + b"T" + data[index + 1 :]

    return flip


def test_a_damaged_row_costs_that_row_while_tiled_does_not_hold_it(world: World) -> None:
    outcome = recover(world, measured(True), 4, in_event(3))
    assert outcome.before == [0, 1]
    assert outcome.after == [0, 1, *range(3, ROWS)]
    assert outcome.stopped
    assert outcome.kept == [".damaged"]
    assert_told(outcome)


@pytest.mark.parametrize("number", [1, 3])
def test_a_damaged_row_that_tiled_holds_is_not_deleted_there(world: World, number: int) -> None:
    outcome = recover(world, measured(True), 8, in_event(number))
    assert outcome.after == outcome.before == [*range(7)]
    assert not outcome.stopped
    assert outcome.run is not None
    assert isinstance(outcome.run.life.error, DocumentsIncomplete)
    assert_told(outcome)


def test_rows_that_went_to_tiled_but_not_to_the_journal_are_not_deleted_there(
    world: World,
) -> None:
    """As after a full disk: the run went on from memory, and its process ended then."""
    outcome = recover(world, measured(True), 8, truncated(0.6))
    assert outcome.after == outcome.before == [*range(7)]
    assert isinstance(outcome.run and outcome.run.life.error, DocumentsIncomplete)
    assert_told(outcome)
