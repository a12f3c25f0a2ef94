"""Runs that come in pieces: a process takes the first one, and another one the next."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import bluesky.plan_stubs as bps
import pytest
from bluesky import RunEngine
from bluesky.plans import count
from documents import emit, scalar_run
from ophyd.sim import det
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.delivery import catch_up
from bluesky_tiled_writer.delivery.resumption import STOPPED_LATE
from bluesky_tiled_writer.run import is_made

from .helpers import PATIENCE, MakeWriter, column, holds, wait_until
from .recoveries import (
    assert_nothing_left,
    assert_rich_run_stored,
    leave_journal,
    rich_run,
    store,
)

LONG_AGO = 3600.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs without a stop document wait for somebody to take them up."""
    monkeypatch.setattr(catch_up, "RESUMED_WITHIN", LONG_AGO)


def notes(client: Container, uid: str) -> list[str]:
    return [note for note in client[uid].metadata.get("notes", []) if "may be missing" in note]


@pytest.fixture
def tiled_client(served_catalog: str) -> Iterator[Container]:
    """A client of a server on DuckDB, which holds ragged arrays."""
    client = from_uri(served_catalog)
    yield client
    client.context.close()


@pytest.mark.parametrize("taken", [1, 2, 6, 12])
def test_a_run_is_taken_up_from_the_journal_of_a_process_that_is_gone(
    tiled_client: Container, make_writer: MakeWriter, journals: Path, taken: int, patient: None
) -> None:
    run = rich_run()
    store(tiled_client, run.docs[: taken // 2])
    leave_journal(journals, tiled_client, run.docs[:taken])

    emit(run.docs[taken:], writer := make_writer())

    assert writer.wait_for(run.uid)
    assert_rich_run_stored(tiled_client, run.uid)
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]
    assert len(notes(tiled_client, run.uid)) == 1
    assert_nothing_left(journals)


def test_what_nobody_took_is_missing_and_noted(
    tiled_client: Container, make_writer: MakeWriter, journals: Path, patient: None
) -> None:
    run = scalar_run(events=6)
    leave_journal(journals, tiled_client, run.docs[:4])

    emit(run.docs[6:], writer := make_writer())

    assert writer.wait_for(run.uid)
    assert column(tiled_client, run.uid) == [0, 1, 4, 5]
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]
    assert len(notes(tiled_client, run.uid)) == 1
    assert_nothing_left(journals)


def test_a_run_is_taken_up_when_its_recovery_has_sent_what_there_is(
    tiled_client: Container, make_writer: MakeWriter, journals: Path, patient: None
) -> None:
    run = scalar_run(events=6)
    leave_journal(journals, tiled_client, run.docs[:4])
    writer = make_writer(flush_interval=0.05)
    wait_until(lambda: run.uid in tiled_client and holds(tiled_client, run.uid, [0, 1]))
    assert "stop" not in tiled_client[run.uid].metadata

    emit(run.docs[4:], writer)

    assert writer.wait_for(run.uid)
    assert column(tiled_client, run.uid) == [0, 1, 2, 3, 4, 5]
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]
    assert_nothing_left(journals)


@pytest.mark.parametrize("end", [TiledWriter.recover, TiledWriter.flush, TiledWriter.close])
def test_whoever_waits_for_a_recovery_does_not_wait_for_documents_that_may_come(
    tiled_client: Container,
    make_writer: MakeWriter,
    journals: Path,
    patient: None,
    end: Callable[[TiledWriter], object],
) -> None:
    run = scalar_run(events=6)
    leave_journal(journals, tiled_client, run.docs[:4])
    writer = make_writer(flush_interval=0.05)
    wait_until(lambda: run.uid in tiled_client)
    end(writer)
    assert is_made(tiled_client[run.uid].metadata["stop"])
    assert_nothing_left(journals)


def test_the_true_stop_of_a_run_that_was_recovered_takes_the_place_of_the_other_one(
    tiled_client: Container,
    make_writer: MakeWriter,
    journals: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = scalar_run(events=6)
    leave_journal(journals, tiled_client, run.docs[:4])
    writer = make_writer(flush_interval=0.05)
    writer.recover()
    assert is_made(tiled_client[run.uid].metadata["stop"])
    caplog.clear()

    emit(run.docs[6:], writer)

    wait_until(lambda: tiled_client[run.uid].metadata["stop"] == run.docs[-1][1])
    assert column(tiled_client, run.uid) == [0, 1]
    assert notes(tiled_client, run.uid) == [STOPPED_LATE]
    assert unknown_in(caplog) == 1


def test_the_stop_of_a_run_that_has_its_own_changes_nothing(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run, other = scalar_run(), scalar_run()
    store(tiled_client, run.docs)
    stop = {**run.docs[-1][1], "uid": "another one"}
    writer = make_writer()
    writer("stop", stop)
    emit(other.docs, writer)
    wait_until(lambda: not writer._manager._sender.at_work)
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]


def unknown_in(caplog: pytest.LogCaptureFixture) -> int:
    return sum("What belongs to that run is not stored" in line for line in caplog.messages)


@pytest.mark.parametrize("first", [1, 2, 6, 13])
def test_a_run_whose_start_never_came_costs_one_line_and_nothing_else(
    tiled_client: Container,
    make_writer: MakeWriter,
    journals: Path,
    caplog: pytest.LogCaptureFixture,
    first: int,
) -> None:
    lost, other = rich_run(), scalar_run()
    writer = make_writer()
    emit(lost.docs[first:], writer)
    assert unknown_in(caplog) == 1
    emit(other.docs, writer)
    assert column(tiled_client, other.uid) == [0, 1, 2]
    emit(rich_run().docs[first:], writer)
    assert unknown_in(caplog) == 2
    assert lost.uid not in tiled_client
    assert_nothing_left(journals)


def test_a_writer_that_is_subscribed_during_a_run_waits_for_the_next_one(
    tiled_client: Container,
    make_writer: MakeWriter,
    RE: RunEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    RE.dispatcher.unsubscribe_all()
    caplog.set_level(logging.WARNING)
    writer = make_writer(journal_directory=None)

    def plan():  # type: ignore[no-untyped-def]
        yield from bps.open_run()
        yield from bps.trigger_and_read([det])
        RE.subscribe(writer)
        for stream in ("primary", "primary", "another", "primary"):
            yield from bps.trigger_and_read([det], name=stream)
        yield from bps.close_run()

    (uid,) = RE(plan())
    assert uid not in tiled_client
    assert [name for name, _, _ in caplog.record_tuples if "bluesky" in name] == [
        "bluesky_tiled_writer"
    ]
    (uid,) = RE(count([det], 3))
    assert writer.wait_for(uid, PATIENCE)
    assert column(tiled_client, uid, "seq_num") == [1, 2, 3]
