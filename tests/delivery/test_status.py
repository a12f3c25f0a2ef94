"""The status of each run, and the tables that notebooks show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest
from documents import RunBuilder, emit, scalar_run
from tiled.client.container import Container

from bluesky_tiled_writer.delivery import RunStatus, Status
from bluesky_tiled_writer.delivery.status_html import MOST_RUNS
from bluesky_tiled_writer.errors import RequestRefused

from .helpers import (
    BOUND,
    PATIENCE,
    Line,
    MakeWriter,
    key_revoked,
    refused_for_good,
    wait_until,
    wide_run,
)

NASTY = "<script>alert('&\"')</script>"


def run_with(**start: Any) -> RunBuilder:
    run = RunBuilder()
    run.start(**start)
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 1.0})
    return run


def cells(status: Status) -> list[dict[str, str]]:
    """The table of runs as a browser reads it: text by heading."""
    html = status._repr_html_()
    tables = ElementTree.fromstring(f"<p>{html}</p>").findall("table")
    headings, *rows = ([*map("".join, map(ElementTree.Element.itertext, row))] for row in tables[1])
    return [dict(zip(headings, row, strict=False)) for row in rows]


def only_run(status: Status) -> RunStatus:
    (run,) = status.by_run
    return run


def test_a_run_that_is_open(make_writer: MakeWriter, line: Line) -> None:
    run = run_with(scan_id=7, plan_name="a_plan")
    writer = make_writer()
    with line.held():
        emit(run.docs, writer)
        status = writer.status
        about = only_run(status)
        assert (about.uid, about.state, about.scan_id, about.plan_name) == (
            run.uid,
            "open",
            7,
            "a_plan",
        )
        assert about.streams == {"primary": 1}
        assert (about.rows_stored, about.rows_waiting, about.documents_waiting) == (0, 1, 3)
        assert 0 < about.age < PATIENCE
        load = writer.load
        assert (load.runs, load.pending_rows, load.set_aside) == (1, 1, {})
        assert load.pending_bytes == status.pending_bytes > 0
        (row,) = cells(status)
        assert row | {"since": ""} == {
            "run": run.uid[:8],
            "scan": "7",
            "plan": "a_plan",
            "streams": "primary 1",
            "stored": "0",
            "waiting": "1",
            "since": "",
            "state": "open",
            "waits for": "",
        }
    assert writer.flush()
    about = only_run(writer.status)
    assert (about.rows_stored, about.rows_waiting, about.age) == (1, 0, 0.0)
    run.stop()
    emit(run.docs[-1:], writer)
    assert writer.flush()
    assert writer.status.by_run == ()


def test_a_run_is_linked_to_itself_in_the_web_page_of_tiled(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    visit = tiled_client.create_container("a visit", access_tags=None)
    run = run_with()
    writer = make_writer(visit)
    emit(run.docs, writer)
    link = only_run(writer.status).link
    assert re.fullmatch(rf"http://127.0.0.1:\d+/ui/browse/a%20visit/{run.uid}", link)
    answer = tiled_client.context.http_client.get(link)
    assert "<title>Tiled</title>" in answer.text
    assert f"href='{link}'" in writer._repr_html_()
    assert tiled_client.context.api_key not in writer._repr_html_()


def test_an_app_in_this_process_has_no_web_page(client: Container, make_writer: MakeWriter) -> None:
    writer = make_writer(client)
    emit(run_with().docs, writer)
    assert only_run(writer.status).link == ""
    assert "href" not in writer._repr_html_()


def test_what_runs_wait_for(tiled_client: Container, make_writer: MakeWriter, line: Line) -> None:
    run = run_with()
    writer = make_writer()
    with line.cut():
        emit(run.docs, writer)
        wait_until(lambda: writer.status.server_down)
        assert only_run(writer.status).waits_for == "the server"
    with key_revoked(tiled_client):
        wait_until(lambda: writer.status.state == "login")
        assert only_run(writer.status).waits_for == "a login"
    run.stop()
    emit(run.docs[-1:], writer)
    assert writer.wait_for(run.uid, PATIENCE)


def test_a_run_that_is_behind(make_writer: MakeWriter, line: Line) -> None:
    run = wide_run(events=300)
    writer = make_writer(max_pending_bytes=BOUND)
    with line.held():
        emit(run.docs[:-1], writer)
        status = writer.status
        about = only_run(status)
        assert about.state == "behind"
        assert about.documents_waiting == 302
        assert about.scan_id == run.docs[0][1].get("scan_id")
        assert cells(status)[0]["waiting"] == "302 documents"
    emit(run.docs[-1:], writer)
    assert writer.wait_for(run.uid, PATIENCE)


def test_a_run_that_was_set_aside_stays_in_the_table(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    writer = make_writer()
    with refused_for_good(tiled_client):
        emit(run.docs, writer)
    assert writer.flush(PATIENCE)
    about = only_run(writer.status)
    assert about.state == "set aside"
    assert "405" in about.waits_for
    assert writer.status.runs == writer.load.runs == 0
    assert "405" in writer.load.set_aside[run.uid]


def test_a_run_of_a_process_that_is_gone(make_writer: MakeWriter, line: Line) -> None:
    run = run_with(scan_id=3)
    with make_writer() as gone:
        emit(run.docs, gone)
    with line.cut():
        writer = make_writer(flush_interval=0.02)
        wait_until(lambda: writer.status.by_run)
        about = only_run(writer.status)
        assert (about.uid, about.state) == (run.uid, "recovering")
    assert writer.recover(PATIENCE)[0].stored


@pytest.mark.parametrize(
    "start",
    [
        {"scan_id": NASTY, "plan_name": NASTY},
        {"scan_id": {"a": [NASTY]}, "plan_name": [1, None, NASTY]},
        {"scan_id": float("nan"), "plan_name": "x" * 10_000},
        {"plan_name": "a'b"},
    ],
)
def test_anything_may_stand_in_a_start_document(
    make_writer: MakeWriter, start: Mapping[str, Any]
) -> None:
    writer = make_writer()
    emit(run_with(**start).docs, writer)
    html = writer._repr_html_()
    assert set(re.findall(r"<(\w+)", html)) == {"b", "table", "tr", "th", "td", "a"}
    assert len(html) < 5000
    (row,) = cells(writer.status)
    plan = start["plan_name"]
    assert row["plan"] in (str(plan), f"{str(plan)[:200]}...")


def test_what_a_server_says_is_escaped() -> None:
    run = RunStatus(
        uid=NASTY,
        state="set aside",
        streams={NASTY: 1},
        waits_for=NASTY,
        link=f"http://tiled/'{NASTY}",
    )
    status = Status("degraded", by_run=(run,), last_error=RequestRefused(NASTY))
    html = status._repr_html_()
    assert set(re.findall(r"<(\w+)", html)) == {"table", "tr", "th", "td", "a"}
    (row,) = cells(status)
    assert row["run"] == NASTY[:8]
    assert row["streams"] == f"{NASTY} 1"
    assert row["waits for"] == NASTY


def test_a_long_table_is_cut() -> None:
    runs = tuple(RunStatus(uid=f"{i:08}", state="open") for i in range(MOST_RUNS + 3))
    *shown, more = cells(Status("writing", by_run=runs))
    assert len(shown) == MOST_RUNS
    assert more == {"run": "and 3 more"}


def test_a_status_is_told_again_until_its_writer_is_closed(make_writer: MakeWriter) -> None:
    with make_writer() as writer:
        status = writer.status
        emit(scalar_run().docs, writer)
        writer.flush()
        assert status.rows_stored == 0
        assert status.again().rows_stored == 3
        assert not status.again().closed
    assert status.again().closed
    assert "is closed" in status.again()._repr_html_()


def test_without_a_notebook_a_status_is_printed_once(
    make_writer: MakeWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    live = make_writer().status.watch()
    assert capsys.readouterr().out == "state idle, runs 0, stored 0 rows\n"
    assert not live.is_live
    live.stop()
