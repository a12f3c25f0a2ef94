"""Faults between the writer and its server: each row is stored once, and the caller never waits."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import pytest
from tiled.client.container import Container

from bluesky_tiled_writer.errors import StorageError

from . import LONG
from .caller import Caller
from .cases import FAULTS, REQUESTS, SETTLED, assert_all_done, assert_stored, send_slowly
from .conftest import PATIENCE, MakeWriter
from .proxy import Answer, Drop, Hang, Proxy
from .runs import FaultRun
from .tiled_process import TiledProcess

SELECTION: dict[str, dict[str, list[str]]] = {
    "lost answers": {
        "dropped after": [
            "create run",
            "create table",
            "first rows",
            "first block",
            "more ragged rows",
            "register asset",
            "close run",
        ],
    },
    "broken connections": {
        "dropped before": ["create stream", "more rows", "update stream", "close node", "stop"],
    },
    "errors before acting": {
        "500 before": ["create array", "create stream"],
        "502 before": ["first ragged rows"],
        "503 before": ["first rows"],
        "504 before": ["update asset"],
        "429": ["more blocks", "create table"],
    },
    "errors after acting": {
        "500 after": ["more rows"],
        "502 after": ["update asset"],
        "503 after": ["create ragged", "stop"],
        "504 after": ["create array"],
    },
    "long waits": {
        "slow before": ["create stream"],
        "slow after": ["first rows"],
        "timeout before": ["first block"],
        "timeout after": ["more rows"],
    },
    "late requests": {
        "late at once": ["create table"],
        "late": ["first rows", "first block", "update asset"],
        "late after a timeout": ["more ragged rows"],
    },
}
"""Every kind of request meets a fault in one of these runs, and every kind of fault is met."""
assert {kind for run in SELECTION.values() for kinds in run.values() for kind in kinds} == {
    *REQUESTS
}
assert {fault for run in SELECTION.values() for fault in run} == {*FAULTS}

ALONE = [
    pytest.param({fault: [request]}, id=f"{request}, {fault}")
    for request in REQUESTS
    for fault in FAULTS
]
SEVERAL = [pytest.param(faults, id=name) for name, faults in SELECTION.items()]


@pytest.mark.parametrize("faults", [*SEVERAL, *(ALONE if LONG else [])])
def test_requests_that_go_wrong_lose_and_repeat_no_row(
    proxy: Proxy,
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    run: FaultRun,
    faults: dict[str, list[str]],
) -> None:
    rules = {
        f"{request}, {fault}": proxy.inject(FAULTS[fault], **REQUESTS[request])
        for fault, requests in faults.items()
        for request in requests
    }
    writer = make_writer()
    caller = Caller(writer)
    *parts, last = run.parts

    for part in parts:
        caller.send(part)
        assert writer.flush(timeout=SETTLED)
    proxy.wait_until_idle()  # what is late comes before the end of the run
    caller.send(last)

    assert_stored(client, writer, run, journals)
    caller.assert_hardly_held()
    assert {name: rule.met for name, rule in rules.items()} == dict.fromkeys(rules, 1)


@pytest.mark.parametrize("fault", FAULTS if LONG else ["dropped after"])
def test_faults_in_a_row_lose_and_repeat_no_row(
    proxy: Proxy,
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    run: FaultRun,
    fault: str,
) -> None:
    """Every fifth request that writes fails, including those that repeat one.

    Not every fourth: a ragged node is written anew in four requests, and the last would fail.
    """
    faults = range(2, 120 if LONG else 40, 5)
    for nth in faults:
        proxy.inject(FAULTS[fault], "POST|PUT|PATCH|DELETE", nth=nth)
    writer = make_writer()
    caller = Caller(writer)

    for part in run.parts:
        caller.send(part)

    # Some of these faults last as long as the client has patience, each of them.
    settled = SETTLED + 2 * PATIENCE * len(faults)
    assert_stored(client, writer, run, journals, settled)
    caller.assert_hardly_held()


def test_reading_back_may_fail_as_well(
    proxy: Proxy, client: Container, make_writer: MakeWriter, journals: Path, run: FaultRun
) -> None:
    proxy.inject(Drop(after=True), **REQUESTS["first rows"])
    proxy.inject(Drop(), "GET")
    proxy.inject(Answer(503), "GET")
    writer = make_writer()
    caller = Caller(writer)

    for part in run.parts:
        caller.send(part)

    assert_stored(client, writer, run, journals)
    caller.assert_hardly_held()


# -- outages --------------------------------------------------------------------------------------


def test_a_server_that_is_away_for_a_while_gets_everything_when_it_is_back(
    proxy: Proxy, client: Container, make_writer: MakeWriter, journals: Path, frames: str
) -> None:
    run = FaultRun(frames, rows=40)
    writer = make_writer()
    caller = Caller(writer)
    first, second, last = run.parts

    caller.send(first[:50])
    assert writer.flush(timeout=SETTLED)
    proxy.go_away()
    send_slowly(caller, [*first[50:], *second], seconds=60.0 if LONG else 3.0)
    proxy.come_back()
    caller.send(last)

    assert_stored(client, writer, run, journals)
    caller.assert_hardly_held()


def test_a_run_that_starts_and_stops_while_the_server_is_away_is_stored_when_it_is_back(
    proxy: Proxy, client: Container, make_writer: MakeWriter, journals: Path, frames: str
) -> None:
    runs = [FaultRun(frames) for _ in range(3)]
    writer = make_writer(timeout=1.0)
    caller = Caller(writer)
    proxy.go_away()

    for run in runs:
        caller.send(run.docs)
    assert caller.at_stop < 1.5 * len(runs), "stop waits no longer than it is told to"
    assert len(list(journals.glob("*.journal"))) == len(runs)
    proxy.come_back()

    for run in runs:  # first, since on DuckDB a read gets into the transactions of what is written
        assert writer.wait_for(run.uid, timeout=SETTLED)
    for run in runs:
        assert_stored(client, writer, run)
    assert_all_done(journals)
    caller.assert_hardly_held()


def test_a_server_that_takes_connections_and_never_answers_does_not_hold_the_caller(
    proxy: Proxy, client: Container, make_writer: MakeWriter, journals: Path, frames: str
) -> None:
    run = FaultRun(frames, rows=20)
    writer = make_writer()
    caller = Caller(writer)
    first, *others, last = run.parts

    proxy.inject(Hang(math.inf), times=math.inf)
    send_slowly(caller, first, seconds=30.0 if LONG else 2.0)
    proxy.clear()
    proxy.go_away()
    proxy.come_back()
    for part in others:
        caller.send(part)
    caller.send(last)

    assert_stored(client, writer, run, journals)
    caller.assert_hardly_held()


@pytest.mark.parametrize("kills", [1, 3] if LONG else [1])
def test_a_server_that_is_killed_and_started_again_has_every_row_once(
    server: TiledProcess,
    make_writer: MakeWriter,
    journals: Path,
    frames: str,
    client: Container,
    direct_client: Container,
    kills: int,
) -> None:
    run = FaultRun(frames, rows=30)
    writer = make_writer(direct_client, flush_interval=0.02)
    caller = Caller(writer)
    *parts, last = run.parts
    docs = [doc for part in parts for doc in part]

    for i in range(kills):
        share = slice(i * len(docs) // kills, (i + 1) * len(docs) // kills)
        sending = threading.Thread(target=send_slowly, args=(caller, docs[share], 1.0))
        sending.start()
        try:
            time.sleep(0.5)  # somewhere in the middle of the writing
            server.kill()
            server.start()
        finally:
            sending.join()
    caller.send(last)
    try:
        writer.wait_for(run.uid, timeout=SETTLED)
    except StorageError:  # what the log tells to look for, and the documentation to do
        assert server.delete_arrays_without_a_node(run.uid), "it was for another reason"
        writer.recover(timeout=SETTLED)

    assert_stored(client, writer, run, journals)
    caller.assert_hardly_held()


@pytest.fixture
def direct_client(server: TiledProcess, client: Container) -> Container:
    """A client without a proxy, whose connections break as those to a real server do."""
    return client
