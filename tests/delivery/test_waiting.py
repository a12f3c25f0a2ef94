"""When rows are stored, and who waits for that."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import emit, scalar_run
from faults.tiled_process import TiledProcess
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer.delivery.status import Status
from bluesky_tiled_writer.errors import (
    RequestRefused,
    ServerUnreachable,
    StorageError,
)

from .helpers import (
    AT_ONCE,
    PATIENCE,
    Line,
    MakeWriter,
    column,
    holds,
    is_stopped,
    messages_of,
    refused_for_good,
    returns_at_once,
    wait_until,
)

# -- when rows are stored -------------------------------------------------------------------------


def test_rows_can_be_read_after_the_flush_interval_without_a_stop(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    writer = make_writer(tiled_client, flush_interval=0.05)
    emit(run.docs[:4], writer)
    # Not by reading: on DuckDB, that gets into the transactions of what is written meanwhile.
    wait_until(lambda: writer.status.rows_stored == 2)
    assert column(tiled_client, run.uid) == [0, 1]


def test_rows_wait_for_the_flush_interval(tiled_client: Container, make_writer: MakeWriter) -> None:
    run = scalar_run()
    writer = make_writer()
    emit(run.docs[:4], writer)
    wait_until(lambda: run.uid in tiled_client and "primary" in tiled_client[run.uid])
    assert column(tiled_client, run.uid) == []
    assert writer.status.pending_rows == 2


def test_a_full_batch_does_not_wait(tiled_client: Container, make_writer: MakeWriter) -> None:
    run = scalar_run(events=5)
    emit(run.docs[:6], make_writer(batch_size=4))
    wait_until(lambda: holds(tiled_client, run.uid, [0, 1, 2, 3]))


def test_flush_stores_all_that_was_taken(any_client: Container, make_writer: MakeWriter) -> None:
    run, other = scalar_run(), scalar_run()
    writer = make_writer(any_client)
    emit([*run.docs[:4], *other.docs[:3]], writer)
    assert writer.flush()
    assert column(any_client, run.uid) == [0, 1]
    assert column(any_client, other.uid) == [0]
    assert writer.status.pending_rows == 0
    assert writer.status.rows_stored == 3


def test_flush_with_a_timeout_of_zero_returns_at_once(
    tiled_client: Container, make_writer: MakeWriter, line: Line
) -> None:
    run = scalar_run()
    writer = make_writer()
    assert writer.flush(timeout=0)  # there is nothing to store
    with line.held():
        emit(run.docs[:4], writer)
        with returns_at_once():
            assert not writer.flush(timeout=0)
    wait_until(lambda: holds(tiled_client, run.uid, [0, 1]))  # for it was asked to


def test_a_stop_with_a_timeout_of_zero_does_not_wait(
    tiled_client: Container, make_writer: MakeWriter, line: Line
) -> None:
    run = scalar_run()
    writer = make_writer(timeout=0)
    with line.held(), returns_at_once():
        emit(run.docs, writer)
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]


def test_a_stop_waits_for_its_timeout_at_most(
    tiled_client: Container, make_writer: MakeWriter, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    run = scalar_run()
    writer = make_writer(timeout=0.1)
    with line.held(), returns_at_once():
        emit(run.docs, writer)
    assert messages_of(caplog) == [f"Run {run.uid} is not in Tiled yet; it waits in its journal."]
    assert writer.wait_for(run.uid, timeout=PATIENCE)


@pytest.fixture
def sqlite_client(tmp_path: Path) -> Iterator[Container]:
    """A client of a server that keeps tables in SQLite.

    With those in DuckDB all requests share a connection, and appends at the same time get into
    each other's transactions: then Tiled 0.2.20 may store rows twice that it acknowledged once.
    """
    with TiledProcess(tmp_path, tmp_path, database="sqlite") as server:
        client = from_uri(server.uri)
        yield client
        client.context.close()


def test_two_writers_on_one_server_at_once(
    sqlite_client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    runs = [[scalar_run(events=40) for _ in range(3)] for _ in range(2)]
    writers = [make_writer(sqlite_client, flush_interval=0.01, batch_size=7) for _ in runs]
    threads = [
        threading.Thread(target=lambda w=w, r=r: [emit(run.docs, w) for run in r])  # type: ignore[misc]
        for w, r in zip(writers, runs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        assert writer.close()
    for run in [*runs[0], *runs[1]]:
        assert column(sqlite_client, run.uid) == [*range(40)]
        assert is_stopped(sqlite_client, run.uid)
    assert list(journals.iterdir()) == []


# -- waiting for a run ----------------------------------------------------------------------------


def test_wait_for_a_run_that_is_stored_one_that_is_not_and_one_that_nobody_knows(
    make_writer: MakeWriter, line: Line
) -> None:
    run = scalar_run()
    writer = make_writer(timeout=0)
    assert writer.wait_for("nobody knows it", timeout=0)
    with line.held():
        emit(run.docs, writer)
        with returns_at_once():
            assert not writer.wait_for(run.uid, timeout=0.01)
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert writer.wait_for(run.uid, timeout=0)


def test_wait_for_a_run_that_was_set_aside_raises_why(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    writer = make_writer()
    with refused_for_good(tiled_client):
        emit(run.docs, writer)
        with pytest.raises(StorageError, match="405") as raised:
            writer.wait_for(run.uid)
    assert isinstance(raised.value, RequestRefused)
    assert writer.status.set_aside.keys() == {run.uid}


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_stop_waits_leaves_a_writer_that_goes_on(
    tiled_client: Container, make_writer: MakeWriter, line: Line
) -> None:
    run, other = scalar_run(), scalar_run()
    writer = make_writer()
    emit(run.docs[:-1], writer)

    def press() -> None:
        wait_until(lambda: any(j.uid == run.uid and j.life.has_stop for j in writer._manager.jobs))
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    with line.held():
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            emit(run.docs[-1:], writer)
        thread.join()
        assert not writer.wait_for(run.uid, timeout=0)
    emit(other.docs, writer)
    for uid in (run.uid, other.uid):
        assert writer.wait_for(uid, timeout=PATIENCE)
        assert column(tiled_client, uid) == [0, 1, 2]


# -- close ----------------------------------------------------------------------------------------


def test_close_stores_what_was_taken_and_leaves_the_journal_of_an_open_run(
    any_client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run, stopped = scalar_run(), scalar_run()
    writer = make_writer(any_client)
    emit([*stopped.docs, *run.docs[:4]], writer)
    assert writer.close()
    assert column(any_client, run.uid) == [0, 1]
    assert not is_stopped(any_client, run.uid)
    assert len(list(journals.iterdir())) == 1
    assert writer.close()  # which does no harm
    for name, doc in (run.docs[4], scalar_run().docs[0]):
        with pytest.raises(StorageError, match="closed"):
            writer(name, doc)
    with pytest.raises(StorageError, match="closed"):
        writer.recover()
    assert column(any_client, run.uid) == [0, 1]


def test_close_returns_in_time_and_nobody_waits_for_a_closed_writer(
    make_writer: MakeWriter, journals: Path, line: Line
) -> None:
    run = scalar_run()
    with line.cut():
        writer = make_writer(timeout=0)
        emit(run.docs, writer)
        start = time.monotonic()
        assert not writer.close(timeout=0.2)
        with returns_at_once():
            assert not writer.flush(timeout=PATIENCE)
            assert not writer.wait_for(run.uid, timeout=PATIENCE)
        assert time.monotonic() - start < 0.2 + AT_ONCE
    assert len(list(journals.iterdir())) == 1


def test_close_does_not_wait_for_a_server_that_is_down(
    make_writer: MakeWriter, journals: Path, line: Line
) -> None:
    run = scalar_run()
    with line.cut():
        writer = make_writer(timeout=PATIENCE)
        emit(run.docs[:4], writer)
        start = time.monotonic()
        assert not writer.close()
        assert time.monotonic() - start < PATIENCE / 2
    assert len(list(journals.iterdir())) == 1


@pytest.mark.parametrize("how", ["a timeout", "no journal"])
def test_close_waits_for_a_server_that_is_down_if_asked_or_if_the_run_is_nowhere_else(
    tiled_client: Container, make_writer: MakeWriter, line: Line, how: str
) -> None:
    run = scalar_run()
    options = {"timeout": PATIENCE} | ({"journal_directory": None} if how == "no journal" else {})
    writer = make_writer(**options)
    with line.cut():
        emit(run.docs[:4], writer)
        wait_until(lambda: writer.status.state == "degraded")
        back = threading.Timer(0.5, lambda: setattr(line, "is_cut", False))
        back.start()
        assert writer.close(timeout=PATIENCE if how == "a timeout" else None)
        back.join()
    assert column(tiled_client, run.uid) == [0, 1]


def test_the_end_of_a_with_statement_closes(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    with make_writer() as writer:
        emit(run.docs[:4], writer)
    assert column(tiled_client, run.uid) == [0, 1]
    with pytest.raises(StorageError, match="closed"):
        emit(run.docs[4:], writer)


# -- status ---------------------------------------------------------------------------------------


def test_the_status_of_a_writer_with_nothing_to_do(make_writer: MakeWriter) -> None:
    writer = make_writer()
    emit(scalar_run().docs, writer)
    assert writer.flush()
    status = writer.status
    assert status == Status("idle", rows_stored=3)
    assert str(status) == "state idle, runs 0, stored 3 rows"
    assert repr(writer) == f"<TiledWriter to {writer.client.uri.rstrip('/')}: {status}>"


def test_the_status_of_a_writer_with_rows_on_their_way(make_writer: MakeWriter, line: Line) -> None:
    run = scalar_run()
    writer = make_writer()
    with line.held():
        emit(run.docs[:5], writer)
        status = writer.status
        assert (status.state, status.runs, status.pending_rows) == ("writing", 1, 3)
        assert 0 < status.pending_bytes < 10_000
        assert 0 < status.oldest < PATIENCE
        assert re.fullmatch(
            r"state writing, runs 1, pending 3 rows \(0\.0 MiB\) since \d+\.\d s, stored 0 rows,"
            r" journals [\d.]+ kB, [\d.]+ \wB are left on the disk",
            str(status),
        )
    assert writer.flush()
    assert writer.status.oldest == 0.0
    assert writer.status.state == "idle"
    emit(run.docs[5:], writer)


def test_the_status_of_a_writer_whose_server_is_away(make_writer: MakeWriter, line: Line) -> None:
    run = scalar_run()
    writer = make_writer()
    with line.cut():
        emit(run.docs[:5], writer)
        wait_until(lambda: writer.status.server_down)
        status = writer.status
        assert status.state == "degraded"
        assert isinstance(status.last_error, ServerUnreachable)
        assert "server does not answer" in str(status)
        assert "ServerUnreachable: No answer from Tiled" in repr(writer)
        with returns_at_once():
            emit(run.docs[5:], writer)
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert writer.status.state == "idle"


def test_a_writer_has_a_form_for_notebooks(make_writer: MakeWriter) -> None:
    html = make_writer()._repr_html_()
    assert html.startswith("<b>TiledWriter</b> to http")
    assert "<th style='text-align:left'>state</th><td style='text-align:left'>idle</td>" in html
