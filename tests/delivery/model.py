"""Servers in memory and in this process that fail when told to, and processes that end."""

from __future__ import annotations

from typing import Any, Protocol

import httpx
import numpy as np
from hypothesis import strategies as st
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
