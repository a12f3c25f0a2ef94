"""More rows than memory may hold, and journals that cannot be written."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from documents import emit, scalar_run
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriterError
from bluesky_tiled_writer.errors import NotStored

from .helpers import (
    BOUND,
    MOST,
    PATIENCE,
    Line,
    MakeWriter,
    assert_wide_run_stored,
    column,
    messages_of,
    refused_for_good,
    wait_until,
    wide_run,
)

# -- bounds ---------------------------------------------------------------------------------------


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
    told, over = messages_of(caplog)
    assert run.uid in told
    assert "more slowly than they come" in told
    assert over == f"Run {run.uid} is in Tiled now."
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
    message, over = messages_of(caplog)
    assert run.uid in message
    assert "goes on from memory" in message
    assert "make room" in message
    assert over == f"Run {run.uid} is in Tiled now."
    assert writer.flush()
    assert list(journals.iterdir()) == []
    assert writer.status.state == "idle"


def test_a_run_that_is_behind_when_the_disk_fills_up_is_set_aside_and_the_caller_told(
    tiled_client: Container,
    make_writer: MakeWriter,
    line: Line,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = wide_run(events=300)
    writer = make_writer(max_pending_bytes=BOUND)
    with line.held():
        emit(run.docs[:200], writer)
        assert writer.status.state == "behind"
        with disk_full(), pytest.raises(NotStored, match="make room"):
            emit(run.docs[200:201], writer)
    assert run.uid in writer.status.set_aside
    with pytest.raises(NotStored):
        emit(run.docs[-1:], writer)
    (aside,) = (text for text in messages_of(caplog) if "was set aside" in text)
    assert "Its documents are in" in aside
    assert writer.close(timeout=PATIENCE)
    (recovery,) = make_writer().recover(timeout=PATIENCE)
    assert recovery.stored
    assert_wide_run_stored(tiled_client, run.uid, 198)


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
    message, over = messages_of(caplog)
    assert run.uid in message
    assert "goes on from memory" in message
    assert over == f"Run {run.uid} is in Tiled now."


def test_a_run_without_its_journal_tells_the_caller_what_goes_wrong(
    tiled_client: Container, make_writer: MakeWriter, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    run = scalar_run()
    writer = make_writer(journal_directory=tmp_path / "file" / "journals")
    emit(run.docs[:3], writer)
    with refused_for_good(tiled_client), pytest.raises(TiledWriterError, match="405"):
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
