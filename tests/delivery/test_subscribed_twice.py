"""Two writers of one process get the same run: the first stores it, the other ignores it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import RequestLog
from documents import Pair, emit, scalar_run
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.errors import DuplicateRun
from bluesky_tiled_writer.journal import JournalDirectory

from .helpers import (
    PATIENCE,
    Line,
    MakeWriter,
    column,
    is_stopped,
    messages_of,
    refused_for_good,
    returns_at_once,
)

LOCK_STEP = 0.02
"""s: a `flush_interval` at which both would send rows of the same run."""


def emit_to_both(docs: Sequence[Pair], *writers: TiledWriter) -> None:
    for pair in docs:
        for writer in writers:
            emit([pair], writer)


def test_the_rows_are_stored_once_and_people_are_told_once(
    any_client: Container,
    make_writer: MakeWriter,
    journals: Path,
    request_log: RequestLog,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = [scalar_run(events=50) for _ in range(2)]
    writers = [make_writer(any_client, flush_interval=LOCK_STEP) for _ in range(2)]
    with request_log(any_client) as requests:
        for run in runs:
            emit_to_both(run.docs, *writers)
            assert all(writer.wait_for(run.uid, timeout=PATIENCE) for writer in writers)
    for run in runs:
        assert column(any_client, run.uid) == [*range(50)]
        assert requests.count(("PATCH", f"metadata/{run.uid}")) == 1, "the stop document"
    assert requests.count(("POST", "metadata/")) == 2, "one for each run"
    (message,) = messages_of(caplog)
    assert runs[0].uid in message
    assert "Is one subscribed twice?" in message
    assert [writer.status.state for writer in writers] == ["idle", "idle"]
    assert list(journals.iterdir()) == []


def test_the_other_one_keeps_nothing_and_waits_for_nothing(
    tiled_client: Container, make_writer: MakeWriter, journals: Path, line: Line
) -> None:
    run = scalar_run()
    first, second = make_writer(), make_writer()
    emit(run.docs[:1], first)
    assert len(list(journals.iterdir())) == 1
    with line.held(), returns_at_once():
        emit(run.docs, second)
        assert second.flush()
    assert len(list(journals.iterdir())) == 1
    assert second.status.runs == second.status.pending_rows == 0
    emit(run.docs[1:], first)
    assert first.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]


def test_without_a_journal_the_other_one_ignores_the_run_as_well(
    tiled_client: Container, make_writer: MakeWriter, tmp_path: Path
) -> None:
    run, other = scalar_run(), scalar_run()
    backup = tmp_path / "backup"
    first = make_writer()
    second = make_writer(journal_directory=None, backup_directory=backup)
    emit_to_both(run.docs, first, second)
    emit(other.docs, second)
    for uid in (run.uid, other.uid):
        assert column(tiled_client, uid) == [0, 1, 2]
    assert not backup.exists()


def test_a_run_that_the_first_has_set_aside_may_come_again(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    forbidden = from_uri(str(tiled_client.uri), api_key=tiled_client.context.api_key)
    first, second = make_writer(forbidden), make_writer()
    with refused_for_good(forbidden):
        emit(run.docs, first)
    assert run.uid in first.status.set_aside
    emit(run.docs, second)
    assert second.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert is_stopped(tiled_client, run.uid)
    forbidden.context.close()


def test_a_run_whose_writer_was_closed_may_come_again(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    first, second = make_writer(), make_writer()
    emit(run.docs[:4], first)
    assert first.close()
    emit(run.docs, second)
    assert second.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]


def test_a_run_that_goes_on_is_not_stopped_for_a_dead_process(
    tiled_client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    """Though a second journal of it looks like that of a dead process."""
    run = scalar_run()
    first = make_writer()
    emit(run.docs[:4], first)
    uri = str(tiled_client.uri).split("?")[0].rstrip("/")
    journal = JournalDirectory(journals).create(run.uid, uri)
    for name, doc in run.docs[:3]:
        journal.append(name, doc)
    journal.close()
    assert make_writer().recover(timeout=PATIENCE) == []
    assert first.flush()
    assert not is_stopped(tiled_client, run.uid)
    emit(run.docs[4:], first)
    assert first.wait_for(run.uid, timeout=PATIENCE)
    (recovery,) = make_writer().recover(timeout=PATIENCE)
    assert (recovery.stored, recovery.text) == (True, "was stored already")
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]
    assert list(journals.iterdir()) == []


def test_a_run_that_is_being_recovered_is_refused(
    tiled_client: Container, make_writer: MakeWriter, line: Line
) -> None:
    run = scalar_run()
    first = make_writer(timeout=0)
    with line.cut():
        emit(run.docs[:4], first)
        first.close(timeout=0.1)
        second, third = make_writer(), make_writer()
        assert [recovery.stored for recovery in second.recover(timeout=0.1)] == [False]
        with pytest.raises(DuplicateRun, match="from the journal of an earlier process"):
            emit(run.docs[:1], third)
    assert second.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1]


def test_two_places_on_one_server_get_a_run_each(
    tiled_client: Container, make_writer: MakeWriter, caplog: pytest.LogCaptureFixture
) -> None:
    run = scalar_run()
    other = tiled_client.create_container(f"beside-{run.uid}")
    emit_to_both(run.docs, make_writer(), make_writer(other))
    for place in (tiled_client, other):
        assert column(place, run.uid) == [0, 1, 2]
    assert messages_of(caplog) == []


def test_a_run_that_is_sent_again_when_it_has_stopped_is_no_reason_to_ask(
    tiled_client: Container, make_writer: MakeWriter, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    run = scalar_run()
    first, second = make_writer(timeout=0), make_writer()
    with line.held():
        emit(run.docs, first)
        emit(run.docs, second)
    assert first.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert not [message for message in messages_of(caplog) if "subscribed twice" in message]
