"""A document that comes twice makes one row, whichever way it comes; what never came is told."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky.plans import count
from documents import Pair, RunBuilder, data_key, emit, scalar_run
from ophyd.sim import det
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import RunNormalizer
from bluesky_tiled_writer.delivery import Settings, count_rows
from bluesky_tiled_writer.delivery.pipeline import Pipeline
from bluesky_tiled_writer.errors import DuplicateRun
from bluesky_tiled_writer.run import RunSettings
from bluesky_tiled_writer.testing import MemoryServer

from .helpers import BOUND, PATIENCE, Line, MakeWriter, assert_wide_run_stored, column, wide_run
from .helpers import messages_of as messages
from .recoveries import (
    assert_nothing_left,
    assert_rich_run_stored,
    kill,
    leave_journal,
    rich_run,
    store,
)

ROWS = 4
Order = Callable[[list[Pair]], list[Pair]]


@pytest.fixture
def tiled_client(served_catalog: str) -> Iterator[Container]:
    """A client of a server on DuckDB, which holds ragged arrays."""
    client = from_uri(served_catalog)
    yield client
    client.context.close()


def twice_in_a_row(docs: list[Pair]) -> list[Pair]:
    return [pair for pair in docs for _ in range(2)]


def all_again(docs: list[Pair]) -> list[Pair]:
    return [*docs, *docs]


def the_middle_again(docs: list[Pair]) -> list[Pair]:
    return [*docs[:9], *docs[3:]]


def from_the_start_again(docs: list[Pair]) -> list[Pair]:
    return [*docs[:9], *docs]


ORDERS = pytest.mark.parametrize(
    "order", [twice_in_a_row, all_again, the_middle_again, from_the_start_again]
)


def notes(client: Container, uid: str) -> list[str]:
    return list(client[uid].metadata.get("notes", []))


def told(client: Container, uid: str, what: str) -> list[str]:
    return [note for note in notes(client, uid) if what in note]


# -- without a server -----------------------------------------------------------------------------


def run_with_references() -> RunBuilder:
    """A run with external data of old, to which events refer: they do not skip the normalizer."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer", "image": data_key("array", [2], external="F:")})
    old = {"uid": "r", "run_start": run.uid, "spec": "AD_HDF5", "root": "/", "resource_path": "a"}
    run.add("resource", {**old, "resource_kwargs": {}})
    for n in range(ROWS):
        run.add("datum", {"datum_id": f"r/{n}", "resource": "r", "datum_kwargs": {}})
        run.event("primary", {"n": n, "image": f"r/{n}"}, filled={"image": False})
    run.stop()
    return run


def stored_in_memory(docs: list[Pair], **settings: Any) -> MemoryServer:
    server = MemoryServer()
    options = Settings(run=RunSettings(), **settings)
    pipeline = Pipeline(options, server.new_sink())
    for number, (name, doc) in enumerate(docs):
        pipeline.feed(name, copy.deepcopy(doc))
        if number % 3 == 0:
            pipeline.deliver()
    pipeline.deliver()
    assert count_rows(docs, options).rows == dict.fromkeys(server.streams(docs[0][1]["uid"]), ROWS)
    return server


class Twin(RunNormalizer):
    """Makes two rows of each event, which have its uid."""

    def event(self, doc: Any) -> None:
        self.emit("event", doc)
        self.emit("event", doc)


@pytest.mark.parametrize("normalizer", [None, RunNormalizer])
@ORDERS
def test_an_event_makes_one_row(order: Order, normalizer: Any) -> None:
    run = scalar_run(events=ROWS)
    server = stored_in_memory(order(run.docs[:-1]) + run.docs[-1:], normalizer=normalizer)
    assert [row["n"] for row in server.rows(run.uid)] == [0, 1, 2, 3]
    assert server.runs[run.uid]["stop"] == run.docs[-1][1]
    (note,) = server.runs[run.uid]["notes"]
    assert "more than once" in note


def test_frames_are_registered_once() -> None:
    run = run_with_references()
    once, twice = (
        stored_in_memory(docs, normalizer=RunNormalizer)
        for docs in (run.docs, twice_in_a_row(run.docs[:-1]) + run.docs[-1:])
    )
    node, other = (server.node(run.uid, "primary", "image") for server in (once, twice))
    assert node is not None
    assert other is not None
    frames = [sum(shape[0] for shape, _ in each.patches) for each in (node, other)]
    assert frames == [ROWS, ROWS]
    assert twice.rows(run.uid) == once.rows(run.uid)


def test_rows_that_a_normalizer_makes_of_one_event_are_no_repetition() -> None:
    run = scalar_run(events=ROWS // 2)
    server = stored_in_memory(twice_in_a_row(run.docs[:-1]) + run.docs[-1:], normalizer=Twin)
    assert [row["n"] for row in server.rows(run.uid)] == [0, 0, 1, 1]


# -- with a server --------------------------------------------------------------------------------


@ORDERS
def test_a_run_is_stored_once(
    tiled_client: Container,
    make_writer: MakeWriter,
    journals: Path,
    caplog: pytest.LogCaptureFixture,
    order: Order,
) -> None:
    run = rich_run()
    emit(order(run.docs), writer := make_writer())
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert_rich_run_stored(tiled_client, run.uid)
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]
    said = 0 if order is all_again else 1  # the second time there is nothing to store
    assert len(told(tiled_client, run.uid, "more than once")) == said
    assert [run.uid in text for text in messages(caplog)] == [True] * said
    assert_nothing_left(journals)


def test_a_writer_that_is_subscribed_twice_stores_each_row_once(
    tiled_client: Container,
    make_writer: MakeWriter,
    RE: RunEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    RE.dispatcher.unsubscribe_all()
    writer = make_writer()
    RE.subscribe(writer)
    RE.subscribe(lambda name, doc: writer(name, doc))  # of one function it keeps one subscription
    uids = [RE(count([det], 5))[0] for _ in range(2)]
    for uid in uids:
        assert writer.wait_for(uid, timeout=PATIENCE)
        assert column(tiled_client, uid, "seq_num") == [1, 2, 3, 4, 5]
        (note,) = notes(tiled_client, uid)
        assert note.endswith("Left out: 1 start, 1 descriptor, 5 event.")
    assert [uid in text for uid, text in zip(uids, messages(caplog), strict=True)] == [True, True]


def test_events_that_are_grouped_come_once(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run(events=4)
    events = [doc for name, doc in run.docs if name == "event"]
    bulk = ("bulk_events", {events[0]["descriptor"]: events[1:]})
    docs = [*run.docs[:4], bulk, bulk, *run.docs[3:]]
    emit(docs, writer := make_writer())
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert column(tiled_client, run.uid) == [0, 1, 2, 3]
    assert notes(tiled_client, run.uid)[0].endswith("Left out: 7 event.")


@pytest.mark.parametrize("before", [0, 9])
def test_a_journal_with_repetitions_is_recovered(
    tiled_client: Container, make_writer: MakeWriter, journals: Path, before: int
) -> None:
    run = rich_run()
    docs = twice_in_a_row(run.docs[:-1]) + run.docs[-1:]
    store(tiled_client, docs[:before])
    leave_journal(journals, tiled_client, docs)
    (recovery,) = make_writer().recover(timeout=PATIENCE)
    assert recovery.uid == run.uid
    assert_rich_run_stored(tiled_client, run.uid)
    assert len(told(tiled_client, run.uid, "more than once")) == 1
    assert_nothing_left(journals)


def test_a_run_goes_on_with_repetitions_after_its_process_was_killed(
    tiled_client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = rich_run()
    emit(twice_in_a_row(run.docs[:8]), killed := make_writer())
    killed.flush()
    kill(killed)
    writer = make_writer()
    emit(twice_in_a_row(run.docs[5:]), writer)  # a bus begins with what was not acknowledged
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert_rich_run_stored(tiled_client, run.uid)
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]
    assert_nothing_left(journals)


def test_a_run_that_is_behind_has_each_row_once(
    tiled_client: Container, make_writer: MakeWriter, line: Line
) -> None:
    run = wide_run(events=200)
    writer = make_writer(max_pending_bytes=BOUND)
    with line.held():
        emit(twice_in_a_row(run.docs[:-1]), writer)
        assert writer.status.state == "behind"
    emit(twice_in_a_row(run.docs[-1:]), writer)
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert_wide_run_stored(tiled_client, run.uid, 200)


def test_another_start_document_is_refused_while_the_run_is_open(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    emit(run.docs[:3], writer := make_writer())
    name, start = run.docs[0]
    with pytest.raises(DuplicateRun):
        writer(name, {**start, "scan_id": 7})
    emit([*run.docs[:1], *run.docs[3:]], writer)
    assert column(tiled_client, run.uid) == [0, 1, 2]
    assert tiled_client[run.uid].metadata["start"] == start


def test_a_stop_document_that_comes_again_later_changes_nothing(
    tiled_client: Container, make_writer: MakeWriter, caplog: pytest.LogCaptureFixture
) -> None:
    run, other = scalar_run(), scalar_run()
    emit(run.docs, writer := make_writer())
    emit([*other.docs, *run.docs[-1:]], writer)
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert messages(caplog) == []
    emit(run.docs[-1:], later := make_writer())  # which has never seen the run
    assert later.close(timeout=PATIENCE)
    assert notes(tiled_client, run.uid) == []
    assert tiled_client[run.uid].metadata["stop"] == run.docs[-1][1]


# -- what never came ------------------------------------------------------------------------------


def test_events_that_were_lost_on_the_way_are_told(
    tiled_client: Container,
    make_writer: MakeWriter,
    RE: RunEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    RE.dispatcher.unsubscribe_all()
    writer = make_writer()

    def lossy(name: str, doc: Any) -> None:
        if name != "event" or doc["seq_num"] not in (2, 5):
            writer(name, doc)

    (uid,) = RE(count([det], 5), lossy)
    assert writer.wait_for(uid, timeout=PATIENCE)
    (note,) = notes(tiled_client, uid)
    assert "stream 'primary' lacks 2 of 5" in note
    assert messages(caplog) == [f"Run {uid}: {note}"]


def test_nothing_is_told_of_events_that_a_patch_dropped(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run(events=5)
    keep_odd = {"event": lambda doc: doc if doc["seq_num"] % 2 else None}
    emit(run.docs, writer := make_writer(patches=keep_odd))
    assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert told(tiled_client, run.uid, "lacks") == []
    assert column(tiled_client, run.uid) == [0, 2, 4]
