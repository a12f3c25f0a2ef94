"""Whatever goes wrong on the way to the server: each row is stored once, and nobody waits."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tiled.client.container import Container

from bluesky_tiled_writer.errors import StorageError

from . import LONG
from .caller import Caller
from .conftest import PATIENCE, MakeWriter
from .proxy import Answer, Drop, Fault, Hang, Late, Proxy
from .runs import FaultRun, assert_exactly_once
from .tiled_process import TiledProcess

SETTLED = 60.0
"""s: by when every run has to be stored, once the fault is over."""

REQUESTS: dict[str, dict[str, Any]] = {
    "create run": {"method": "POST", "path": "^/metadata$"},
    "create stream": {"method": "POST", "path": "^/metadata/[^/]+$"},
    "create table": {
        "method": "POST",
        "path": "^/metadata/[^/]+/primary$",
        "body": '"id": ?"internal"',
    },
    "first rows": {"method": "PATCH", "path": "^/table/partition/[^/]+/primary/"},
    "more rows": {"method": "PATCH", "path": "^/table/partition/[^/]+/primary/", "nth": 2},
    "create array": {
        "method": "POST",
        "path": "^/metadata/[^/]+/primary$",
        "body": '"id": ?"image"',
    },
    "first block": {"method": "PUT", "path": "^/array/full/"},
    "more blocks": {"method": "PATCH", "path": "^/array/full/"},
    "create ragged": {
        "method": "POST",
        "path": "^/metadata/[^/]+/primary$",
        "body": '"id": ?"spectrum"',
    },
    "first ragged rows": {"method": "PUT", "path": "^/ragged/full/"},
    "more ragged rows": {"method": "PATCH", "path": "^/ragged/full/"},
    "register asset": {"method": "POST", "path": "^/register/"},
    "update asset": {"method": "PUT", "path": "^/data_source/"},
    "update stream": {"method": "PATCH", "path": "^/metadata/[^/]+/primary$"},
    "stop": {"method": "PATCH", "path": "^/metadata/[^/]+$"},
    "close node": {"method": "DELETE", "path": "^/stream/close/[^/]+/primary/internal$"},
    "close run": {"method": "DELETE", "path": "^/stream/close/[^/]+$"},
}
"""Every kind of request that a run takes."""

FAULTS: dict[str, Fault] = {
    "dropped before": Drop(),
    "dropped after": Drop(after=True),
    "429": Answer(429, headers={"Retry-After": "0"}),
    **{f"{status} before": Answer(status) for status in (500, 502, 503, 504)},
    **{f"{status} after": Answer(status, after=True) for status in (500, 502, 503, 504)},
    "slow before": Hang(PATIENCE / 6),
    "slow after": Hang(PATIENCE / 6, after=True),
    "timeout before": Hang(PATIENCE * 1.2),
    "timeout after": Hang(PATIENCE * 1.2, after=True),
    "late at once": Late(0.05),
    "late": Late(0.7),
    "late after a timeout": Late(PATIENCE * 1.2, hang=True),
}

CASES = [(request, fault) for request in REQUESTS for fault in FAULTS]
SELECTION = [
    ("create run", "dropped after"),
    ("create table", "dropped after"),
    ("first rows", "503 before"),
    ("first rows", "dropped after"),
    ("first rows", "late"),
    ("more rows", "500 after"),
    ("more rows", "timeout after"),
    ("create array", "504 after"),
    ("first block", "dropped after"),
    ("first block", "late"),
    ("more blocks", "dropped after"),
    ("create ragged", "503 after"),
    ("more ragged rows", "dropped after"),
    ("register asset", "dropped after"),
    ("update asset", "502 after"),
    ("update asset", "late"),
    ("stop", "dropped before"),
    ("stop", "503 after"),
    ("close run", "dropped after"),
]
assert set(SELECTION) <= set(CASES)


@pytest.mark.parametrize(
    ("request_kind", "fault"),
    [pytest.param(*case, id=", ".join(case)) for case in (CASES if LONG else SELECTION)],
)
def test_a_request_that_goes_wrong_costs_and_doubles_no_row(
    proxy: Proxy,
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    run: FaultRun,
    request_kind: str,
    fault: str,
) -> None:
    rule = proxy.inject(FAULTS[fault], **REQUESTS[request_kind])
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
    assert rule.met == 1, "the request that was to go wrong was never sent"


@pytest.mark.parametrize("fault", FAULTS if LONG else ["dropped after", "late"])
def test_faults_in_a_row_cost_and_double_no_row(
    proxy: Proxy,
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    run: FaultRun,
    fault: str,
) -> None:
    """Of anything that changes something, every fourth request fails, those that repeat included.

    Not every third: that is how many it takes to write a ragged node anew, whose last would fail.
    """
    faults = range(2, 120 if LONG else 40, 4)
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


def test_a_server_that_takes_connections_and_never_answers_holds_nobody(
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
    run = FaultRun(frames, rows=60)
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


# -- what they share ------------------------------------------------------------------------------


def send_slowly(caller: Caller, docs: list[Any], seconds: float) -> None:
    """Send documents over so many seconds."""
    start = time.monotonic()
    for i, doc in enumerate(docs):
        caller.send([doc])
        time.sleep(max(0.0, start + (i + 1) / len(docs) * seconds - time.monotonic()))


def assert_stored(
    client: Container,
    writer: Any,
    run: FaultRun,
    journals: Path | None = None,
    settled: float = SETTLED,
) -> None:
    assert writer.wait_for(run.uid, timeout=settled)
    assert_exactly_once(client, run.uid, run.docs)
    if journals is not None:
        assert_all_done(journals)


def assert_all_done(journals: Path) -> None:
    assert list(journals.iterdir()) == []
