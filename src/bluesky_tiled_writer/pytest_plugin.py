"""Pytest fixtures for packages that test their plans and devices against a real Tiled server.

pytest finds them wherever this package is installed; nothing has to be configured::

    def test_my_scan_is_stored(RE, tiled_client):
        (uid,) = RE(my_scan([detector], motor))
        assert len(tiled_client[uid]["primary"]["motor"].read()) == 10

Heavy modules are imported only when a test uses a fixture, because pytest loads this module in
every suite, also in those that never do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import asyncio
    import threading
    from collections.abc import Iterator

    from bluesky import RunEngine
    from tiled.client.container import Container

    from . import TiledWriter
    from .local_server import LocalServer

TEARDOWN_TIMEOUT = 30.0
"""Seconds that the teardown of `RE` waits for tasks that the test has left running."""


@pytest.fixture(scope="session")
def tiled_database() -> str:
    """Return the `database` of `tiled_server`; define your own to have another one."""
    return "sqlite"


@pytest.fixture(scope="session")
def tiled_server(
    tiled_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    """Start a Tiled server in this process, with temporary storage; closed after the last test.

    Simulated detectors may register files below ``tmp_path``, which the server is allowed to read.
    """
    from tiled.server.settings import get_settings

    from .local_server import LocalServer

    # Tiled has one set of settings for each process. A new key would lock out the clients of any
    # other app that the test suite runs in this process.
    key = get_settings().single_user_api_key
    readable = [tmp_path_factory.getbasetemp()]
    with LocalServer(database=tiled_database, readable_storage=readable, api_key=key) as server:
        yield server


@pytest.fixture
def tiled_client(tiled_server: LocalServer) -> Iterator[Container]:
    """Connect to `tiled_server`; a run that `RE` took is ``tiled_client[uid]``.

    All tests of a session share the server, so look up runs by uid and do not count them.
    """
    from tiled.client import from_uri

    client = from_uri(tiled_server.uri)
    yield client
    client.context.close()


@pytest.fixture
def tiled_writer(
    tiled_client: Container, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TiledWriter]:
    """Make a `TiledWriter` with default settings, except that its journals are temporary."""
    from . import TiledWriter

    with TiledWriter(tiled_client, journal_directory=tmp_path_factory.mktemp("journal")) as writer:
        yield writer


@pytest.fixture(name="RE")
def run_engine(tiled_writer: TiledWriter) -> Iterator[RunEngine]:
    """Make a `RunEngine` that `tiled_writer` is subscribed to.

    Its event loop and thread end with the test; bluesky would keep them until the process ends.
    """
    import asyncio

    from bluesky import RunEngine
    from bluesky.run_engine import get_bluesky_event_loop, set_bluesky_event_loop

    previous_loop = get_bluesky_event_loop()  # type: ignore[no-untyped-call]
    loop = asyncio.new_event_loop()
    engine = RunEngine({}, loop=loop)
    engine.subscribe(tiled_writer)  # type: ignore[no-untyped-call]
    yield engine
    try:
        if engine.state == "paused":
            engine.halt()  # type: ignore[no-untyped-call]
    finally:
        _close_loop(loop)
        set_bluesky_event_loop(previous_loop)  # type: ignore[no-untyped-call]


def _close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the tasks of a loop in another thread, and end its executor, the loop and the thread.

    The loop does this itself. ``run_until_complete``, to do it from here, fails if the test runs in
    an event loop.
    """
    import asyncio

    async def finish() -> threading.Thread:
        from threading import current_thread

        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()
        return current_thread()

    try:
        thread = asyncio.run_coroutine_threadsafe(finish(), loop).result(TEARDOWN_TIMEOUT)
    finally:
        loop.call_soon_threadsafe(loop.stop)
    thread.join(TEARDOWN_TIMEOUT)
    loop.close()
