"""Programs that watch a writer: what they are told over HTTP, and until when."""

from __future__ import annotations

import gc
import json
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest
from documents import emit, scalar_run
from prometheus_client.parser import text_string_to_metric_families
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.delivery import WriterMonitor

from .helpers import PATIENCE, Line, MakeWriter, key_revoked, messages_of, wait_until

PREFIX = "bluesky_tiled_writer_"


def get(port: int | None, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def facts(port: int | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(port, "/status"))
    return found


def metrics(port: int | None) -> dict[str, float]:
    """What Prometheus reads."""
    families = text_string_to_metric_families(get(port, "/metrics"))
    return {
        sample.name.removeprefix(PREFIX): sample.value
        for family in families
        for sample in family.samples
    }


def is_refused(port: int | None) -> bool:
    try:
        get(port, "/healthz")
    except urllib.error.HTTPError:
        return False
    except OSError:  # a connection that was waiting when the port was closed is reset
        return True
    return False


def test_programs_see_that_a_run_waits_for_the_server_and_that_it_is_stored(
    make_writer: MakeWriter, line: Line
) -> None:
    run = scalar_run()
    writer = make_writer(journal_max_bytes=10**6)
    with WriterMonitor(writer, 0) as monitor:
        with line.cut():
            emit(run.docs[:-1], writer)
            wait_until(lambda: writer.status.server_down)
            told = facts(monitor.port)
            assert told["state"] == "degraded"
            assert "No answer" in told["last_error"]
            assert told["journals"]["max_bytes"] == 10**6
            (about,) = told["runs"]
            assert (about["uid"], about["waits_for"]) == (run.uid, "the server")
            figures = metrics(monitor.port)
            assert figures["server_down"] == figures["open_runs"] == 1
            assert figures["pending_rows"] == 3
            assert figures["oldest_seconds"] > 0
            assert 0 < figures["journal_room_used"] < 0.1
            assert json.loads(get(monitor.port, "/healthz")) == {"healthy": True}
        emit(run.docs[-1:], writer)
        assert writer.wait_for(run.uid, PATIENCE)
        figures = metrics(monitor.port)
        assert figures["rows_total"] == 3
        assert figures["server_down"] == figures["open_runs"] == figures["oldest_seconds"] == 0
        assert facts(monitor.port)["time"] >= told["time"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(monitor.port, "/coffee")
    assert is_refused(monitor.port)


def test_programs_see_that_a_login_is_refused(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    writer = make_writer()
    with WriterMonitor(writer, 0) as monitor:
        with key_revoked(tiled_client):
            emit(run.docs, writer)
            wait_until(lambda: metrics(monitor.port)["login_refused"] == 1)
        assert writer.wait_for(run.uid, PATIENCE)
        assert metrics(monitor.port)["login_refused"] == 0


def test_nothing_answers_for_a_writer_that_is_closed(make_writer: MakeWriter) -> None:
    writer = make_writer()
    monitor = WriterMonitor(writer, 0)
    writer.close()
    wait_until(lambda: is_refused(monitor.port))
    monitor.close()


def test_a_writer_that_is_watched_may_be_dropped(tiled_client: Container) -> None:
    monitor = WriterMonitor(TiledWriter(tiled_client), 0)
    gc.collect()
    wait_until(lambda: is_refused(monitor.port))


def test_a_port_that_is_taken_costs_a_warning(
    make_writer: MakeWriter, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with WriterMonitor(make_writer(), port) as monitor:
            assert monitor.port is None
    (told,) = messages_of(caplog)
    assert f"127.0.0.1:{port}: Address already in use" in told
