"""Two writers in one process get the same run: one stores it, the other sees that nothing lacks."""

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

from .helpers import (
    PATIENCE,
    Line,
    MakeWriter,
    column,
    is_stopped,
    key_revoked,
    messages_of,
    returns_at_once,
    wait_until,
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
    assert requests.count(("POST", "metadata/")) == 4, "one each for a run and a writer"
    (message,) = messages_of(caplog)
    assert runs[0].uid in message
    assert "Is one subscribed twice?" in message
    assert [writer.status.state for writer in writers] == ["idle", "idle"]
    assert list(journals.iterdir()) == []


def test_nothing_is_sent_by_the_other_one_before_the_first_is_done(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    first, second = make_writer(), make_writer(flush_interval=LOCK_STEP)
    emit_to_both(run.docs[:-1], first, second)
    with returns_at_once():
        assert not second.flush()
    assert second.status.pending_rows == 3
    assert first.flush()
    assert column(tiled_client, run.uid) == [0, 1, 2]
    with returns_at_once():
        assert not second.flush()
    emit_to_both(run.docs[-1:], first, second)
    assert second.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]


def test_the_other_one_stores_what_the_first_may_not(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    forbidden = from_uri(str(tiled_client.uri), api_key=tiled_client.context.api_key)
    first, second = make_writer(forbidden), make_writer()
    with key_revoked(forbidden):
        emit_to_both(run.docs, first, second)
    assert run.uid in first.status.set_aside
    assert second.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert is_stopped(tiled_client, run.uid)
    forbidden.context.close()


@pytest.mark.parametrize("flushed", [False, True])
def test_the_other_one_goes_on_when_the_first_is_closed(
    tiled_client: Container, make_writer: MakeWriter, flushed: bool
) -> None:
    run = scalar_run()
    first, second = make_writer(), make_writer()
    emit_to_both(run.docs[:4], first, second)
    if flushed:
        assert first.flush()
    assert first.close() or not flushed
    emit(run.docs[4:], second)
    assert second.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert is_stopped(tiled_client, run.uid)


def test_a_run_that_has_stopped_does_not_wait_for_one_that_never_does(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    """Such as the replay of a run whose plan ended without a stop document."""
    run = scalar_run()
    first, second = make_writer(), make_writer()
    emit(run.docs[:4], first)
    assert first.flush()
    emit(run.docs, second)
    assert second.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert is_stopped(tiled_client, run.uid)


def test_a_run_that_goes_on_is_not_stopped_for_a_dead_process(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    """Though a writer that was closed in mid-run has left a journal of it, like a dead process."""
    run = scalar_run()
    first, second = make_writer(), make_writer()
    emit_to_both(run.docs[:4], first, second)
    second.close()
    third = make_writer()
    (recovery,) = third.recover(timeout=PATIENCE)
    assert not recovery.stored
    assert first.flush()
    assert not is_stopped(tiled_client, run.uid)
    emit(run.docs[4:], first)
    assert third.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]


def test_a_writer_without_a_place_to_wait_in_refuses_the_run(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run, other = scalar_run(), scalar_run()
    first, second = make_writer(), make_writer(journal_directory=None)
    emit(run.docs[:1], first)
    with pytest.raises(DuplicateRun, match="another TiledWriter of this process"):
        emit(run.docs[:1], second)
    emit(other.docs, second)
    emit(run.docs[1:], first)
    for uid in (run.uid, other.uid):
        assert column(tiled_client, uid) == [0, 1, 2]


def test_with_a_backup_there_is_a_place_to_wait_in(
    tiled_client: Container, make_writer: MakeWriter, tmp_path: Path
) -> None:
    run = scalar_run()
    backup = tmp_path / "backup"
    first = make_writer()
    second = make_writer(journal_directory=None, backup_directory=backup)
    emit_to_both(run.docs, first, second)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert not backup.exists() or not list(backup.iterdir())


def test_write_through_does_not_wait_for_the_first_one(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    first, second = make_writer(), make_writer(batch_size=1)
    emit(run.docs[:2], first)
    with returns_at_once():
        emit(run.docs[:2], second)
    emit_to_both(run.docs[2:], first, second)
    assert second.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]


def test_the_other_one_does_not_wait_for_a_server_that_is_down(
    tiled_client: Container, make_writer: MakeWriter, line: Line
) -> None:
    run = scalar_run()
    first, second = make_writer(), make_writer()
    with line.cut():
        emit_to_both(run.docs[:-1], first, second)
        wait_until(lambda: first.status.server_down)
        with returns_at_once():
            emit_to_both(run.docs[-1:], first, second)
    assert all(writer.wait_for(run.uid, timeout=PATIENCE) for writer in (first, second))
    assert column(tiled_client, run.uid) == [0, 1, 2]


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
    assert second.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert not [message for message in messages_of(caplog) if "subscribed twice" in message]
