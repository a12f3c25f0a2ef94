"""Servers in memory and in this process that fail when told to, and processes that end."""

from __future__ import annotations

from typing import Any, Protocol, Self

import httpx
import numpy as np
from hypothesis import strategies as st
from tiled.client.container import Container
from tree import read_arrow

from bluesky_tiled_writer.delivery.jobs import Destination, Server
from bluesky_tiled_writer.delivery.run_job import RunJob
from bluesky_tiled_writer.delivery.sender import Sender
from bluesky_tiled_writer.delivery.settings import Settings
from bluesky_tiled_writer.journal import JournalDirectory, JournalFile
from bluesky_tiled_writer.journal.durability import DocumentCopies
from bluesky_tiled_writer.run.settings import RunSettings
from bluesky_tiled_writer.run.steps import (
    Sink,
)
from bluesky_tiled_writer.schema.limits import ServerLimits
from bluesky_tiled_writer.sink import Connection, TiledSink
from bluesky_tiled_writer.testing import MemoryServer

SERVER = "a server"


FAULTS = st.lists(st.sampled_from(["after", "before", ""]), min_size=1, max_size=6)
"""Of the requests to come, from the last of the list to the first."""


Row = dict[str, Any]


class QuietServer:
    """A server that is there and takes any login, as a sender and a run manager look at it."""

    credentials: object = None
    unanswered = 0.0
    uri = key = web_page = SERVER

    def at(self, uri: Any) -> Self | None:
        return self if uri == self.uri else None

    def healthy(self) -> bool:
        return True

    def answers(self, timeout: float) -> bool:
        return True

    def rest(self) -> None:
        pass

    def use_credentials_of(self, other: Any) -> None:
        pass


class World(Server, Destination, Protocol):
    """What outlives a process, and how to make it fail."""

    faults: list[str]

    def rows(self, uid: str) -> list[Row]: ...

    def image(self, uid: str) -> list[Any]: ...

    def stopped(self, uid: str) -> bool: ...


class MemoryWorld(QuietServer, MemoryServer):
    """A server in memory, read as `World` is."""

    def image(self, uid: str) -> list[Any]:
        node = self.node(uid, "primary", "image")
        return [] if node is None else np.asarray(node.read()).tolist()

    def stopped(self, uid: str) -> bool:
        return "stop" in self.runs.get(uid, {})


class TiledWorld(QuietServer):
    """Tiled in this process, on storage of its own."""

    def __init__(self, client: Container) -> None:
        self.faults: list[str] = []
        self.client = client
        hooks = client.context.http_client.event_hooks
        hooks["request"].append(self._before)
        hooks["response"].append(self._after)
        self._armed = ""

    def new_sink(self, limits: ServerLimits) -> Sink:
        return TiledSink(Connection.of(self.client), limits)

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
        self.world = world
        self.sender = Sender(world, 1.0, connections=1, clock=lambda: self.now)
        self.sender._run = lambda: None  # type: ignore[method-assign]
        self.settings = Settings(
            run=RunSettings(batch_size=4, ready_bytes=max_pending_bytes // 4),
            max_pending_bytes=max_pending_bytes,
        )
        self.journals = journals
        self.runs: list[RunJob] = []

    def open(self, uid: str) -> RunJob:
        journal = self.journals.create(uid, SERVER, {"max_array_size": 0})
        return self._add(uid, self.settings, journal)

    def recover(self) -> None:
        for journal in self.journals.orphans(lambda header: header.server == SERVER):
            settings = self.settings.with_journal_options(journal.header.options)
            self._add(journal.header.uid, settings, journal, orphan=True)

    def _add(
        self, uid: str, settings: Settings, journal: JournalFile, *, orphan: bool = False
    ) -> RunJob:
        copies = DocumentCopies(uid, journal)
        run = RunJob(uid, settings, self.world, self.sender, copies, orphan=orphan)
        self.runs.append(run)
        self.sender.add(run)
        return run

    def turn(self) -> None:
        self.now += 2.0
        self.sender.turn()

    def kill(self) -> None:
        self.sender.close(0.0)
        for run in self.runs:
            if run.copies.journal is not None:
                run.copies.journal.close()  # as the end of the process does
