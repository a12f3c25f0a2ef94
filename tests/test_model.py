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
from typing import Any, ClassVar, Protocol

import httpx
import numpy as np
import pytest
from documents import RunBuilder, data_key
from faults import LONG
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from servers import Storage, in_process
from tiled.client import from_context
from tiled.client.container import Container
from tree import read_arrow

from bluesky_tiled_writer.delivery.pipeline import Settings
from bluesky_tiled_writer.delivery.recovery import settings_for
from bluesky_tiled_writer.delivery.run_job import RunJob
from bluesky_tiled_writer.delivery.sender import Sender
from bluesky_tiled_writer.errors import (
    DocumentsIncomplete,
    OutOfStep,
    RunComplete,
    RunExists,
    ServerUnreachable,
)
from bluesky_tiled_writer.journal import JournalDirectory
from bluesky_tiled_writer.journal.durability import DocumentCopies
from bluesky_tiled_writer.run.steps import (
    AppendRows,
    CheckHeld,
    CreateRun,
    ExtendArray,
    Sink,
    Step,
    UpdateMetadata,
)
from bluesky_tiled_writer.schema.limits import ServerLimits
from bluesky_tiled_writer.sink import TiledSink

SERVER = "a server"
FAULTS = st.lists(st.sampled_from(["after", "before", ""]), min_size=1, max_size=6)
"""Of the requests to come, from the last of the list to the first."""
Row = dict[str, Any]


class World(Protocol):
    """What outlives a process, and how to make it fail."""

    faults: list[str]

    def new_sink(self, limits: ServerLimits) -> Sink: ...

    def healthy(self) -> bool: ...

    def rows(self, uid: str) -> list[Row]: ...

    def image(self, uid: str) -> list[Any]: ...

    def stopped(self, uid: str) -> bool: ...


class MemoryWorld:
    """A server that holds what steps say, and fails when it is told to."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.nodes: dict[tuple[str, ...], list[Any]] = {}

    def new_sink(self, limits: ServerLimits) -> Sink:
        return MemorySink(self)

    def healthy(self) -> bool:
        return True

    def rows(self, uid: str) -> list[Row]:
        return self.nodes.get((uid, "primary", "internal"), [])

    def image(self, uid: str) -> list[Any]:
        return [row.tolist() for row in self.nodes.get((uid, "primary", "image"), [])]

    def stopped(self, uid: str) -> bool:
        return "stop" in self.runs.get(uid, {})


class MemorySink:
    """Carries out steps as a sink has to: a row that is there is not stored again."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world = world

    def execute(self, step: Step) -> None:
        fault = self.world.faults.pop() if self.world.faults else ""
        if fault == "before":
            raise ServerUnreachable("lost on the way there")
        self._act(step)
        if fault == "after":
            raise ServerUnreachable("lost on the way back")

    def settle(self) -> None:
        pass

    def _act(self, step: Step) -> None:
        match step:
            case CreateRun():
                run = self.world.runs.setdefault(step.uid, dict(step.metadata))
                if run["start"] != step.metadata["start"]:
                    raise RunExists(step.uid)
                if "stop" in run:
                    raise RunComplete(step.uid)
            case UpdateMetadata() if step.stream is None:
                self.world.runs[step.run].update(step.values)
            case CheckHeld():
                self._check_held(step)
            case AppendRows():
                self._append(step.node.path, step.start, step.table.to_pylist())
            case ExtendArray():
                self._append(step.node.path, step.start, list(step.block))
            case _:
                pass

    def _check_held(self, step: CheckHeld) -> None:
        known = step.documents().rows if step.documents else {}
        for path, rows in self.world.nodes.items():
            if path[0] == step.run and len(rows) > known.get(path[1], 0):
                raise DocumentsIncomplete("not to be deleted")

    def _append(self, path: tuple[str, ...], start: int, rows: list[Any]) -> None:
        there = self.world.nodes.setdefault(path, [])
        if start > len(there):
            raise OutOfStep("rows are missing")
        for row_number, row in enumerate(rows, start):
            if row_number == len(there):
                there.append(row)
            elif not np.all(there[row_number] == row):
                del self.world.nodes[path]
                raise OutOfStep("other rows")


class TiledWorld:
    """Tiled in this process, on storage of its own."""

    def __init__(self, client: Container) -> None:
        self.faults: list[str] = []
        self.client = client
        hooks = client.context.http_client.event_hooks
        hooks["request"].append(self._before)
        hooks["response"].append(self._after)
        self._armed = ""

    def new_sink(self, limits: ServerLimits) -> Sink:
        return TiledSink(self.client, limits)

    def healthy(self) -> bool:
        return True

    def _before(self, request: httpx.Request) -> None:
        self._armed = self.faults.pop() if self.faults else ""
        if self._armed == "before":
            raise httpx.ReadError("lost on the way there")

    def _after(self, response: httpx.Response) -> None:
        if self._armed == "after":
            raise httpx.ReadError("lost on the way back")

    def _node(self, uid: str, name: str) -> Any:
        try:
            return self.client[uid]["primary"].base[name]
        except KeyError:
            return None

    def rows(self, uid: str) -> list[Row]:
        node = self._node(uid, "internal")
        return [] if node is None else read_arrow(node).to_pylist()

    def image(self, uid: str) -> list[Any]:
        node = self._node(uid, "image")
        return [] if node is None else node.read().tolist()

    def stopped(self, uid: str) -> bool:
        return uid in self.client and "stop" in self.client[uid].metadata


class Process:
    """What ends with a process: the sender, and runs in memory."""

    def __init__(self, world: World, journals: JournalDirectory, max_pending_bytes: int) -> None:
        self.now = 0.0
        self.sender = Sender(world.healthy, 1.0, connections=1, clock=lambda: self.now)
        self.sender._run = lambda: None  # type: ignore[method-assign]
        self.settings = Settings(world.new_sink, batch_size=4)
        self.journals = journals
        self.max_pending_bytes = max_pending_bytes
        self.runs: list[RunJob] = []

    def open(self, uid: str) -> RunJob:
        journal = self.journals.create(uid, SERVER, {"max_array_size": 0})
        run = RunJob(
            uid,
            self.settings,
            self.sender,
            DocumentCopies(uid, journal),
            max_pending_bytes=self.max_pending_bytes,
        )
        self._add(run)
        return run

    def recover(self) -> None:
        for journal in self.journals.orphans(SERVER):
            settings = settings_for(self.settings, journal)
            uid = journal.header.uid
            self._add(RunJob(uid, settings, self.sender, DocumentCopies(uid, journal), orphan=True))

    def _add(self, run: RunJob) -> None:
        self.runs.append(run)
        self.sender.add(run)

    def turn(self) -> None:
        self.now += 2.0
        self.sender.turn()

    def kill(self) -> None:
        self.sender.close(0.0)
        for run in self.runs:
            if run.copies.journal is not None:
                run.copies.journal.close()  # as the end of the process does


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
            assert run.error is None

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
    monkeypatch.setattr("bluesky_tiled_writer.delivery.sender.MAX_DELAYS", 10**6)


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
