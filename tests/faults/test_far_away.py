"""To a server that is far away, requests follow others before these are answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import RunBuilder, data_key
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.sink import lead

from . import LONG
from .caller import Caller
from .conftest import MakeWriter
from .proxy import Proxy
from .test_faults import FAULTS, REQUESTS, assert_stored
from .tiled_process import TiledProcess

DELAY = 0.15
"""s: several times what the server works on a request, even on a busy machine."""

KINDS = ("create run", "create stream", "create table", "first rows", "create array", "stop")
CASES = [(kind, fault) for kind in KINDS for fault in FAULTS]
SELECTION = [
    ("create run", "dropped after"),
    ("create stream", "500 before"),
    ("create stream", "dropped before"),
    ("create stream", "late"),
    ("create table", "503 after"),
    ("create table", "429"),
    ("first rows", "dropped after"),
    ("first rows", "late"),
]
assert set(SELECTION) <= set(CASES)


@pytest.fixture(scope="module")
def warm_server(server: TiledProcess, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a server does for the first time takes it longer than the way there."""
    client = from_uri(server.uri)
    journals = tmp_path_factory.mktemp("journals")
    with TiledWriter(client, journal_directory=journals) as writer:
        for name, doc in scalars_and_an_array().docs:
            writer(name, doc)
    client.context.close()


@pytest.fixture
def far_proxy(proxy: Proxy, warm_server: None) -> Iterator[Proxy]:
    proxy.delay = DELAY
    yield proxy
    assert not [t for t in threading.enumerate() if t.name == "bluesky-tiled-writer-lead"]


@pytest.fixture
def run() -> RunBuilder:
    return scalars_and_an_array()


def scalars_and_an_array() -> RunBuilder:
    """Nothing comes between its descriptor and its rows."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "image": data_key("array", [2], dtype_numpy="<i4")})
    for i in range(5):
        run.event("primary", {"x": i / 2, "image": [i, -i]})
    run.stop()
    return run


def test_a_stream_its_table_and_its_rows_are_sent_before_the_answers(
    far_proxy: Proxy, client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    far_proxy.delay = 0.5
    writer = make_writer()
    for _ in range(5):  # a server that has much to do may work longer than requests are on the way
        run = scalars_and_an_array()
        Caller(writer).send(run.docs)
        assert_stored(client, writer, run, journals)
        if _followed(far_proxy, run.uid):
            break
    else:
        pytest.fail("each request waited for the answer to the one before")
    assert not far_proxy.seen("GET", run.uid), "nothing was in doubt"


def _followed(proxy: Proxy, uid: str) -> bool:
    """Whether the stream, its table and its rows were each sent before the one before was done."""
    stream, *_ = proxy.seen("POST", f"^/metadata/{uid}$")
    table, *_ = proxy.seen("POST", f"^/metadata/{uid}/primary$")
    rows, *_ = proxy.seen("PATCH", f"^/table/partition/{uid}/")
    assert stream.ended is not None
    assert table.ended is not None
    return table.received < stream.ended and rows.received < table.ended


def test_what_comes_too_early_is_sent_again_and_casts_no_doubt(
    monkeypatch: pytest.MonkeyPatch,
    far_proxy: Proxy,
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    run: RunBuilder,
) -> None:
    monkeypatch.setattr(lead, "SHARE", 0.0)
    monkeypatch.setattr(lead, "MARGIN", 0.0)

    writer = make_writer()

    Caller(writer).send(run.docs)

    assert_stored(client, writer, run, journals)
    refused = [exchange for exchange in far_proxy.seen("", run.uid) if exchange.status == 404]
    assert refused, "nothing came too early"
    assert not far_proxy.seen("GET", run.uid), "nothing was in doubt"


def test_nothing_follows_into_a_run_that_was_there_before(
    far_proxy: Proxy, client: Container, make_writer: MakeWriter, run: RunBuilder
) -> None:
    """It may be another one under the same uid: nothing is written there before that is known."""
    (_, start), *_ = run.docs
    other = start | {"time": start["time"] - 1.0}
    client.create_container(run.uid, metadata={"start": other})
    writer = make_writer()

    Caller(writer).send(run.docs)

    assert run.uid in writer.status.set_aside
    assert list(client[run.uid]) == []


@pytest.mark.parametrize(
    ("request_kind", "fault"),
    [pytest.param(*case, id=", ".join(case)) for case in (CASES if LONG else SELECTION)],
)
def test_a_request_that_goes_wrong_costs_and_doubles_no_row(
    far_proxy: Proxy,
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    run: RunBuilder,
    request_kind: str,
    fault: str,
) -> None:
    rule = far_proxy.inject(FAULTS[fault], **REQUESTS[request_kind])
    writer = make_writer()
    caller = Caller(writer)

    caller.send(run.docs)

    assert_stored(client, writer, run, journals)
    caller.assert_hardly_held()
    assert rule.met == 1, "the request that was to go wrong was never sent"
