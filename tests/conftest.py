"""Servers, clients and checks for every test.

The fixtures of `bluesky_tiled_writer.pytest_plugin` (`tiled_database`, `tiled_server`,
`tiled_client`, `tiled_writer`, `RE`) are here too: pytest finds them through the entry point of the
package.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from faults.tiled_process import TiledProcess
from servers import PostgreSQL, Storage, in_process, tiled_serve_catalog
from tiled.client import from_context, from_uri
from tiled.client.container import Container
from tiled.client.context import Context

from bluesky_tiled_writer.delivery import catch_up
from bluesky_tiled_writer.local_server import LocalServer
from bluesky_tiled_writer.sink import ownership

THREADS_OF_OTHERS = {
    "AnyIO worker thread": "pool of Starlette, which ends with its event loop",
    "(_connection_worker_thread)": "aiosqlite: one a pooled connection to a catalog database",
    "ThreadPoolExecutor-": "pool of dask, kept for the process",
    "zarr_io": "event loop of zarr, kept for the process",
    "zarr_pool": "pool that zarr decodes in, kept for the process",
    "asyncio_": "default executor of zarr's event loop, and of Tiled's",
}
"""Threads that a test may leave running: a part of the name, and the reason."""

os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="bluesky-tiled-writer-tests-")
"""Keeps the journals of tests that name no directory away from those of the user."""

LONG_FILES = [
    "fidelity/test_frames.py",
    "writer/test_order_of_rows.py",
    "writer/test_values.py",
    "writer/test_stored_runs.py",
    "writer/test_odd_values.py",
    "scale/test_scale.py",
    "faults/test_migrate_killed.py",
    "delivery/test_sent_again.py",
    "writer/test_bad_input.py",
    "writer/test_batching.py",
    "writer/test_names_of_keys.py",
    "faults/test_two_writers.py",
    "writer/test_no_key_is_lost.py",
    "cli/test_migrate.py",
    "faults/test_faults.py",
    "faults/test_refusals.py",
    "faults/test_logins.py",
    "faults/test_crash.py",
    "fidelity/test_descriptors_that_lie.py",
]
"""The files that take longest; they come first, so that workers end at about the same time."""

SERVER = os.environ.get("TILED_SERVER")
"""Address of a server of another environment, for tests with an old client (``nox -s oldest``)."""

RequestLog = Callable[[Container], AbstractContextManager[list[tuple[str, str]]]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the server logged, where a test failed that used one."""
    report = yield
    server = getattr(item, "funcargs", {}).get("tiled_server")
    if report.failed and isinstance(server, LocalServer):
        log = (server.directory / "server.log").read_text()
        report.sections.append(("Log of the Tiled server", log[-10_000:]))
    return report


@pytest.fixture(autouse=True)
def runs_are_taken_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests not wait for processes that there are not."""
    monkeypatch.setattr(ownership, "PATIENCE", 0.3)
    monkeypatch.setattr(ownership, "GRACE", 0.1)
    monkeypatch.setattr(catch_up, "RESUMED_WITHIN", 0.0)


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves threads running; they get a moment to end."""
    before = set(threading.enumerate())

    def leaked() -> list[threading.Thread]:
        new = set(threading.enumerate()) - before
        return [t for t in new if not any(part in t.name for part in THREADS_OF_OTHERS)]

    yield
    deadline = time.monotonic() + 10.0
    while leaked() and time.monotonic() < deadline:
        time.sleep(0.01)
    if threads := leaked():
        pytest.fail(f"the test left threads running: {', '.join(map(repr, threads))}")


@pytest.fixture(autouse=True)
def logging_is_left_alone() -> Iterator[None]:
    """Fail a test after which our logger has another level, or writes to where it did not."""
    ours = logging.getLogger("bluesky_tiled_writer")
    level, before = ours.level, list(ours.handlers)
    yield
    added = [h for h in ours.handlers if h not in before and type(h) is not logging.NullHandler]
    changed = ours.level != level
    ours.handlers[:] = before
    ours.setLevel(level)
    assert not added, f"the test left handlers of the log behind: {added}"
    assert not changed, "the test left the log at another level"


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Run a PostgreSQL cluster; with pytest-xdist, each worker has its own."""
    binaries = PostgreSQL.find_binaries()
    if binaries is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PostgreSQL (initdb) is not installed, and CI must not skip these tests")
        pytest.skip("PostgreSQL (initdb) is not installed")
    with PostgreSQL(binaries).running() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgresql_uri() -> Iterator[str]:
    """The URI of a database of a PostgreSQL cluster."""
    with postgresql() as cluster, cluster.new_database() as uri:
        yield uri


ContextOn = Callable[[str], Context]


@pytest.fixture(scope="session")
def context_on(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[ContextOn]:
    """Return the context of a server on a database, which is started when it is first asked for.

    Each is in a process of its own and spoken to over HTTP, as in the field: it closes connections
    after an error, which one in this process does not. There is one for each database for all
    tests, which look for their runs by uid.
    """
    contexts: dict[str, Context] = {}
    with ExitStack() as stack:

        def context_on(database: str) -> Context:
            if database not in contexts:
                sql_uri = ""
                if database == "postgresql":
                    sql_uri = request.getfixturevalue("postgresql_uri")
                directory = tmp_path_factory.mktemp(database)
                process = TiledProcess(directory, tmp_path_factory.getbasetemp(), database, sql_uri)
                context = from_uri(stack.enter_context(process).uri).context
                stack.callback(context.close)
                contexts[database] = context
            return contexts[database]

        yield context_on


DATABASES = ["duckdb", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(scope="module", params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """The name of each of the databases that Tiled keeps tables in."""
    return str(request.param)


@pytest.fixture(scope="session")
def app_context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """The context of an app in this process on DuckDB, which takes 0.5 s to make."""
    if SERVER:
        context = from_uri(SERVER).context
        yield context
        context.close()
        return
    directory = tmp_path_factory.mktemp("app")
    storage = Storage("duckdb", directory, f"duckdb:///{directory / 'tables.db'}")
    with in_process(storage, [tmp_path_factory.getbasetemp()]) as context:
        yield context


@pytest.fixture
def client(app_context: Context) -> Container:
    """A client of an app in this process, which also holds the runs of other tests."""
    return from_context(app_context)


@pytest.fixture
def storage_client(database: str, context_on: ContextOn) -> Container:
    """A client of a server in a process of its own, on each of the databases."""
    return from_context(context_on(database))


@pytest.fixture(scope="module")
def process_database() -> str:
    """The database of `server_process`, which a module may choose."""
    return "sqlite"


@pytest.fixture(scope="module")
def server_process(
    tmp_path_factory: pytest.TempPathFactory, process_database: str
) -> Iterator[TiledProcess]:
    """A server in a process of its own, for the tests of a module, which may kill it."""
    directory = tmp_path_factory.mktemp("server")
    with TiledProcess(directory, tmp_path_factory.getbasetemp(), process_database) as server:
        yield server


@pytest.fixture
def process_client(server_process: TiledProcess) -> Iterator[Container]:
    """A client of that server."""
    client = from_uri(server_process.uri)
    yield client
    client.context.close()


@pytest.fixture
def http_server(tiled_server: LocalServer) -> str:
    """The URI, with key, of a server in this process that is spoken to over HTTP.

    Its catalog is a file: one in memory has a single connection, on which requests at the same
    time get into each other's transactions.
    """
    return str(tiled_server.uri)


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    """The directory of the journals of a test's writers."""
    return tmp_path / "journals"


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let Ctrl-C interrupt this process and its children, even in a background job of a shell."""
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
