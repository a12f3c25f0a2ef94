"""Runs are recovered by any writer for their server, each in the container where it belongs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from documents import RunBuilder, emit
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.delivery import process
from bluesky_tiled_writer.journal import JournalDirectory
from bluesky_tiled_writer.sink import Address
from delivery.helpers import PATIENCE, messages_of, wait_until
from delivery.recoveries import (
    assert_nothing_left,
    assert_rich_run_stored,
    leave_journal,
    rich_run,
)


@pytest.fixture(scope="module")
def process_database() -> str:
    """One that holds ragged arrays."""
    return "duckdb"


@pytest.fixture
def client(process_client: Container) -> Container:
    return process_client


@pytest.fixture
def visit(client: Container, request: pytest.FixtureRequest) -> Container:
    """A container of a visit, as a client has it that has just made it."""
    return client.create_container(f"visit {request.node.name}")


def writer_for(client: Container, journals: Path, **options: Any) -> TiledWriter:
    return TiledWriter(client, journal_directory=journals, flush_interval=0.1, **options)


# -- addresses ------------------------------------------------------------------------------------

HERE = "http://localhost:8000/api/v1/metadata/visit%20A"


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:8000/api/v1/metadata//visit%20A",
        "http://localhost:8000/api/v1/metadata/visit%20A/",
        "http://localhost:8000/api/v1//metadata/visit A",
        "http://LOCALHOST:8000/api/v1/metadata/visit%20A",
        "http://127.0.0.1:8000/api/v1/metadata/visit%20A?api_key=secret",
        "http://[::1]:8000/api/v1/metadata/visit%20A",
    ],
)
def test_one_container_has_one_address(uri: str) -> None:
    assert Address.parse(uri).normalized() == Address.parse(HERE).normalized()


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:8001/api/v1/metadata/visit%20A",
        "https://localhost:8000/api/v1/metadata/visit%20A",
        "http://localhost:8000/tiled/api/v1/metadata/visit%20A",
        "http://localhost:8000/api/v1/metadata/visit%20B",
        "http://localhost:8000/api/v1/metadata/visit/A",
        "http://tiled.example.org:8000/api/v1/metadata/visit%20A",
    ],
)
def test_others_have_others(uri: str) -> None:
    assert Address.parse(uri).normalized() != Address.parse(HERE).normalized()


@pytest.mark.parametrize(
    ("uri", "server", "path"),
    [
        ("http://tiled", "http://tiled/api/v1/", ()),
        ("http://tiled/api", "http://tiled/api/v1/", ()),
        ("http://tiled/sub/", "http://tiled/sub/api/v1/", ()),
        ("https://me:pw@tiled/api/v1", "https://tiled/api/v1/", ()),
        ("http://tiled/api/v1/metadata/a%2Fb/c", "http://tiled/api/v1/", ("a/b", "c")),
    ],
)
def test_an_address_is_read_as_tiled_reads_it(uri: str, server: str, path: tuple[str]) -> None:
    address = Address.parse(uri)
    assert address == Address(server, path)
    assert Address.parse(address.uri) == address


# -- recovery -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    ["{uri}", "{server}metadata//{name}", "{server}metadata/{name}/", "{other}metadata/{name}"],
    ids=["today's", "just created", "with a slash", "by another name"],
)
def test_a_run_of_another_visit_is_stored_where_it_belongs(
    client: Container, visit: Container, journals: Path, form: str
) -> None:
    run = rich_run()
    server = str(client.context.api_uri)
    name = Address.of(visit).uri.rpartition("/")[2]
    uri = form.format(
        uri=Address.of(visit).uri,
        server=server,
        name=name,
        other=server.replace("127.0.0.1", "localhost"),
    )
    leave_journal(journals, client, run.docs, server=uri)
    elsewhere = client.create_container(f"elsewhere {name} {form}")
    with writer_for(elsewhere, journals) as writer:
        wait_until(lambda: run.uid in visit and "stop" in visit[run.uid].metadata)
        assert writer.recover(timeout=PATIENCE)[0].stored
    assert_rich_run_stored(visit, run.uid)
    assert run.uid not in elsewhere
    assert_nothing_left(journals)


def test_a_run_that_was_begun_in_a_container_that_was_just_made_is_finished_by_its_next_writer(
    client: Container, visit: Container, journals: Path
) -> None:
    run = rich_run()
    first = writer_for(visit, journals)
    emit(run.docs[:6], first)
    assert first.flush()
    first.close()
    looked_up = client[Address.of(visit).path[-1]]
    with writer_for(looked_up, journals) as second:
        (recovery,) = second.recover(timeout=PATIENCE)
    assert (recovery.uid, recovery.stored) == (run.uid, True)
    assert visit[run.uid].metadata["stop"]["exit_status"] == "fail"
    assert_nothing_left(journals)


def test_journals_for_another_server_are_left_alone(client: Container, journals: Path) -> None:
    for server in ("http://127.0.0.1:1/api/v1/metadata", {"uri": "?"}, "nonsense", None):
        leave_journal(journals, client, rich_run().docs, server=server)
    with writer_for(client, journals) as writer:
        assert writer.recover(timeout=PATIENCE) == []
    infos = JournalDirectory(journals).journals()
    assert len(infos) == 4
    assert not any(info.locked for info in infos)


def test_a_run_whose_container_was_deleted_is_set_aside_and_tried_again_seldom(
    client: Container, visit: Container, journals: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = rich_run()
    leave_journal(journals, client, run.docs, server=Address.of(visit).uri)
    name = Address.of(visit).path[-1]
    client.delete_contents([name], recursive=True)
    with writer_for(client, journals) as writer:
        wait_until(lambda: writer.status.set_aside)
        assert "is not in Tiled any more" in writer.status.set_aside[run.uid]
        assert name.replace(" ", "%20").split("[")[0] in writer.status.set_aside[run.uid]
    caplog.clear()
    with writer_for(client, journals) as task:  # as programs make one for each task
        other = RunBuilder()
        other.start()
        other.stop()
        emit(other.docs, task)
        assert task.flush()
        assert messages_of(caplog) == []
        again = client.create_container(name)
        (recovery,) = task.recover(timeout=PATIENCE)
        assert recovery.stored
    assert_rich_run_stored(again, run.uid)
    assert_nothing_left(journals)


# -- what this login may not write ----------------------------------------------------------------


def test_a_run_that_this_login_may_not_write_is_left_to_another(
    client: Container,
    visit: Container,
    journals: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A policy of the server says so, which an answer stands for here: 403 for that visit."""
    run = rich_run()
    leave_journal(journals, client, run.docs, server=Address.of(visit).uri)
    weak = from_uri(str(client.context.api_uri), api_key=client.context.api_key)

    def forbid(request: httpx.Request) -> None:
        if "visit" in request.url.path:
            raise httpx.HTTPStatusError(
                "no", request=request, response=httpx.Response(403, request=request)
            )

    weak.context.http_client.event_hooks["request"].append(forbid)
    client.context.http_client.auth = httpx.Auth()  # which makes it another login
    monkeypatch.setattr("bluesky_tiled_writer.delivery.run_manager.LET_GO", 0.3)
    caplog.set_level(logging.WARNING, "bluesky_tiled_writer")
    with writer_for(weak, journals) as writer:
        wait_until(lambda: run.uid in writer.status.waiting_for)
        (info,) = JournalDirectory(journals).journals()
        wait_until(lambda: not JournalDirectory(journals).journals()[0].locked)
        assert "403" in writer.status.waiting_for[run.uid]
        assert process.has_tried(info.path, writer._manager._sender.access.credentials)
        strong = writer_for(client, journals)
        with strong:
            wait_until(lambda: run.uid in visit and "stop" in visit[run.uid].metadata)
    assert_rich_run_stored(visit, run.uid)
    assert_nothing_left(journals)
    weak.context.close()
