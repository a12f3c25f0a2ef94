"""A TiledWriter against a real Tiled: what is stored when, and who waits for what."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from documents import Document, Pair, RunBuilder, data_key, emit, scalar_run
from faults.tiled_process import TiledProcess
from tiled.client import from_uri
from tiled.client.container import Container
from tiled.client.context import Context
from tiled.server import SimpleTiledServer
from tiled.server.settings import get_settings
from tree import read_arrow, stream_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter, TiledWriterError
from bluesky_tiled_writer.errors import (
    DocumentError,
    RequestRefused,
    ServerUnreachable,
    StorageError,
    UnknownReference,
)
from bluesky_tiled_writer.journal import JournalReader
from bluesky_tiled_writer.status import Status

PATIENCE = 20.0
"""s: for what happens in the background."""
LONG_AGO = 60.0
"""s: a `flush_interval` that is never over within a test."""
AT_ONCE = 1.0
"""s: by when a call has returned that waits for nothing; machines are busy."""

MakeWriter = Callable[..., TiledWriter]


class Line:
    """The line to the server, on which requests can be held up or lost."""

    def __init__(self, client: Container) -> None:
        self._passing = threading.Event()
        self._passing.set()
        self.is_cut = False
        self.hooks = client.context.http_client.event_hooks["request"]
        self.hooks.append(self._before)

    def _before(self, request: httpx.Request) -> None:
        if not self._passing.wait(PATIENCE):
            raise httpx.ConnectTimeout("held up for too long")
        if self.is_cut:
            raise httpx.ConnectError("the line is cut")

    @contextmanager
    def held(self) -> Iterator[None]:
        self._passing.clear()
        try:
            yield
        finally:
            self._passing.set()

    @contextmanager
    def cut(self) -> Iterator[None]:
        self.is_cut = True
        try:
            yield
        finally:
            self.is_cut = False


@pytest.fixture
def line(tiled_client: Container) -> Iterator[Line]:
    line = Line(tiled_client)
    yield line
    line.hooks.remove(line._before)


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    return tmp_path / "journals"


@pytest.fixture
def make_writer(tiled_client: Container, journals: Path) -> Iterator[MakeWriter]:
    """Make writers with journals of their own; they are closed after the test."""
    made: list[TiledWriter] = []

    def make(client: Container = tiled_client, **options: Any) -> TiledWriter:
        options = {"journal_directory": journals, "flush_interval": LONG_AGO} | options
        made.append(TiledWriter(client, **options))
        return made[-1]

    yield make
    for writer in made:
        writer.close(timeout=5.0)


@pytest.fixture(params=["app", "http"])
def any_client(request: pytest.FixtureRequest, app_context: Context) -> Container:
    """A client of an app in this process, and one over HTTP."""
    client: Container = request.getfixturevalue(
        {"app": "client", "http": "tiled_client"}[request.param]
    )
    return client


def column(client: Container, uid: str, name: str = "n") -> list[Any]:
    """What Tiled holds of a column; nothing if there is no table yet."""
    try:
        table = stream_of(client, uid)["internal"]
    except KeyError:
        return []
    return list(read_arrow(table)[name].to_pylist())


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@contextmanager
def returns_at_once() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < AT_ONCE


def messages_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What people see of our log unless they ask for more."""
    ours = [r for r in caplog.records if r.name.startswith("bluesky_tiled_writer")]
    return [r.getMessage() for r in ours if r.levelno >= logging.WARNING]


def is_stopped(client: Container, uid: str) -> bool:
    return uid in client and "stop" in client[uid].metadata


@contextmanager
def key_revoked(client: Container) -> Iterator[None]:
    """Have the server refuse whatever this client asks for."""
    context = client.context
    key, context.api_key = context.api_key, "revoked"
    try:
        yield
    finally:
        context.api_key = key


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
    wait_until(lambda: column(tiled_client, run.uid) == [0, 1, 2, 3])


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
    wait_until(lambda: column(tiled_client, run.uid) == [0, 1])  # for it was asked to


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
    with key_revoked(tiled_client):
        emit(run.docs, writer)
        with pytest.raises(StorageError, match=r"401.*Log in again") as raised:
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
        wait_until(lambda: any(r.uid == run.uid and r.stopped for r in writer._store._runs))
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


def test_the_end_of_a_with_statement_closes(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    with make_writer() as writer:
        emit(run.docs[:4], writer)
    assert column(tiled_client, run.uid) == [0, 1]
    with pytest.raises(StorageError, match="closed"):
        emit(run.docs[4:], writer)


# -- documents that fail --------------------------------------------------------------------------


class Defect(Exception):
    pass


def failing_on(kind: str, when: Callable[[Document], bool] = lambda doc: True) -> Any:
    """A normalizer with a defect."""

    def method(self: RunNormalizer, doc: Document) -> None:
        if when(doc):
            raise Defect(kind)
        getattr(RunNormalizer, kind)(self, doc)

    return type("Failing", (RunNormalizer,), {kind: method})


def test_an_event_that_a_normalizer_fails_on_costs_itself_only(
    any_client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = scalar_run()
    normalizer = failing_on("event", lambda doc: bool(doc["data"]["n"] == 1))
    writer = make_writer(any_client, normalizer=normalizer)
    emit(run.docs[:3], writer)
    with pytest.raises(Defect):
        emit(run.docs[3:4], writer)
    emit(run.docs[4:], writer)
    assert writer.flush()
    assert column(any_client, run.uid) == [0, 2]
    assert list(journals.iterdir()) == []


def test_a_start_that_a_normalizer_fails_on_costs_its_run_only(
    tiled_client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run, other = scalar_run(), scalar_run(plan_name="other")
    normalizer = failing_on("start", lambda doc: "plan_name" not in doc)
    writer = make_writer(normalizer=normalizer)
    emit(other.docs[:3], writer)
    with pytest.raises(Defect):
        emit(run.docs[:1], writer)
    with pytest.raises(UnknownReference):
        emit(run.docs[1:2], writer)
    emit(other.docs[3:], writer)
    assert writer.flush()
    assert column(tiled_client, other.uid) == [0, 1, 2]
    assert writer.status.runs == 0
    assert list(journals.iterdir()) == []


def test_a_stop_that_a_normalizer_fails_on_leaves_a_run_that_can_be_stopped(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    normalizer = failing_on("stop", lambda doc: bool(doc["exit_status"] == "success"))
    writer = make_writer(normalizer=normalizer)
    with pytest.raises(Defect):
        emit(run.docs, writer)
    assert writer.flush()
    assert column(tiled_client, run.uid) == [0, 1, 2]
    emit([run.stop(exit_status="abort")], writer)
    assert tiled_client[run.uid].metadata["stop"]["exit_status"] == "abort"


def test_another_callback_that_raises_does_not_matter(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    """A RunEngine aborts the plan then, and still sends the stop document."""
    run, other = scalar_run(), scalar_run()
    writer = make_writer()
    emit(run.docs[:4], writer)
    with pytest.raises(DocumentError):
        writer("event", {"descriptor": run.docs[1][1]["uid"]})
    emit([*other.docs, *run.docs[4:]], writer)
    assert column(tiled_client, run.uid) == column(tiled_client, other.uid) == [0, 1, 2]


# -- status ---------------------------------------------------------------------------------------


def test_the_status_of_a_writer_with_nothing_to_do(make_writer: MakeWriter) -> None:
    writer = make_writer()
    emit(scalar_run().docs, writer)
    assert writer.flush()
    status = writer.status
    assert status == Status("idle", rows_stored=3)
    assert str(status) == "state idle, runs 0, stored 3 rows"
    assert repr(writer) == f"<TiledWriter to {writer.client.uri}: {status}>"


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
            r"state writing, runs 1, pending 3 rows \(0\.0 MiB\) since \d+\.\d s, stored 0 rows",
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


def test_the_html_of_a_status_is_escaped() -> None:
    why = "Tiled answered <422> & more"
    status = Status("degraded", set_aside={"<uid>": why}, last_error=RequestRefused("<b>no</b>"))
    html = status._repr_html_()
    assert "&lt;uid&gt;: Tiled answered &lt;422&gt; &amp; more" in html
    assert "RequestRefused: &lt;b&gt;no&lt;/b&gt;" in html
    assert set(re.findall(r"<(\w+)", html)) == {"table", "tr", "th", "td"}


def test_a_writer_has_a_form_for_notebooks(make_writer: MakeWriter) -> None:
    html = make_writer()._repr_html_()
    assert html.startswith("<b>TiledWriter</b> to http")
    assert "<th style='text-align:left'>state</th><td style='text-align:left'>idle</td>" in html


# -- bounds ---------------------------------------------------------------------------------------

BOUND = 20_000
"""Bytes that may wait: about 90 rows of a `wide_run`."""

MOST = 1.35 * BOUND
"""What there may be at one moment: rows on their way, and a quarter before they are counted."""


def wide_run(events: int) -> RunBuilder:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer", "wave": data_key("array", [4], dtype_numpy="<i8")})
    for i in range(events):
        run.event("primary", {"n": i, "wave": [i, i, i, -i]})
    run.stop()
    return run


def assert_wide_run_stored(client: Container, uid: str, events: int) -> None:
    assert column(client, uid) == [*range(events)]
    wave = stream_of(client, uid)["wave"].read()
    assert wave.tolist() == [[i, i, i, -i] for i in range(events)]


def test_a_run_that_has_more_than_memory_may_take_is_behind_and_stored_from_its_journal(
    tiled_client: Container,
    make_writer: MakeWriter,
    journals: Path,
    line: Line,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = wide_run(events=500)
    writer = make_writer(max_pending_bytes=BOUND, flush_interval=0.01)
    most = 0
    with line.held():
        for pair in run.docs[:-1]:
            emit([pair], writer)
            most = max(most, writer.status.pending_bytes)
        assert writer.status.state == "behind"
        assert BOUND / 2 < most < MOST
    emit(run.docs[-1:], writer)
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert_wide_run_stored(tiled_client, run.uid, 500)
    assert writer.status.state == "idle"
    (told,) = messages_of(caplog)
    assert run.uid in told
    assert "more slowly than they come" in told
    assert list(journals.iterdir()) == []


def test_a_run_may_be_behind_when_it_is_closed(
    tiled_client: Container, make_writer: MakeWriter, line: Line
) -> None:
    run = wide_run(events=300)
    writer = make_writer(max_pending_bytes=BOUND)
    with line.held():
        emit(run.docs[:-1], writer)
        assert writer.status.state == "behind"
    assert writer.close(timeout=PATIENCE)
    assert_wide_run_stored(tiled_client, run.uid, 300)


def test_without_a_journal_the_caller_waits_for_room_in_memory(
    tiled_client: Container, make_writer: MakeWriter, line: Line
) -> None:
    run = wide_run(events=500)
    writer = make_writer(journal_directory=None, max_pending_bytes=BOUND)
    sent = 0

    def send() -> None:
        nonlocal sent
        for pair in run.docs:
            emit([pair], writer)
            sent += 1

    thread = threading.Thread(target=send)
    with line.held():
        thread.start()
        wait_until(lambda: writer.status.pending_bytes > BOUND)
        time.sleep(0.1)  # in which it would go on
        assert writer.status.pending_bytes < MOST
        assert sent < 200
    thread.join(3 * PATIENCE)
    assert sent == len(run.docs)
    assert_wide_run_stored(tiled_client, run.uid, 500)


# -- journals that cannot be written --------------------------------------------------------------


@contextmanager
def failing(function: str, number: int) -> Iterator[None]:
    """Have a function of the operating system fail."""

    def fail(*args: Any, **options: Any) -> int:
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, function, fail)
        yield


def disk_full() -> AbstractContextManager[None]:
    return failing("write", errno.ENOSPC)


def test_a_disk_that_fills_up_in_the_middle_costs_a_log_line(
    tiled_client: Container,
    make_writer: MakeWriter,
    journals: Path,
    line: Line,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = scalar_run(events=6)
    writer = make_writer()
    emit(run.docs[:3], writer)
    with line.held():
        with disk_full():
            emit(run.docs[3:5], writer)
        emit(run.docs[5:7], writer)
        assert writer.status.state == "degraded"
    emit(run.docs[7:], writer)
    assert column(tiled_client, run.uid) == [*range(6)]
    (message,) = messages_of(caplog)
    assert run.uid in message
    assert "goes on from memory" in message
    assert "make room" in message
    assert writer.flush()
    assert list(journals.iterdir()) == []
    assert writer.status.state == "idle"


def test_a_run_that_is_behind_when_the_disk_fills_up_is_stored_whole(
    tiled_client: Container, make_writer: MakeWriter, line: Line
) -> None:
    run = wide_run(events=300)
    writer = make_writer(max_pending_bytes=BOUND)
    with line.held():
        emit(run.docs[:200], writer)
        assert writer.status.state == "behind"
        with disk_full():
            emit(run.docs[200:250], writer)
        emit(run.docs[250:-1], writer)
    emit(run.docs[-1:], writer)
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert_wide_run_stored(tiled_client, run.uid, 300)


@pytest.mark.parametrize("how", ["full", "file", "read-only"])
def test_without_a_place_for_journals_runs_go_on_from_memory(
    tiled_client: Container,
    make_writer: MakeWriter,
    tmp_path: Path,
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    directory = tmp_path / "place"
    if how == "file":
        directory.touch()
        directory /= "journals"
    trouble: dict[str, AbstractContextManager[None]] = {
        "full": disk_full(),
        "read-only": failing("open", errno.EROFS),
    }
    run = scalar_run()
    writer = make_writer(journal_directory=directory)
    with trouble.get(how, nullcontext()):
        emit(run.docs[:1], writer)
    emit(run.docs[1:], writer)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    (message,) = messages_of(caplog)
    assert run.uid in message
    assert "goes on from memory" in message


def test_a_run_without_its_journal_tells_the_caller_what_goes_wrong(
    tiled_client: Container, make_writer: MakeWriter, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    run = scalar_run()
    writer = make_writer(journal_directory=tmp_path / "file" / "journals")
    emit(run.docs[:3], writer)
    with key_revoked(tiled_client), pytest.raises(TiledWriterError, match="401"):
        emit(run.docs[3:], writer)


def test_journals_are_private_and_gone_when_their_runs_are_stored(
    make_writer: MakeWriter, journals: Path
) -> None:
    run = scalar_run()
    writer = make_writer(journal_directory=journals / "below")
    emit(run.docs[:3], writer)
    (path,) = (journals / "below").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert run.uid not in path.name
    emit(run.docs[3:], writer)
    assert writer.flush()
    assert list(path.parent.iterdir()) == []


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
    wait_until(lambda: column(tiled_client, run.uid) == [0, 1])
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
    with key_revoked(tiled_client):
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
    belongs = "StorageError This TiledWriter belongs to another process"
    for line_, name in zip(
        said, ["event", "stop", "start", "flush", "wait_for", "recover"], strict=False
    ):
        assert line_.startswith(f"{name} {belongs}")
        assert "in each process" in line_
    assert said[6:] == ["idle", "False", "parent", "True"]
    client = from_uri(served_catalog)
    assert column(client, run.uid) == [0, 1, 2]
    assert other.uid not in client
    assert list(journals.iterdir()) == []
    client.context.close()
