"""Where writers find themselves: in a process without a home, or on their way to another one."""

from __future__ import annotations

import copy
import gc
import logging
import multiprocessing
import os
import pickle
import pwd
import stat
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents import emit, scalar_run
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.errors import JournalError, NotCopyable, TiledWriterError
from bluesky_tiled_writer.journal import JournalDirectory


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """No home directory, as in a container whose user has no entry in its passwd."""

    def no_entry(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)


@pytest.mark.usefixtures("no_home")
def test_without_a_home_a_writer_goes_on_from_memory(
    client: Container, caplog: pytest.LogCaptureFixture
) -> None:
    run = scalar_run()
    with TiledWriter(client) as writer:
        emit(run.docs, writer)
        assert writer.wait_for(run.uid)
        assert writer.recover() == []
    assert client[run.uid].metadata["stop"]["exit_status"] == "success"
    told, over = [record for record in caplog.records if run.uid in record.getMessage()]
    assert over.getMessage() == f"Run {run.uid} is in Tiled now."
    assert told.levelno >= logging.WARNING
    assert "goes on from memory" in told.getMessage()
    assert "Give a journal_directory, or set HOME or XDG_STATE_HOME." in told.getMessage()


@pytest.mark.usefixtures("no_home")
def test_without_a_home_there_is_no_default_directory(tmp_path: Path) -> None:
    directory = JournalDirectory()
    assert directory.path is None
    assert directory.is_empty
    assert directory.journals() == []
    assert repr(directory) == "JournalDirectory()"
    with pytest.raises(JournalError, match="journal_directory"):
        directory.create("a run", "a server")
    JournalDirectory(tmp_path).create("a run", "a server").close()


def spawn(writer: TiledWriter) -> None:
    """Pass a writer to a new process."""
    multiprocessing.get_context("spawn").Process(target=print, args=(writer,)).start()


@pytest.mark.parametrize("pass_on", [pickle.dumps, copy.copy, copy.deepcopy, spawn])
def test_a_writer_is_not_passed_on(
    client: Container, journals: Path, pass_on: Callable[[TiledWriter], object]
) -> None:
    run = scalar_run()
    with TiledWriter(client, journal_directory=journals) as writer:
        emit(run.docs[:3], writer)
        with pytest.raises(NotCopyable, match="in each process") as caught:
            pass_on(writer)
        emit(run.docs[3:], writer)
        assert writer.wait_for(run.uid)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, TiledWriterError)


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_backup_is_private(client: Container, journals: Path, tmp_path: Path) -> None:
    run, other = scalar_run(), scalar_run()
    emit(run.docs, TiledWriter(client))
    other.docs[0][1]["uid"] = run.uid  # of which Tiled holds another run: it is set aside
    other.docs[0][1]["scan_id"] = 4711
    other.docs[1][1]["run_start"] = other.docs[-1][1]["run_start"] = run.uid
    directory = tmp_path / "backups"
    before = os.umask(0o002)
    try:
        with TiledWriter(client, journal_directory=journals, backup_directory=directory) as writer:
            emit(other.docs, writer)
    finally:
        os.umask(before)
    (path,) = directory.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_writer_keeps_its_client_as_long_as_it_lives(client: Container) -> None:
    given = client.new_variation()
    collected = weakref.ref(given)
    writer = TiledWriter(given)
    assert writer.client is given
    del given
    gc.collect()
    assert collected() is not None
    del writer
    gc.collect()
    assert collected() is None


def test_a_writer_that_is_let_go_of_does_not_keep_its_client(client: Container) -> None:
    """apsbits closes a server when its client is collected; a process waits for that to end."""
    run = scalar_run()
    given = client.new_variation()
    collected = weakref.ref(given)
    emit(run.docs, TiledWriter(given))
    del given
    gc.collect()
    assert collected() is None
    assert client[run.uid].metadata["stop"]["exit_status"] == "success"
