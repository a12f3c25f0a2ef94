"""A server that is down when the day begins: the program starts, measures, and all is stored."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tiled.profiles
from delivery.helpers import PATIENCE, messages_of, wait_until
from documents import RunBuilder, emit
from tiled.client import from_uri
from tree import read_arrow, stream_of

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.errors import ServerUnreachable, StorageError

from .tiled_process import KEY, TiledProcess

SOON = 5.0
"""s: the constructors return within two seconds; machines are busy."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TiledProcess]:
    """A server that is not started yet."""
    (tmp_path / "server").mkdir()
    server = TiledProcess(tmp_path / "server", tmp_path, "sqlite")
    yield server
    server.kill()


def scan(points: int = 3) -> RunBuilder:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer"})
    for value in range(points):
        run.event("primary", {"n": value})
    run.stop()
    return run


def assert_stored(server: TiledProcess, run: RunBuilder, *containers: str) -> None:
    client: Any = from_uri(server.uri)
    with client.context:
        for name in containers:
            client = client[name]
        assert client[run.uid].metadata["stop"] == run.docs[-1][1]
        rows = read_arrow(stream_of(client, run.uid)["internal"])["n"].to_pylist()
        assert rows == list(range(len(rows)))
        assert len(rows) == len(run.docs) - 3


def test_what_is_measured_before_the_server_is_up_is_stored_when_it_is(
    server: TiledProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "bluesky_tiled_writer")
    began = time.monotonic()
    writer = TiledWriter.from_uri(server.uri, journal_directory=tmp_path / "journals")
    with writer:
        assert time.monotonic() - began < SOON
        assert "cannot be reached" in caplog.records[0].getMessage()
        assert len([text for text in messages_of(caplog) if "reached" in text]) == 1
        wait_until(lambda: writer.status.server_down)
        run = scan()
        began = time.monotonic()
        emit(run.docs, writer)
        assert time.monotonic() - began < SOON
        with pytest.raises(ServerUnreachable, match="No answer from Tiled"):
            _ = writer.client
        assert writer.status.state == "degraded"
        assert server.url in repr(writer)
        server.start()
        assert writer.wait_for(run.uid, timeout=PATIENCE)
        assert writer.client[run.uid].metadata["stop"]
        writer.client.context.close()
    assert_stored(server, run)
    assert not any(KEY in text for text in messages_of(caplog)), "keys are in no log"


def test_a_server_that_accepts_and_says_nothing_is_no_obstacle(
    server: TiledProcess, tmp_path: Path
) -> None:
    port = int(server.url.rpartition(":")[2])
    with closing(socket.create_server(("127.0.0.1", port))):
        began = time.monotonic()
        writer = TiledWriter.from_uri(server.uri, journal_directory=tmp_path / "journals")
        run = scan()
        emit(run.docs, writer)
        assert time.monotonic() - began < 2 * SOON
        wait_until(lambda: writer.status.server_down)
    server.start()
    with writer:
        assert writer.wait_for(run.uid, timeout=PATIENCE)
        writer.client.context.close()
    assert_stored(server, run)


def test_the_end_of_a_with_statement_does_not_wait_for_a_server_that_says_nothing(
    server: TiledProcess, tmp_path: Path
) -> None:
    port = int(server.url.rpartition(":")[2])
    run = scan()
    with closing(socket.create_server(("127.0.0.1", port))):
        with TiledWriter.from_uri(server.uri, journal_directory=tmp_path / "journals") as writer:
            emit(run.docs, writer)
            began = time.monotonic()
        assert time.monotonic() - began < SOON
    server.start()
    with TiledWriter.from_uri(server.uri, journal_directory=tmp_path / "journals") as second:
        second.recover(timeout=PATIENCE)
        second.client.context.close()
    assert_stored(server, run)


def test_a_container_may_be_made_later(server: TiledProcess, tmp_path: Path) -> None:
    uri = f"{server.url}/api/v1/metadata/visit%20A/today?api_key={KEY}"
    writer = TiledWriter.from_uri(uri, journal_directory=tmp_path / "journals")
    with writer:
        early, late = scan(), scan()
        emit(early.docs, writer)
        server.start()
        wait_until(lambda: writer.status.waiting_for)
        emit(late.docs, writer)
        waiting = writer.status.waiting_for
        assert "There is no container" in waiting[early.uid]
        assert "visit%20A/today" in waiting[early.uid]
        with pytest.raises(StorageError, match="no container"):
            _ = writer.client
        client = from_uri(server.uri)
        client.create_container("visit A").create_container("today")
        client.context.close()
        for run in (early, late):
            assert writer.wait_for(run.uid, timeout=PATIENCE)
        writer.client.context.close()
    for run in (early, late):
        assert_stored(server, run, "visit A", "today")


@pytest.mark.parametrize("key", ["wrong", ""])
def test_a_key_that_is_refused_is_a_login_that_waits(
    server: TiledProcess, tmp_path: Path, key: str
) -> None:
    server.start()
    query = f"?api_key={key}" if key else ""
    writer = TiledWriter.from_uri(
        f"{server.url}/api/v1{query}", journal_directory=tmp_path / "journals"
    )
    run = scan()
    emit(run.docs, writer)
    wait_until(lambda: writer.status.state == "login")
    assert not writer.close()
    with TiledWriter.from_uri(server.uri, journal_directory=tmp_path / "journals") as second:
        wait_until(lambda: run.uid in second.client)
        second.recover(timeout=PATIENCE)
        second.client.context.close()
    assert_stored(server, run)


def test_what_answers_is_no_tiled_server(server: TiledProcess, tmp_path: Path) -> None:
    server.start()
    uri = f"{server.url}/ui/api/v1?api_key={KEY}"
    with TiledWriter.from_uri(uri, journal_directory=tmp_path / "journals") as writer:
        emit(scan().docs, writer)
        wait_until(lambda: writer.status.last_error)
        with pytest.raises(StorageError, match=r"no Tiled server.*Is the address right"):
            _ = writer.client
        writer.close(timeout=0.5)


@pytest.mark.parametrize("uri", ["htps://tiled", "tiled:8000", "http://", "/data", "http://[::1"])
def test_what_is_no_address_is_an_error_at_once(uri: str) -> None:
    with pytest.raises(StorageError, match="is no address of a Tiled server"):
        TiledWriter.from_uri(uri, journal_directory=None)


def test_a_wrong_option_is_an_error_at_once(server: TiledProcess) -> None:
    with pytest.raises(TypeError, match="batchsize"):
        TiledWriter.from_uri(server.uri, batchsize=1)


# -- profiles -------------------------------------------------------------------------------------


@pytest.fixture
def profiles(
    server: TiledProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    text = f"beamline:\n  uri: {server.uri}\n  timeout:\n    read: 7.0\n"
    (tmp_path / "profiles.yml").write_text(text)
    monkeypatch.setattr(tiled.profiles, "paths", [tmp_path])
    tiled.profiles.load_profiles.cache_clear()
    yield
    tiled.profiles.load_profiles.cache_clear()


@pytest.mark.usefixtures("profiles")
def test_a_profile_of_a_server_that_is_down(server: TiledProcess, tmp_path: Path) -> None:
    writer = TiledWriter.from_profile(
        "beamline", journal_directory=tmp_path / "journals", headers={"X-Who": "me"}
    )
    with writer:
        run = scan()
        emit(run.docs, writer)
        server.start()
        assert writer.wait_for(run.uid, timeout=PATIENCE)
        http = writer.client.context.http_client
        assert http.headers["X-Who"] == "me"
        assert http.timeout.read == 7.0
        writer.client.context.close()
    assert_stored(server, run)


@pytest.mark.usefixtures("profiles")
def test_a_profile_that_does_not_exist_is_an_error_at_once() -> None:
    with pytest.raises(tiled.profiles.ProfileNotFound):
        TiledWriter.from_profile("no such beamline")
