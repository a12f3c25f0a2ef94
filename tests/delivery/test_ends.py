"""Writers that are dropped, and processes that end or fork."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from documents import Pair, emit, scalar_run
from ophyd.sim import det
from tiled.client import from_uri
from tiled.client.container import Container
from tiled.server import SimpleTiledServer
from tiled.server.settings import get_settings

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.journal import JournalReader

from .helpers import (
    LONG_AGO,
    PATIENCE,
    Line,
    column,
    holds,
    is_stopped,
    refused_for_good,
    wait_until,
)

# -- writers that are dropped ---------------------------------------------------------------------


@contextmanager
def resource_warnings() -> Iterator[list[str]]:
    """Messages of ResourceWarnings, once everything inside that can be dropped is."""
    messages: list[str] = []
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
        gc.collect()
    messages += [str(w.message) for w in caught if w.category is ResourceWarning]


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("bluesky-tiled-writer")]


def test_a_writer_that_is_dropped_with_rows_of_an_open_run_warns_and_stores_them(
    tiled_client: Container, journals: Path
) -> None:
    run = scalar_run()
    writer = TiledWriter(tiled_client, journal_directory=journals, flush_interval=LONG_AGO)
    emit(run.docs[:4], writer)
    with resource_warnings() as messages:
        del writer
    (message,) = messages
    assert run.uid in message
    assert "close()" in message
    wait_until(lambda: holds(tiled_client, run.uid, [0, 1]))
    wait_until(lambda: threads() == [])
    assert len(list(journals.iterdir())) == 1  # for the next process


def test_a_writer_that_is_dropped_with_nothing_to_lose_does_not_warn(
    tiled_client: Container, journals: Path, line: Line
) -> None:
    stopped = scalar_run()
    with resource_warnings() as messages:
        TiledWriter(tiled_client, journal_directory=journals / "none")
        flushed = TiledWriter(tiled_client, journal_directory=journals / "flushed")
        emit(scalar_run().docs[:4], flushed)
        assert flushed.flush()
        del flushed
        late = TiledWriter(tiled_client, journal_directory=journals / "late", timeout=0)
        with line.held():
            emit(stopped.docs, late)
            del late
    assert messages == []
    wait_until(lambda: is_stopped(tiled_client, stopped.uid))
    wait_until(lambda: threads() == [])


def test_the_thread_of_a_dropped_writer_ends_though_an_open_run_was_set_aside(
    tiled_client: Container, journals: Path
) -> None:
    run = scalar_run()
    writer = TiledWriter(tiled_client, journal_directory=journals, flush_interval=0.05)
    with refused_for_good(tiled_client):
        emit(run.docs[:4], writer)
        assert writer.flush()
    assert writer.status.set_aside
    with resource_warnings():
        del writer
    wait_until(lambda: threads() == [])
    assert len(list(journals.iterdir())) == 1


# -- processes ------------------------------------------------------------------------------------

PREAMBLE = """
import json, os, sys, time
from tiled.client import from_uri
from bluesky_tiled_writer import TiledWriter

def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())

uri, journals, docs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
writer = TiledWriter(from_uri(uri), journal_directory=journals, flush_interval=60.0)
"""


@contextmanager
def process(script: str, uri: str, journals: Path, docs: list[Pair]) -> Iterator[Any]:
    with subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + script, uri, str(journals), json.dumps(docs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def end(child: Any) -> list[str]:
    """What a process says until it ends, which it has to do by itself."""
    start = time.monotonic()
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert "Traceback" not in err
    assert time.monotonic() - start < 30
    return list(out.splitlines())


def test_a_process_that_ends_without_close_stores_its_rows(
    served_catalog: str, journals: Path
) -> None:
    run = scalar_run()
    script = "for name, doc in docs: writer(name, doc)"
    with process(script, served_catalog, journals, run.docs[:4]) as child:
        end(child)
    client = from_uri(served_catalog)
    assert column(client, run.uid) == [0, 1]
    assert len(list(journals.iterdir())) == 1
    client.context.close()


def test_a_process_that_ends_while_the_server_is_gone_keeps_its_rows_in_the_journal(
    journals: Path,
) -> None:
    run = scalar_run()
    script = """
for name, doc in docs[:2]: writer(name, doc)
writer.flush()
say("connected")
input()
for name, doc in docs[2:]: writer(name, doc)
"""
    with ExitStack() as stack:
        with SimpleTiledServer(api_key=get_settings().single_user_api_key) as server:
            uri = str(server.uri)
            child = stack.enter_context(process(script, uri, journals, run.docs[:4]))
            assert child.stdout.readline() == "connected\n"
        child.stdin.write("\n")
        child.stdin.flush()
        end(child)
    (path,) = journals.iterdir()
    with JournalReader.open(path) as reader:
        assert [(entry.name, entry.doc) for entry in reader] == run.docs[:4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_process_gets_clear_errors_and_its_parent_goes_on(
    served_catalog: str, journals: Path
) -> None:
    run, other = scalar_run(), scalar_run()
    script = """
docs, other = docs[:-1], docs[-1]
uid = docs[0][1]["uid"]
for name, doc in docs[:3]: writer(name, doc)
writer.flush()
for name, doc in docs[3:4]: writer(name, doc)
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    calls = {
        "event": lambda: writer(*docs[4]),
        "stop": lambda: writer(*docs[5]),
        "start": lambda: writer(*other),
        "flush": lambda: writer.flush(),
        "wait_for": lambda: writer.wait_for(uid),
        "recover": lambda: writer.recover(),
    }
    for name, call in calls.items():
        try:
            say(name, call())
        except Exception as error:
            say(name, type(error).__name__, error)
    say(writer.status.state)
    say(writer.close())
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
say("parent")
for name, doc in docs[4:]: writer(name, doc)
say(writer.close())
"""
    with process(script, served_catalog, journals, [*run.docs, other.docs[0]]) as child:
        said = end(child)
    for line_, name in zip(
        said, ["event", "stop", "start", "flush", "wait_for", "recover"], strict=False
    ):
        assert line_.startswith(f"{name} StorageError ")
        assert "belongs to the process from which this one was forked" in line_
        assert "in each process" in line_
    assert said[6:] == ["idle", "False", "parent", "True"]
    client = from_uri(served_catalog)
    assert column(client, run.uid) == [0, 1, 2]
    assert other.uid not in client
    assert list(journals.iterdir()) == []
    client.context.close()


# -- writers that go out of use, and the promises they made ---------------------------------------


def wait_until_down(writer: TiledWriter) -> None:
    wait_until(lambda: writer.status.server_down)


def test_a_run_that_waits_for_its_server_is_stored_though_its_writer_is_gone(
    tiled_client: Container, journals: Path, line: Line
) -> None:
    run = scalar_run()
    options: dict[str, Any] = {"journal_directory": journals, "flush_interval": 0.05}
    with resource_warnings() as messages:
        writer = TiledWriter(tiled_client, timeout=0, **options)
        with line.cut():
            emit(run.docs, writer)
            wait_until_down(writer)
            del writer
            gc.collect()
            # Another writer leaves it alone.
            with TiledWriter(tiled_client, **options) as other:
                assert other.recover(timeout=1.0) == []
    assert messages == []
    wait_until(lambda: threads() == [])
    assert is_stopped(tiled_client, run.uid)
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]
    assert column(tiled_client, run.uid) == [0, 1, 2]
    wait_until(lambda: list(journals.iterdir()) == [])


@pytest.mark.parametrize("dropped", [False, True])
def test_a_run_whose_engine_lost_its_writer_is_stopped_when_the_writer_is_gone_and_not_before(
    RE: RunEngine, tiled_client: Container, journals: Path, dropped: bool
) -> None:
    RE.dispatcher.unsubscribe_all()  # the writer of the fixture
    options: dict[str, Any] = {"journal_directory": journals, "flush_interval": 0.05}
    writer = TiledWriter(tiled_client, **options)
    token = RE.subscribe(writer)

    def plan() -> Iterator[Any]:
        yield from bps.open_run()
        for point in range(4):
            if point == 2:
                RE.unsubscribe(token)
            yield from bps.trigger_and_read([det])
        yield from bps.close_run()

    (uid,) = RE(plan())
    with TiledWriter(tiled_client, **options) as other:
        # It may go on: a pause may last for hours.
        assert other.recover(timeout=PATIENCE) == []
        wait_until(lambda: column(tiled_client, uid, "seq_num") == [1, 2])
        assert not is_stopped(tiled_client, uid)
        assert writer.status.runs == 1
        if dropped:
            with resource_warnings():
                del writer
        else:
            writer.close()
        wait_until(lambda: other.recover(timeout=PATIENCE) or is_stopped(tiled_client, uid))
    stop = tiled_client[uid].metadata["stop"]
    assert (stop["exit_status"], stop["num_events"]) == ("fail", {"primary": 2})
    assert column(tiled_client, uid, "seq_num") == [1, 2]
    wait_until(lambda: list(journals.iterdir()) == [])
