"""The caller's thread and the sender's, line by line in any order: what is said is true.

The threads run the real run manager, sender and jobs against a server in memory. See `scheduler`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from documents import Pair, RunBuilder
from faults import LONG
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bluesky_tiled_writer.delivery import (
    RunJob,
    RunManager,
    RunState,
    Sender,
    Settings,
)
from bluesky_tiled_writer.errors import (
    DocumentsIncomplete,
    OutOfStep,
    RequestRefused,
    ServerUnreachable,
    StorageError,
)
from bluesky_tiled_writer.journal import JournalDirectory, JournalReader
from bluesky_tiled_writer.run import CheckHeld, Step
from bluesky_tiled_writer.run.settings import RunSettings
from bluesky_tiled_writer.schema import ServerLimits
from bluesky_tiled_writer.testing import MemorySink
from delivery.model import MemoryWorld
from delivery.scheduler import Scheduler, known_locks

ROWS = 12
TURNS = 60

FAULTS: dict[str, Callable[[], Exception]] = {
    "forbidden": lambda: RequestRefused("nothing like this", status=422),
    "trouble": lambda: RequestRefused("it happens", status=500),
    "lost": lambda: ServerUnreachable("no answer"),
    "other rows": lambda: OutOfStep("other rows"),
}


class FaultySink(MemorySink):
    """Fails at the steps that its server names, before or after they took effect."""

    server: FaultyServer

    def execute(self, step: Step) -> None:
        server = self.server
        server.attempts += 1
        fault, after = server.script.pop(server.attempts, ("", False))
        # What is forbidden takes no effect, and a node is looked at before it is written to.
        if fault in ("forbidden", "other rows") or (fault and not after):
            raise FAULTS[fault]()
        if server.held and isinstance(step, CheckHeld):
            server.held = False
            raise DocumentsIncomplete("rows of another process")
        super().execute(step)
        if fault:
            server.answers_were_lost = True
            raise FAULTS[fault]()


class FaultyServer(MemoryWorld):
    def __init__(self, script: dict[int, tuple[str, bool]] | None = None) -> None:
        super().__init__()
        self.script = script or {}
        self.held = self.answers_were_lost = False
        self.attempts = 0

    def new_sink(self, limits: ServerLimits | None = None) -> MemorySink:
        return FaultySink(self, limits)


def run_of(rows: int = ROWS) -> list[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "integer"})
    for value in range(rows):
        run.event("primary", {"x": value})
    run.stop()
    return run.docs


@dataclass
class Stage:
    """A run manager, its sender without a thread of its own, and a server."""

    server: FaultyServer
    directory: Path
    journaled: bool = True
    max_pending_bytes: int = 2**20
    batch_size: int = 4
    now: float = 0.0

    def __post_init__(self) -> None:
        self.sender = Sender(self.server, 1.0, connections=1, clock=lambda: self.now)
        self.sender._run = lambda: None  # type: ignore[method-assign]
        self.settings = Settings(
            run=RunSettings(
                batch_size=self.batch_size, ready_bytes=max(1, self.max_pending_bytes // 4)
            ),
            normalizer=None,
            max_pending_bytes=self.max_pending_bytes,
            timeout=1.0,
        )
        self.journals = JournalDirectory(self.directory) if self.journaled else None
        self.manager = RunManager(self.settings, self.sender, self.server, self.journals)

    def turn(self) -> None:
        self.now += 2.0
        self.sender.turn()

    def send_for(self, caller: Caller) -> None:
        """Take turns until the caller has brought everything, and then some."""
        while not caller.done:
            self.turn()
        self.turns()

    def turns(self) -> None:
        for _ in range(TURNS):
            self.turn()

    def rows(self, uid: str) -> list[int]:
        return [row["x"] for row in self.server.rows(uid)]

    def close(self) -> None:
        for job in self.manager.jobs:
            job.release()


@pytest.fixture(autouse=True)
def locks() -> Iterator[None]:
    with known_locks():
        yield


class Caller:
    """Brings the documents of a run, and remembers how many were taken."""

    def __init__(self, stage: Stage, docs: list[Pair]) -> None:
        self.stage = stage
        self.docs = docs
        self.uid = docs[0][1]["uid"]
        self.job: RunJob | None = None
        self.events = 0
        self.errors: list[Exception] = []
        self.done = False

    def __call__(self) -> None:
        try:
            self._bring()
        finally:
            self.done = True

    def _bring(self) -> None:
        job = self.stage.manager.open(self.uid)
        assert isinstance(job, RunJob)
        self.job = job
        for name, doc in self.docs:
            try:
                job.take(name, doc)
            except StorageError as error:
                self.errors.append(error)
            else:
                self.events += name == "event"
        with suppress(StorageError):
            self.stage.manager.wait_stored(job)


class Reader:
    """Asks the manager now and then, and holds its answers against the server."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.manager = caller.stage.manager

    def __call__(self) -> None:
        for _ in range(3):
            self._flush()
            self._status()
            self._wait_for()

    def _flush(self) -> None:
        caller, before = self.caller, self.caller.events
        job = caller.job
        flushed = self.manager.flush(1.0)
        if flushed and job is not None and job.life.error is None:
            held = caller.stage.rows(caller.uid)
            assert len(held) >= before, f"{len(held)} rows are flushed, {before} were taken"

    def _status(self) -> None:
        before = self.caller.events
        status = self.manager.status
        if status.state == "idle" and self.caller.job is not None and not status.set_aside:
            assert len(self.caller.stage.rows(self.caller.uid)) >= before

    def _wait_for(self) -> None:
        job = self.caller.job
        if job is None:
            return
        stored = False
        with suppress(StorageError):
            stored = self.manager.wait_for(self.caller.uid, 1.0)
        if stored:
            assert self.caller.stage.server.stopped(self.caller.uid)


def assert_true_in_the_end(stage: Stage, caller: Caller, messages: list[str]) -> None:
    """Hold what is said of a run against what the server and the journal have."""
    job, server = caller.job, stage.server
    assert job is not None
    held = stage.rows(caller.uid)
    assert held == [*range(len(held))], "in order, each row once"
    status = stage.manager.status
    aside = [text for text in messages if "was set aside" in text]
    if job.life.stored:
        assert job.life.state is RunState.CLOSED
        assert job.life.error is None
        assert held == [*range(ROWS)]
        assert server.stopped(caller.uid)
        assert job.delivered == job.taken
        assert status.state == "idle"
        assert not aside
        assert not list(stage.directory.iterdir())
        assert stage.manager.wait_for(caller.uid, 0.0)
        return
    assert job.life.state is RunState.RELEASED
    assert job.life.error is not None
    # A stop document whose answer was lost may be there, though it is refused when sent again.
    assert not server.stopped(caller.uid) or server.answers_were_lost
    assert caller.uid in status.set_aside
    assert status.state == "degraded"
    assert len(aside) == 1
    with pytest.raises(type(job.life.error)):
        stage.manager.wait_for(caller.uid, 0.0)
    if stage.journaled:
        (path,) = stage.directory.iterdir()
        with JournalReader.open(path) as reader:
            assert [entry.name for entry in reader] == [name for name, _ in caller.docs]


@given(
    lines=st.lists(st.integers(0, 300), max_size=12),
    faults=st.lists(
        st.tuples(st.integers(1, 12), st.sampled_from([*FAULTS]), st.booleans()), max_size=3
    ),
    held=st.booleans(),
    bound=st.sampled_from([1500, 2**20]),
    journaled=st.booleans(),
    batch_size=st.sampled_from([1, 4, 100]),
)
@settings(
    deadline=None,
    max_examples=400 if LONG else 25,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink an example takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_what_is_said_of_a_run_is_true_whatever_the_interleaving(
    lines: list[int],
    faults: list[tuple[int, str, bool]],
    held: bool,
    bound: int,
    journaled: bool,
    batch_size: int,
) -> None:
    server = FaultyServer({step: (fault, after) for step, fault, after in faults})
    server.held = held and journaled
    with tempfile.TemporaryDirectory() as directory, messages_of_log() as messages:
        stage = Stage(server, Path(directory), journaled, bound, batch_size)
        caller = Caller(stage, run_of())
        sending = partial(stage.send_for, caller)
        try:
            with Scheduler(caller=caller, sender=sending, reader=Reader(caller)) as scheduler:
                scheduler.interleave(lines)
            stage.turns()
            assert_true_in_the_end(stage, caller, messages)
        finally:
            stage.close()


class messages_of_log(logging.Handler):  # reads as what it is: a context
    """Collect the messages of our log."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def __enter__(self) -> list[str]:
        logging.getLogger("bluesky_tiled_writer").addHandler(self)
        return self.messages

    def __exit__(self, *args: object) -> None:
        logging.getLogger("bluesky_tiled_writer").removeHandler(self)


# -- two races that were there --------------------------------------------------------------------


def test_a_run_that_is_set_aside_while_it_falls_behind_is_not_sent_any_more(
    tmp_path: Path,
) -> None:
    """It was sent all the same, and ended as stored, with a refusal as its error."""
    server = FaultyServer({3: ("forbidden", False)})
    stage = Stage(server, tmp_path, max_pending_bytes=1500)
    caller = Caller(stage, run_of())
    with Scheduler(caller=caller, sender=partial(stage.send_for, caller)) as scheduler:
        scheduler.run_to("caller", "_fall_behind")  # there are too many rows, but no lock yet
        assert caller.job is not None
        while caller.job.life.error is None:
            scheduler.step("sender")
        attempts = server.attempts
        scheduler.interleave([])
    assert server.attempts == attempts, "nothing is sent after that"
    assert caller.job.life.state is RunState.RELEASED
    assert isinstance(caller.job.life.error, RequestRefused)
    assert not server.stopped(caller.uid)
    assert not caller.job.life.behind
    stage.close()


@pytest.mark.parametrize("function", ["forget_stored", "_forget", "add"])
def test_jobs_are_forgotten_once_though_both_threads_forget_them(
    tmp_path: Path, function: str
) -> None:
    """A new run forgets those that are stored, and so does the recovery of one of them."""
    docs = run_of()
    stage = Stage(FaultyServer(), tmp_path)
    first = Caller(stage, docs)
    with Scheduler(caller=first, sender=partial(stage.send_for, first)) as scheduler:
        scheduler.interleave([])
    assert stage.manager.status.rows_stored == ROWS
    assert stage.journals is not None
    journal = stage.journals.create(first.uid, stage.server.uri)  # of another process
    for name, doc in docs:
        journal.append(name, doc)
    journal.close()

    second = Caller(stage, run_of())
    orphans = stage.manager._orphans
    assert orphans is not None

    def recover() -> None:
        orphans.search()
        stage.send_for(second)

    with Scheduler(caller=second, sender=recover) as scheduler:
        scheduler.run_to("caller", function)
        for _ in range(3):
            scheduler.step("caller")
        for _ in range(300):  # to where it adopts the journal, or waits for the lock
            scheduler.step("sender")
        scheduler.interleave([])
    stage.turns()
    assert {job.uid for job in stage.manager.jobs} <= {first.uid, second.uid}
    assert {job.life.state for job in stage.manager.jobs} == {RunState.CLOSED}
    assert stage.manager.status.rows_stored == 2 * ROWS
    stage.close()


def test_a_run_that_tiled_holds_is_stored_though_it_was_set_aside_meanwhile(tmp_path: Path) -> None:
    stage = Stage(FaultyServer(), tmp_path)
    job = stage.manager.open("a run")
    assert isinstance(job, RunJob)
    job.take(*run_of()[0])
    job.set_aside(RequestRefused("nothing like this", status=422))
    assert isinstance(job.life.error, RequestRefused)
    job.complete()
    assert job.life.state is RunState.STORED
    assert job.life.error is None
    stage.close()
