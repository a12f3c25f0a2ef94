"""A server that can be killed and a proxy in front of it, for all tests of this directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter

from . import LONG
from .proxy import Proxy
from .runs import FaultRun, write_frames
from .tiled_process import TiledProcess, uri_of

PATIENCE = 3.0
"""s: how long clients wait for an answer."""

MakeWriter = Callable[..., TiledWriter]


DATABASES = [pytest.param("postgresql", marks=pytest.mark.postgresql)]
if LONG:
    DATABASES += ["duckdb", "sqlite"]


@pytest.fixture(scope="session", params=DATABASES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TiledProcess]:
    """A server on PostgreSQL, which production runs on and which keeps no order of rows."""
    database, sql_uri = str(request.param), ""
    if database == "postgresql":
        sql_uri = request.getfixturevalue("postgresql_uri")
    directory = tmp_path_factory.mktemp("server")
    with TiledProcess(directory, tmp_path_factory.getbasetemp(), database, sql_uri) as server:
        yield server


@pytest.fixture(scope="session")
def session_proxy(server: TiledProcess) -> Iterator[Proxy]:
    with Proxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def proxy(session_proxy: Proxy) -> Iterator[Proxy]:
    """A proxy in front of the server, without faults so far; its address never changes."""
    session_proxy.clear()
    yield session_proxy
    session_proxy.clear()
    session_proxy.come_back()
    session_proxy.wait_until_idle()


@pytest.fixture
def client(server: TiledProcess) -> Iterator[Container]:
    """A client that bypasses the proxy, to see what the server has."""
    yield from _client(server.uri, timeout=30.0)


@pytest.fixture
def faulty_client(proxy: Proxy) -> Iterator[Container]:
    """A client of the proxy, with little patience."""
    yield from _client(uri_of(proxy.url), timeout=PATIENCE)


def _client(uri: str, timeout: float) -> Iterator[Container]:
    client = from_uri(uri, timeout=httpx.Timeout(timeout))
    yield client
    client.context.close()


@pytest.fixture
def make_writer(faulty_client: Container, journals: Path) -> Iterator[MakeWriter]:
    """Make a TiledWriter that sends soon, through the proxy; it is closed after the test."""
    with ExitStack() as writers:

        def make(client: Container = faulty_client, **options: Any) -> TiledWriter:
            options = {"journal_directory": journals, "flush_interval": 0.1} | options
            return writers.enter_context(TiledWriter(client, **options))

        yield make


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of the detector's file."""
    return write_frames(tmp_path_factory.mktemp("detector") / "frames.h5")


@pytest.fixture
def run(frames: str) -> FaultRun:
    return FaultRun(frames)
