"""Journals that take more than they should: somebody is told, and nothing else happens."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from documents import emit, scalar_run
from tiled.client.container import Container

from bluesky_tiled_writer.delivery import process
from bluesky_tiled_writer.journal import space

from .helpers import Line, MakeWriter, column, messages_of, returns_at_once, wait_until

MOST = 10_000
EVENTS = 60
"""More than journals of `MOST` bytes have room for."""


@pytest.fixture(autouse=True)
def look_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "LOOK_EVERY", 0.0)


def test_journals_beyond_their_cap_cost_two_lines_and_no_row(
    tiled_client: Container,
    make_writer: MakeWriter,
    journals: Path,
    line: Line,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = scalar_run(events=EVENTS)
    writer = make_writer(journal_max_bytes=MOST, flush_interval=0.02)
    with line.cut():
        emit(run.docs[:3], writer)
        wait_until(lambda: writer.status.server_down)
        caplog.clear()
        for pair in run.docs[3:-1]:  # bit by bit, so that somebody looks at 80 %
            emit([pair], writer)
            use = writer.status.journals
            assert use is not None
            if use.room > 0:
                wait_until(lambda: messages_of(caplog))
        assert use.nbytes > use.most == MOST
        assert use.fraction > 1
        wait_until(lambda: len(messages_of(caplog)) == 2)
        status = writer.status
        assert status.state == "degraded"
        assert " of at most 10.0 kB, " in str(status)
        with returns_at_once():
            emit(run.docs[-1:], writer)
        (journal,) = journals.iterdir()
        assert journal.stat().st_size > MOST
    assert writer.wait_for(run.uid, timeout=20.0)
    assert column(tiled_client, run.uid) == [*range(EVENTS)]
    assert writer.status.state == "idle"
    levels = [r.levelno for r in caplog.records if "journals" in r.getMessage()]
    assert levels[:2] == [logging.WARNING, logging.ERROR]


def test_a_run_that_begins_when_journals_take_too_much_has_a_journal_all_the_same(
    tiled_client: Container, make_writer: MakeWriter, journals: Path, line: Line
) -> None:
    journals.mkdir()
    (journals / "of-somebody-else.damaged").write_bytes(bytes(2 * MOST))
    run = scalar_run(events=3)
    writer = make_writer(journal_max_bytes=MOST)
    with line.held():
        emit(run.docs[:-1], writer)
        assert len(list(journals.glob("*.journal"))) == 1
        assert writer.status.state == "degraded"
    emit(run.docs[-1:], writer)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert (journals / "of-somebody-else.damaged").stat().st_size == 2 * MOST


def test_writers_of_one_directory_tell_once(
    make_writer: MakeWriter, journals: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journals.mkdir()
    (journals / "x.damaged").write_bytes(bytes(MOST))
    for _ in range(3):  # as programs make them, one for each task
        with make_writer(journal_max_bytes=MOST) as writer:
            emit(scalar_run().docs, writer)
    (told,) = messages_of(caplog)
    assert "journal_max_bytes" in told


def test_a_writer_without_journals_has_no_room_to_mind(make_writer: MakeWriter) -> None:
    writer = make_writer(journal_directory=None, journal_max_bytes=1)
    emit(scalar_run().docs, writer)
    assert writer.flush()
    assert writer.status.journals is None
    assert writer.status.state == "idle"


def test_the_check_before_the_first_run_knows_the_cap(
    make_writer: MakeWriter, journals: Path
) -> None:
    hours = 2 * 1000 * 300 * 3600
    found = {
        most: next(f for f in make_writer(journal_max_bytes=most).check() if "outage" in f.subject)
        for most in (hours, None)
    }
    assert found[hours].text == "2.2 GB are left of journal_max_bytes: 2 hours at 1000 events/s."
    assert "journal_max_bytes" in found[hours].hint
    assert "are free" in found[None].text


def test_the_process_minds_a_directory_once_for_each_cap(tmp_path: Path) -> None:
    assert process.journal_space(tmp_path, 1) is process.journal_space(tmp_path, 1)
    assert process.journal_space(tmp_path, 1) is not process.journal_space(tmp_path, 2)
