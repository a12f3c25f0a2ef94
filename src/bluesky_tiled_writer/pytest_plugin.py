"""Fixtures for packages that test their plans and devices against a real Tiled server.

A package that depends on this one has them without a line of configuration::

    def test_my_scan_is_stored(RE, tiled_client):
        (uid,) = RE(my_scan([detector], motor))
        assert len(tiled_client[uid]["primary"]["motor"].read()) == 10

Nothing heavy is imported before a test asks for a fixture: pytest loads this module at every
start, also in suites that never use it.
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
    from tiled.server import SimpleTiledServer

    from . import TiledWriter

TEARDOWN_TIMEOUT = 30.0
"""Seconds that a fixture waits for what a test left behind, before the test is in error."""


@pytest.fixture(scope="session")
def tiled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleTiledServer]:
    """A Tiled server with temporary storage, in this process, closed after the last test.

    It may read every file that a test writes below ``tmp_path``, so that simulated detectors
    can register theirs.
    """
    from tiled.server import SimpleTiledServer
    from tiled.server.settings import get_settings

    # Tiled has one set of settings a process: a new key would lock out the clients of any other
    # app that a test suite runs in this process.
    key = get_settings().single_user_api_key
    readable = [tmp_path_factory.getbasetemp()]
    with SimpleTiledServer(api_key=key, readable_storage=readable) as server:
        yield server


@pytest.fixture
def tiled_client(tiled_server: SimpleTiledServer) -> Iterator[Container]:
    """A client of `tiled_server`; runs that `RE` took are ``tiled_client[uid]``.

    All tests of a session share the server: look runs up by uid, do not count them.
    """
    from tiled.client import from_uri

    client = from_uri(tiled_server.uri)
    yield client
    client.context.close()


@pytest.fixture
def tiled_writer(
    tiled_client: Container, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TiledWriter]:
    """A `TiledWriter` with the settings it has at a beamline, but for journals of its own."""
    from . import TiledWriter

    with TiledWriter(tiled_client, journal_directory=tmp_path_factory.mktemp("journal")) as writer:
        yield writer


@pytest.fixture(name="RE")
def run_engine(tiled_writer: TiledWriter) -> Iterator[RunEngine]:
    """A `RunEngine` whose documents go to `tiled_writer`.

    Its event loop and thread end with the test, which bluesky itself leaves to the end of the
    process.
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
    """End a loop that runs in another thread, that thread, and whatever it still has to do.

    Tasks are cancelled and the executor is joined from inside: from here it would need
    ``run_until_complete``, which fails where the test itself runs in an event loop.
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
