"""Documents, flushes, faults, crashes and recoveries in any order: every row is stored once.

The model is a list of rows. It is held against a sink in memory, which makes thousands of steps
cheap, and against Tiled in this process, whose requests are made to fail before or after they
took effect. There is no thread: the sender's turns are taken when the machine says so.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from documents import RunBuilder, data_key
from faults import LONG
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from servers import Storage, in_process
from tiled.client import from_context

from bluesky_tiled_writer.delivery.run_job import RunJob
from bluesky_tiled_writer.journal import JournalDirectory
from delivery.model import FAULTS, MemoryWorld, Process, Row, TiledWorld, World


class Machine(RuleBasedStateMachine):
    """What may happen, in any order."""

    world: ClassVar[World]
    max_runs = 2

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.journals = JournalDirectory(self.directory)
        self.pending_bytes = 2**20
        self.process = Process(self.world, self.journals, self.pending_bytes)
        self.model: dict[str, list[Row]] = {}
        self.open: dict[str, tuple[RunBuilder, RunJob]] = {}
        self.with_stop: set[str] = set()
        self.world.faults.clear()

    # -- what people do

    @initialize()
    def first(self) -> None:
        self.start()

    @precondition(lambda self: len(self.model) < self.max_runs)
    @rule()
    def start(self) -> None:
        builder = RunBuilder()
        builder.start()
        builder.descriptor("primary", {"x": "number", "image": data_key("array", [2])})
        run = self.process.open(builder.uid)
        self.model[builder.uid] = []
        self.open[builder.uid] = (builder, run)
        self._send(builder, run)

    def _send(self, builder: RunBuilder, run: RunJob) -> None:
        for name, doc in builder.docs:
            run.take(name, doc)
        builder.docs.clear()

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9), count=st.integers(1, 9))
    def events(self, which: int, count: int) -> None:
        uid = sorted(self.open)[which % len(self.open)]
        builder, run = self.open[uid]
        for value in range(len(self.model[uid]), len(self.model[uid]) + count):
            image = [value, -value]
            builder.event("primary", {"x": value, "image": image})
            self.model[uid].append({"x": float(value), "image": [float(v) for v in image]})
        self._send(builder, run)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9), count=st.integers(1, 9), faults=FAULTS)
    def events_in_trouble(self, which: int, count: int, faults: list[str]) -> None:
        self.time_goes_by(1)
        self.events(which, count)
        self.world.faults[:] = faults
        self.process.turn()

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9))
    def stop(self, which: int) -> None:
        uid = sorted(self.open)[which % len(self.open)]
        builder, run = self.open.pop(uid)
        builder.stop()
        self._send(builder, run)
        self.with_stop.add(uid)

    # -- what happens to them

    @rule(turns=st.integers(1, 3))
    def time_goes_by(self, turns: int) -> None:
        for _ in range(turns):
            self.process.turn()

    @rule(faults=FAULTS)
    def trouble_ahead(self, faults: list[str]) -> None:
        self.world.faults[:] = faults

    @rule(recover=st.booleans(), pending_bytes=st.sampled_from([500, 2**20]))
    def crash(self, recover: bool, pending_bytes: int) -> None:
        self.process.kill()
        self.open.clear()
        self.process = Process(self.world, self.journals, pending_bytes)
        if recover:
            self.process.recover()

    @invariant()
    def nothing_is_given_up(self) -> None:
        for run in self.process.runs:
            assert run.life.error is None

    def teardown(self) -> None:
        self.world.faults.clear()
        for uid, (builder, run) in list(self.open.items()):
            builder.stop()
            self._send(builder, run)
            self.with_stop.add(uid)
        self.process.recover()
        for _ in range(40):
            self.process.turn()
        try:
            for uid, rows in self.model.items():
                assert self.world.stopped(uid)
                stored = self.world.rows(uid)
                assert [row["x"] for row in stored] == [row["x"] for row in rows]
                assert [row["seq_num"] for row in stored] == [*range(1, len(rows) + 1)]
                assert self.world.image(uid) == [row["image"] for row in rows]
            assert self.journals.journals() == []
        finally:
            self.process.kill()
            shutil.rmtree(self.directory)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never take trouble for one that does not go away: a machine may have nothing else."""
    monkeypatch.setattr("bluesky_tiled_writer.delivery.attempts.MAX_DELAYS", 10**6)


def run_machine(world: World, examples: int, steps: int) -> None:
    machine = type("MachineInThisWorld", (Machine,), {"world": world})
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_row_is_stored_once_by_any_sink() -> None:
    run_machine(MemoryWorld(), examples=1000 if LONG else 40, steps=30)


@pytest.fixture
def tiled_world(tmp_path: Path) -> Iterator[TiledWorld]:
    storage = Storage("duckdb", tmp_path, f"duckdb:///{tmp_path / 'tables.db'}")
    with in_process(storage) as context:
        yield TiledWorld(from_context(context))


def test_every_row_is_stored_once_in_tiled(tiled_world: TiledWorld) -> None:
    run_machine(tiled_world, examples=300 if LONG else 6, steps=20)
