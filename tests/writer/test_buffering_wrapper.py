"""The writer inside of bluesky's `BufferingWrapper`, which calls it in a thread of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky.callbacks.buffer import BufferingWrapper
from bluesky.plans import count, scan
from documents import emit, scalar_run
from faults.proxy import Proxy
from faults.tiled_process import TiledProcess, uri_of
from ophyd.sim import det, motor
from tiled.client.container import Container
from tree import columns_of

from bluesky_tiled_writer import TiledWriter

LOGGER = "bluesky.callbacks.buffer"
"""Where the wrapper tells of errors of its callback."""

Wrap = Callable[..., tuple[TiledWriter, BufferingWrapper]]


@pytest.fixture
def client(process_client: Container) -> Container:
    return process_client


@pytest.fixture
def wrap(client: Container, journals: Path) -> Iterator[Wrap]:
    """Make a writer and a wrapper around it, whose thread ends with the test."""
    with ExitStack() as stack:

        def make(**options: Any) -> tuple[TiledWriter, BufferingWrapper]:
            options = {"journal_directory": journals} | options
            writer = stack.enter_context(TiledWriter(client, **options))
            wrapper = BufferingWrapper(writer)
            stack.callback(wrapper.shutdown)
            return writer, wrapper

        yield make


def assert_is_stored(client: Container, uid: str, events: int) -> None:
    assert client[uid].metadata["stop"]["num_events"] == {"primary": events}
    assert columns_of(client, uid)["seq_num"] == [*range(1, events + 1)]


@pytest.mark.parametrize("batch_size", [1, 10_000])
def test_all_runs_are_stored_when_the_wrapper_is_shut_down(
    RE: RunEngine, client: Container, wrap: Wrap, journals: Path, batch_size: int
) -> None:
    _, wrapper = wrap(batch_size=batch_size)
    RE.subscribe(wrapper)
    (short,) = RE(count([det], 3))
    (long,) = RE(scan([det], motor, -1, 1, 200))
    wrapper.shutdown()
    assert_is_stored(client, short, 3)
    assert_is_stored(client, long, 200)
    assert columns_of(client, long)["motor"] == sorted(columns_of(client, long)["motor"])
    assert not list(journals.iterdir())


def test_runs_that_are_measured_while_tiled_is_down_are_stored_when_it_is_back(
    RE: RunEngine, server_process: TiledProcess, client: Container, wrap: Wrap, journals: Path
) -> None:
    writer, wrapper = wrap()
    RE.subscribe(wrapper)
    server_process.kill()
    try:
        (uid,) = RE(count([det], 3))
        wrapper.shutdown()  # it does not wait for Tiled, either
        assert len(list(journals.iterdir())) == 1
    finally:
        server_process.start()
    assert writer.wait_for(uid, timeout=60.0)
    assert_is_stored(client, uid, 3)


def test_a_document_that_cannot_be_stored_is_told_in_the_log_of_the_wrapper(
    client: Container, wrap: Wrap, caplog: pytest.LogCaptureFixture
) -> None:
    _, wrapper = wrap()
    run, other = scalar_run(), scalar_run()
    name, doc = run.docs[3]
    emit([*run.docs[:3], (name, doc | {"data": None}), *run.docs[3:], *other.docs], wrapper)
    wrapper.shutdown()
    (told,) = [record for record in caplog.records if record.name == LOGGER and record.exc_info]
    assert "Exception in TiledWriter" in told.getMessage()
    assert "[InvalidDocument]" in told.getMessage()
    for uid in (run.uid, other.uid):
        assert_is_stored(client, uid, 3)


def test_without_a_journal_nobody_but_that_log_is_told_of_what_is_lost(
    server_process: TiledProcess, client: Container, wrap: Wrap, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller would be told by an exception, but the wrapper does not pass it on."""
    _, wrapper = wrap(journal_directory=None, timeout=1.0)
    run = scalar_run()
    server_process.kill()
    try:
        emit(run.docs, wrapper)
        wrapper.shutdown()
    finally:
        server_process.start()
    errors = [r for r in caplog.records if r.name == LOGGER and r.exc_info]
    assert any("[ServerUnreachable]" in record.getMessage() for record in errors)
    assert run.uid not in client


def test_a_writer_knows_nothing_of_what_is_in_the_queue(
    RE: RunEngine, client: Container, wrap: Wrap
) -> None:
    """So waiting for a run is waiting for the wrapper."""
    writer, unused = wrap()
    unused.shutdown()
    gate = threading.Event()

    def pass_on(name: str, doc: Any) -> None:
        gate.wait()
        writer(name, doc)

    wrapper = BufferingWrapper(pass_on)
    try:
        RE.subscribe(wrapper)
        (uid,) = RE(count([det], 3))
        assert writer.wait_for(uid)
        assert uid not in client
    finally:
        gate.set()
        wrapper.shutdown()
    assert_is_stored(client, uid, 3)


SESSION = """
import sys
from bluesky import RunEngine
from bluesky.callbacks.buffer import BufferingWrapper
from bluesky.plans import count
from ophyd.sim import det
from bluesky_tiled_writer import TiledWriter

RE = RunEngine()
tw = TiledWriter.from_uri(sys.argv[1])
RE.subscribe(BufferingWrapper(tw))
for num in range(1, 9):
    print(*RE(count([det], num)))
"""
"""It ends while most of its documents are in the queue of the wrapper."""


def test_a_process_that_ends_stores_what_is_in_the_queue(
    server_process: TiledProcess, client: Container, tmp_path: Path
) -> None:
    """Its end waits for the wrapper first, and then for the writer."""
    with Proxy(server_process.url, delay=0.1) as proxy:
        done = subprocess.run(
            [sys.executable, "-c", SESSION, uri_of(proxy.url)],
            env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120.0,
        )
    assert done.returncode == 0, done.stderr
    for num, uid in enumerate(done.stdout.split(), 1):
        assert_is_stored(client, uid, num)
    assert len(done.stdout.split()) == 8
    assert not list(tmp_path.rglob("*.journal"))
