"""Runs that go to two servers at once: two writers on one RunEngine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky.plans import count
from faults.proxy import Proxy
from faults.tiled_process import TiledProcess, uri_of
from ophyd.sim import det
from tiled.client import from_uri
from tiled.client.container import Container
from tree import read_arrow, stream_of

from bluesky_tiled_writer import TiledWriter


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[TiledProcess]]:
    with ExitStack() as stack:
        base = tmp_path_factory.getbasetemp()
        yield [
            stack.enter_context(TiledProcess(tmp_path_factory.mktemp(name), base, "sqlite"))
            for name in ("here", "far")
        ]


@pytest.fixture
def clients(servers: list[TiledProcess]) -> Iterator[list[Container]]:
    clients = [from_uri(server.uri) for server in servers]
    yield clients
    for client in clients:
        client.context.close()


def rows(client: Container, uid: str) -> list[int]:
    found: list[int] = read_arrow(stream_of(client, uid)["internal"])["seq_num"].to_pylist()
    return found


def test_both_have_the_run_when_the_scan_ends_and_neither_waits_for_the_other(
    RE: RunEngine, servers: list[TiledProcess], clients: list[Container], journals: Path
) -> None:
    """The first one to get the stop document leaves the waiting to the last."""
    with Proxy(servers[0].url, delay=0.1) as proxy, ExitStack() as stack:
        slow, fast = (
            stack.enter_context(TiledWriter.from_uri(uri, journal_directory=journals))
            for uri in (uri_of(proxy.url), servers[1].uri)
        )
        unstored: list[int] = []

        def look(name: str, doc: dict[str, Any]) -> None:
            if name == "stop":
                unstored.append(slow.status.runs)

        for callback in (slow, look, fast):
            RE.subscribe(callback)
        (uid,) = RE(count([det], 3))
        assert unstored == [1]  # its server has had no time for it
        for client in clients:
            assert client[uid].metadata["stop"]["exit_status"] == "success"
            assert rows(client, uid) == [1, 2, 3]
        slow.client.context.close()
        fast.client.context.close()


def test_a_server_that_is_down_holds_nobody_and_catches_up(
    RE: RunEngine, servers: list[TiledProcess], clients: list[Container], journals: Path
) -> None:
    with ExitStack() as stack:
        writers = [
            stack.enter_context(TiledWriter(client, journal_directory=journals / name))
            for client, name in zip(clients, ("here", "far"), strict=True)
        ]
        for writer in writers:
            RE.subscribe(writer)
        servers[1].kill()
        (uid,) = RE(count([det], 3))
        assert rows(clients[0], uid) == [1, 2, 3]
        assert not list((journals / "here").iterdir())
        assert list((journals / "far").iterdir())
        servers[1].start()
        assert writers[1].wait_for(uid, 60.0)
        assert rows(clients[1], uid) == [1, 2, 3]
        assert clients[1][uid].metadata["stop"] == clients[0][uid].metadata["stop"]


def test_each_has_its_own_idea_of_a_start_document(
    RE: RunEngine, clients: list[Container], journals: Path
) -> None:
    """As for access tags that one of the servers knows: a patch copies what it changes."""
    changed = {"start": lambda doc: {**doc, "facility": "far"}}
    with (
        TiledWriter(clients[0], journal_directory=journals) as here,
        TiledWriter(clients[1], journal_directory=journals, patches=changed) as far,
    ):
        RE.subscribe(here)
        RE.subscribe(far)
        (uid,) = RE(count([det], 1))
        assert clients[1][uid].metadata["start"]["facility"] == "far"
        assert "facility" not in clients[0][uid].metadata["start"]
