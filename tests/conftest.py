"""Servers, clients and checks for every test.

The fixtures of `bluesky_tiled_writer.pytest_plugin` (`tiled_server`, `tiled_client`,
`tiled_writer`, `RE`) are here too: pytest finds them through the entry point of the package.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from servers import PostgreSQL, Storage, in_process, tiled_serve_catalog
from tiled.client import from_context
from tiled.client.container import Container
from tiled.client.context import Context
from tiled.server import SimpleTiledServer

THREADS_OF_OTHERS = {
    "AnyIO worker thread": "pool of Starlette, which ends with its event loop",
    "(_connection_worker_thread)": "aiosqlite: one a pooled connection to a catalog database",
    "ThreadPoolExecutor-": "pool of dask, kept for the process",
    "zarr_io": "event loop of zarr, kept for the process",
    "zarr_pool": "pool that zarr decodes in, kept for the process",
    "asyncio_": "default executor of zarr's event loop, and of Tiled's",
}
"""Part of the name of a thread that a test may leave running, and why."""

os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="bluesky-tiled-writer-tests-")
"""Journals of tests that name no directory: not among those of whoever runs the tests."""

RequestLog = Callable[[Container], AbstractContextManager[list[tuple[str, str]]]]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Fail a test whose threads go on after it; those need a moment to end after a `join`."""
    before = set(threading.enumerate())

    def leaked() -> list[threading.Thread]:
        new = set(threading.enumerate()) - before
        return [t for t in new if not any(part in t.name for part in THREADS_OF_OTHERS)]

    yield
    deadline = time.monotonic() + 2.0
    while leaked() and time.monotonic() < deadline:
        time.sleep(0.01)
    if threads := leaked():
        pytest.fail(f"the test left threads running: {', '.join(map(repr, threads))}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL cluster; with pytest-xdist, one for each worker."""
    binaries = PostgreSQL.find_binaries()
    if binaries is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PostgreSQL (initdb) is not installed, and CI must not skip these tests")
        pytest.skip("PostgreSQL (initdb) is not installed")
    with PostgreSQL(binaries).running() as cluster:
        yield cluster


DATABASES = ["duckdb", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(scope="module", params=DATABASES)
def storage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storage]:
    """Empty storage on each of the databases that Tiled keeps tables in."""
    directory = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        if request.param == "postgresql":
            cluster: PostgreSQL = request.getfixturevalue("postgresql")
            uri = stack.enter_context(cluster.new_database())
        else:
            uri = f"{request.param}:///{directory / 'tables.db'}"
        yield Storage(request.param, directory, uri)


@pytest.fixture(scope="module")
def storage_context(
    storage: Storage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Context]:
    """An app in this process on each database, shared by the tests of a module."""
    with in_process(storage, readable=[tmp_path_factory.getbasetemp()]) as context:
        yield context


@pytest.fixture(scope="module")
def app_context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """An app in this process on DuckDB, shared by the tests of a module (it takes 0.5 s)."""
    directory = tmp_path_factory.mktemp("app")
    storage = Storage("duckdb", directory, f"duckdb:///{directory / 'tables.db'}")
    with in_process(storage, readable=[tmp_path_factory.getbasetemp()]) as context:
        yield context


@pytest.fixture
def client(app_context: Context) -> Container:
    """A client of an app in this process. It also holds the runs of the module's other tests."""
    return from_context(app_context)


@pytest.fixture
def storage_client(storage_context: Context) -> Container:
    """As `client`, on each of the databases that Tiled keeps tables in."""
    return from_context(storage_context)


@pytest.fixture
def http_server(tiled_server: SimpleTiledServer) -> str:
    """The URI of a server in this process that is spoken to over HTTP."""
    return str(tiled_server.uri)


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    """The directory of the journals of a test's writers."""
    return tmp_path / "journals"


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heeded, here and in processes that are started, though it is not in a job of a
    shell's background.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def served_catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI, with key, of a ``tiled serve catalog`` process."""
    directory = tmp_path_factory.mktemp("served-catalog")
    with tiled_serve_catalog(directory, [tmp_path_factory.getbasetemp()]) as uri:
        yield uri


@pytest.fixture
def request_log() -> RequestLog:
    """Record the HTTP requests of a client as (method, path below the API's root).

    Used as ``with request_log(client) as requests:``; it sees every client of that context.
    """

    @contextmanager
    def log(client: Container) -> Iterator[list[tuple[str, str]]]:
        root = str(client.context.api_uri.path)
        requests: list[tuple[str, str]] = []
        hooks = client.context.http_client.event_hooks["request"]

        def record(request: httpx.Request) -> None:
            path = request.url.path.removeprefix(root).replace("//", "/")
            requests.append((request.method, path))

        hooks.append(record)
        try:
            yield requests
        finally:
            hooks.remove(record)

    return log
