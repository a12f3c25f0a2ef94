"""The same run comes once more: half of it, or all of it, or while it is recovered."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from conftest import RequestLog
from documents import emit
from tiled.client.container import Container
from tree import snapshot

from bluesky_tiled_writer.delivery.recovery import Recovery
from bluesky_tiled_writer.errors import (
    DocumentsIncomplete,
    DuplicateRun,
)
from delivery.helpers import MakeWriter, writers_of
from delivery.recoveries import (
    PATIENCE,
    assert_nothing_left,
    assert_rich_run_stored,
    column,
    leave_journal,
    rich_run,
    store,
    writes,
)


@pytest.fixture
def make_writer(client: Container, journals: Path) -> Iterator[MakeWriter]:
    """Make writers that flush when they are told to; they are closed after the test."""
    with writers_of(client, journals) as make:
        yield make


@pytest.mark.parametrize("batch_size", [1, 10_000])
@pytest.mark.parametrize(("stored", "rows"), [(1, 0), (6, 3), (9, 6), (12, 11)])
def test_a_replay_of_half_a_run_sends_the_other_half(
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    stored: int,
    rows: int,
    batch_size: int,
) -> None:
    run = rich_run()
    store(client, run.docs[:stored])
    writer = make_writer(batch_size=batch_size)
    with rows_sent(client) as sent:
        emit(run.docs, writer)
        assert writer.flush()
    assert_rich_run_stored(client, run.uid)
    assert sum(sent) == 12 - rows
    assert_nothing_left(journals)


@contextmanager
def rows_sent(client: Container) -> Iterator[list[int]]:
    """Rows of tables that a client sends meanwhile, by request."""
    rows: list[int] = []

    def see(request: httpx.Request) -> None:
        if "/table/partition/" in request.url.path:
            rows.append(pa.ipc.open_file(request.content).read_all().num_rows)

    hooks = client.context.http_client.event_hooks["request"]
    hooks.append(see)
    try:
        yield rows
    finally:
        hooks.remove(see)


@pytest.mark.parametrize("batch_size", [1, 10_000])
def test_a_replay_of_a_finished_run_sends_nothing_and_says_so(
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    request_log: RequestLog,
    caplog: pytest.LogCaptureFixture,
    batch_size: int,
) -> None:
    run = rich_run()
    store(client, run.docs)
    before = snapshot(client[run.uid])
    caplog.set_level(logging.INFO, "bluesky_tiled_writer")
    caplog.clear()
    writer = make_writer(batch_size=batch_size)
    with request_log(client) as requests:
        emit(run.docs, writer)
        assert writer.flush()
    assert writer.wait_for(run.uid)
    assert writes(requests) == [("POST", "metadata")]
    assert f"Run {run.uid} is already stored; nothing was sent." in caplog.text
    assert snapshot(client[run.uid]) == before
    assert_nothing_left(journals)


def test_a_replay_of_fewer_rows_than_tiled_holds_changes_nothing(
    client: Container, make_writer: MakeWriter, caplog: pytest.LogCaptureFixture
) -> None:
    run = rich_run()
    store(client, run.docs[:9])
    before = snapshot(client[run.uid])
    writer = make_writer()
    emit([*run.docs[:5], run.docs[-1]], writer)
    with pytest.raises(DocumentsIncomplete, match="give 1 rows of the stream 'primary'"):
        writer.wait_for(run.uid)
    assert snapshot(client[run.uid]) == before
    assert writer.status.set_aside.keys() == {run.uid}
    assert "Nothing was changed there" in caplog.text


def test_a_replay_that_lacks_the_first_rows_changes_nothing(
    client: Container, make_writer: MakeWriter
) -> None:
    run = rich_run()
    store(client, run.docs[:7])
    before = snapshot(client[run.uid])
    writer = make_writer()
    emit([*run.docs[:4], *run.docs[6:8], run.docs[-1]], writer)
    with pytest.raises(DocumentsIncomplete):
        writer.wait_for(run.uid)
    assert snapshot(client[run.uid]) == before


def test_a_replay_without_a_journal_changes_nothing_that_it_may_not_have(
    client: Container, make_writer: MakeWriter
) -> None:
    run = rich_run()
    store(client, run.docs[:7])
    before = snapshot(client[run.uid])
    writer = make_writer(journal_directory=None)
    with pytest.raises(DocumentsIncomplete, match="replay"):
        emit(run.docs, writer)
    assert snapshot(client[run.uid]) == before


def test_rows_of_another_process_wait_for_the_stop_of_the_replay(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    """Before that nobody knows whether the replay has them all."""
    run = rich_run()
    store(client, run.docs[:9])
    before = snapshot(client[run.uid])
    writer = make_writer()
    emit(run.docs[:5], writer)
    assert not writer.flush(), "which does not wait for what only the stop document brings"
    emit(run.docs[5:-1], writer)
    assert not writer.flush()
    assert snapshot(client[run.uid]) == before
    emit(run.docs[-1:], writer)
    assert writer.wait_for(run.uid)
    assert_rich_run_stored(client, run.uid)
    assert_nothing_left(journals)


@pytest.mark.parametrize("half", [1, 6, 9, 12])
def test_a_run_that_was_stopped_for_its_dead_process_gets_its_other_half(
    client: Container, make_writer: MakeWriter, journals: Path, half: int
) -> None:
    run = rich_run()
    leave_journal(journals, client, run.docs[:half])
    writer = make_writer()
    (recovery,) = writer.recover()
    assert recovery.text == "stored, and stopped, which it never was"
    emit(run.docs, writer)
    assert writer.wait_for(run.uid)
    assert_rich_run_stored(client, run.uid)
    assert client[run.uid].metadata == {"start": run.docs[0][1], "stop": run.docs[-1][1]}
    assert_nothing_left(journals)


def test_a_recovery_that_was_cut_off_at_its_very_end_sends_nothing(
    client: Container, make_writer: MakeWriter, journals: Path, request_log: RequestLog
) -> None:
    run = rich_run(stopped=False)
    leave_journal(journals, client, run.docs)
    make_writer().recover()
    docs = [*run.docs, ("stop", client[run.uid].metadata["stop"])]
    before = snapshot(client[run.uid])
    leave_journal(journals, client, docs)
    writer = make_writer()
    with request_log(client) as requests:
        (recovery,) = writer.recover()
    assert recovery == Recovery(run.uid, True, "was stored already")
    assert writes(requests) == [("POST", "metadata")]
    assert snapshot(client[run.uid]) == before


@pytest.mark.parametrize(
    ("halves", "rows"), [((6, 13), 10), ((13, 6), 10), ((6, 6), 2), ((14, 14), 10), ((14, 6), 10)]
)
def test_two_journals_of_one_run_are_stored_as_one(
    client: Container, make_writer: MakeWriter, journals: Path, halves: tuple[int, int], rows: int
) -> None:
    """Such as that of a process that was killed, and that of a replay that was."""
    run = rich_run()
    for number in halves:
        leave_journal(journals, client, run.docs[:number])
    (recovery,) = make_writer().recover(timeout=PATIENCE)
    assert recovery.uid == run.uid
    assert column(client, run.uid) == [*range(rows)]
    if 14 in halves:
        assert_nothing_left(journals)
        assert_rich_run_stored(client, run.uid)
        assert client[run.uid].metadata["stop"] == run.docs[-1][1]


def test_a_run_that_is_being_recovered_may_be_sent_again_afterwards(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = rich_run()
    leave_journal(journals, client, run.docs[:9])
    writer = make_writer()
    assert writer._manager._orphans is not None
    assert writer._manager._orphans.search()
    with pytest.raises(DuplicateRun, match="Send it again when that is done"):
        emit(run.docs, writer)
    assert writer.wait_for(run.uid)
    emit(run.docs, writer)
    assert writer.wait_for(run.uid)
    assert_rich_run_stored(client, run.uid)
    assert client[run.uid].metadata["stop"] == run.docs[-1][1]
    assert_nothing_left(journals)
