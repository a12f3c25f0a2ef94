"""Runs whose process is gone, and runs that are sent once more: Tiled has every row once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from conftest import RequestLog
from documents import Document, Pair, RunBuilder, data_key, emit, scalar_run
from tiled.client.container import Container
from tiled.mimetypes import APACHE_ARROW_FILE_MIME_TYPE
from tiled.serialization.table import serialize_arrow
from tree import array_of, read_arrow, snapshot, stream_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter
from bluesky_tiled_writer.delivery.recovery import Recovery
from bluesky_tiled_writer.errors import DocumentsIncomplete, JournalError, StorageError
from bluesky_tiled_writer.journal import JournalDirectory
from delivery.helpers import MakeWriter, writers_of

PATIENCE = 30.0
OPTIONS = {"max_array_size": 0, "path_map": {}, "spec_to_mimetype": {}}


@pytest.fixture
def make_writer(client: Container, journals: Path) -> Iterator[MakeWriter]:
    """Make writers that flush when they are told to; they are closed after the test."""
    with writers_of(client, journals) as make:
        yield make


def leave_journal(directory: Path, client: Container, docs: Sequence[Pair], **options: Any) -> None:
    """Leave what a process leaves that is killed after it took these documents."""
    server = options.pop("server", str(client.uri).split("?")[0].rstrip("/"))
    journal = JournalDirectory(directory).create(docs[0][1]["uid"], server, OPTIONS | options)
    for name, doc in docs:
        journal.append(name, doc)
    journal.close()


def store(client: Container, docs: Sequence[Pair], **options: Any) -> None:
    """Have Tiled hold what a process had stored of these documents when it was killed."""
    with TiledWriter(client, journal_directory=None, **options) as writer:
        emit(docs, writer)


def kill(writer: TiledWriter) -> None:
    """End a writer as the end of its process does: nothing more is sent."""
    assert writer._store._sender.close(PATIENCE)
    for run in writer._store._runs:
        if run.copies.journal is not None:
            run.copies.journal.close()
        run.turn.end()
    writer._store._closed = True


def column(client: Container, uid: str, name: str = "n", stream: str = "primary") -> list[Any]:
    return list(read_arrow(stream_of(client, uid, stream)["internal"])[name].to_pylist())


def rich_run(stopped: bool = True) -> RunBuilder:
    """Two streams, an array, a ragged array, a page, and a second descriptor."""
    run = RunBuilder()
    run.start(plan_name="scan", motors=["x"])
    keys = {
        "n": "integer",
        "label": "string",
        "image": data_key("array", [2], dtype_numpy="<i4"),
        "spectrum": data_key("array", [None], dtype_numpy="<f8"),
    }
    run.descriptor("baseline", {"n": "integer"})
    run.event("baseline", {"n": 100})
    run.descriptor("primary", keys)
    for i in range(5):
        run.event("primary", rich_row(i))
    run.event_page("primary", [rich_row(i) for i in range(5, 9)])
    run.descriptor("primary", keys, configuration={"det": {"data": {"gain": 2}}})
    run.event("primary", rich_row(9), seq_num=8)  # rewound
    run.event("baseline", {"n": 101})
    if stopped:
        run.stop(num_events={"baseline": 2, "primary": 10})
    return run


def rich_row(i: int) -> Document:
    return {"n": i, "label": f"row {i}", "image": [i, -i], "spectrum": [float(i)] * (1 + i % 3)}


def assert_rich_run_stored(client: Container, uid: str) -> None:
    assert column(client, uid) == [*range(10)]
    assert column(client, uid, "seq_num") == [*range(1, 10), 8]
    assert column(client, uid, "label") == [f"row {i}" for i in range(10)]
    assert column(client, uid, "n", "baseline") == [100, 101]
    stream = stream_of(client, uid)
    assert array_of(stream["image"])["values"] == [[i, -i] for i in range(10)]
    assert stream["spectrum"].read().tolist() == [[float(i)] * (1 + i % 3) for i in range(10)]
    assert len(stream.metadata["_config_updates"]) == 1
    assert client[uid].metadata["stop"]["num_events"] == {"baseline": 2, "primary": 10}


def writes(requests: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(method, path.strip("/")) for method, path in requests if method != "GET"]


def assert_nothing_left(journals: Path) -> None:
    assert list(journals.iterdir()) == []


# -- runs of processes that are gone --------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [3, 10_000])
@pytest.mark.parametrize("stored", [0, 1, 3, 6, 9, 12])
def test_half_a_run_gets_its_other_half_whatever_the_batches_were(
    client: Container, make_writer: MakeWriter, journals: Path, stored: int, batch_size: int
) -> None:
    run = rich_run()
    if stored:
        store(client, run.docs[:stored], batch_size=2)
    leave_journal(journals, client, run.docs)
    (recovery,) = make_writer(batch_size=batch_size).recover()
    assert recovery == Recovery(run.uid, True, "stored")
    assert_rich_run_stored(client, run.uid)
    assert client[run.uid].metadata == {"start": run.docs[0][1], "stop": run.docs[-1][1]}
    assert_nothing_left(journals)


def test_a_killed_writer_leaves_what_another_one_finishes(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = rich_run()
    writer = make_writer()
    emit(run.docs[:6], writer)
    assert writer.flush()
    emit(run.docs[6:-1], writer)
    kill(writer)
    assert column(client, run.uid) == [0, 1]
    (recovery,) = make_writer().recover()
    assert recovery.stored
    assert_rich_run_stored(client, run.uid)
    assert_nothing_left(journals)


def test_a_finished_run_is_recognised_and_nothing_is_sent(
    client: Container, make_writer: MakeWriter, journals: Path, request_log: RequestLog
) -> None:
    run = rich_run()
    store(client, run.docs)
    before = snapshot(client[run.uid])
    leave_journal(journals, client, run.docs)
    writer = make_writer()
    with request_log(client) as requests:
        (recovery,) = writer.recover()
    assert recovery == Recovery(run.uid, True, "was stored already")
    assert writes(requests) == [("POST", "metadata")]
    assert len(requests) == 2  # the other one asks what there is
    assert snapshot(client[run.uid]) == before
    assert_nothing_left(journals)


def test_a_finished_run_is_recognised_however_long_its_journal_is(
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bluesky_tiled_writer.delivery.catch_up.REPLAY_ROWS", 2)
    run = rich_run()
    store(client, run.docs)
    leave_journal(journals, client, run.docs)
    (recovery,) = make_writer().recover(timeout=PATIENCE)
    assert recovery == Recovery(run.uid, True, "was stored already")
    assert_nothing_left(journals)


@pytest.mark.parametrize("stored", [0, 7])
def test_a_run_without_a_stop_gets_one_that_says_so(
    client: Container, make_writer: MakeWriter, journals: Path, stored: int
) -> None:
    run = rich_run(stopped=False)
    if stored:
        store(client, run.docs[:stored])
    leave_journal(journals, client, run.docs)
    (recovery,) = make_writer().recover()
    assert recovery == Recovery(run.uid, True, "stored, and stopped, which it never was")
    assert_rich_run_stored(client, run.uid)
    metadata = client[run.uid].metadata
    stop = metadata["stop"]
    assert stop["exit_status"] == "fail"
    reason = "The process that took this run ended before the run did."
    assert stop["reason"] == f"{reason} This stop document is of bluesky-tiled-writer."
    assert stop["run_start"] == run.uid
    assert stop["time"] > run.docs[-1][1]["time"]
    (note,) = metadata["notes"]
    assert reason in note
    assert "this stop document" in note
    assert_nothing_left(journals)


def test_a_run_of_nothing_but_a_start_is_stopped_too(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = RunBuilder()
    leave_journal(journals, client, [run.start()])
    (recovery,) = make_writer().recover()
    assert recovery.stored
    assert client[run.uid].metadata["stop"]["num_events"] == {}
    assert_nothing_left(journals)


def test_a_journal_without_any_document_is_removed(
    client: Container, make_writer: MakeWriter, journals: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its process was killed within the call that brought the start document."""
    server = str(client.uri).split("?")[0].rstrip("/")
    JournalDirectory(journals).create("a uid", server, OPTIONS).close()
    assert make_writer().recover() == []
    assert_nothing_left(journals)
    assert [r for r in caplog.records if r.name.startswith("bluesky_tiled_writer")] == []


def test_journals_of_another_server_are_left_alone(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = rich_run()
    leave_journal(journals, client, run.docs, server="https://tiled.example.org/api/v1/metadata")
    assert make_writer().recover() == []
    assert run.uid not in client
    assert len(list(journals.iterdir())) == 1


def test_the_run_of_a_writer_that_is_there_is_left_to_it(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = rich_run()
    writer, other = make_writer(), make_writer()
    emit(run.docs[:8], writer)
    assert other.recover() == []
    assert writer.recover() == []
    emit(run.docs[8:], writer)
    assert_rich_run_stored(client, run.uid)


def test_what_was_recovered_is_told_once(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    leave_journal(journals, client, rich_run().docs)
    writer = make_writer()
    assert len(writer.recover()) == 1
    assert writer.recover() == []


def test_recovery_needs_journals(make_writer: MakeWriter) -> None:
    with pytest.raises(StorageError, match=r"no journal.*journal_directory"):
        make_writer(journal_directory=None).recover()


def test_runs_that_were_set_aside_are_tried_again(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run, opened = rich_run(), rich_run()
    writer = make_writer()
    context = client.context
    key, context.api_key = context.api_key, "revoked"
    try:
        emit([*opened.docs[:5], *run.docs], writer)
        assert writer.flush()
        (recovery,) = writer.recover()
        assert (recovery.uid, recovery.stored) == (run.uid, False)
        assert "401" in recovery.text
    finally:
        context.api_key = key
    assert writer.status.set_aside.keys() == {run.uid, opened.uid}
    (recovery,) = writer.recover()
    assert recovery == Recovery(run.uid, True, "stored")
    assert_rich_run_stored(client, run.uid)
    emit(opened.docs[5:], writer)
    assert writer.flush()
    (recovery,) = writer.recover()
    assert recovery.uid == opened.uid
    assert_rich_run_stored(client, opened.uid)
    assert writer.status.state == "idle"
    assert_nothing_left(journals)


def test_the_options_are_those_of_the_process_that_took_the_run(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = RunBuilder()
    run.start()
    image = data_key("array", [2, 2], external="STREAM:")
    run.descriptor("primary", {"wave": data_key("array", [2], dtype_numpy="<f8"), "image": image})
    run.event("primary", {"wave": [0.5, 1.5]})
    uri = "file://localhost/detector/a.h5"
    run.stream_datum("primary", run.stream_resource("image", uri, dataset="/x"), 0, 1)
    run.stop()
    options = {"max_array_size": 4, "path_map": {"/detector": "/server"}}
    leave_journal(journals, client, run.docs, **options)
    make_writer(max_array_size=0).recover()
    stream = stream_of(client, run.uid)
    assert read_arrow(stream["internal"])["wave"].to_pylist() == [[0.5, 1.5]]
    assert stream["image"].metadata == {"original_uris": [uri]}


def test_what_a_journal_knows_of_options_is_what_a_writer_was_told(
    make_writer: MakeWriter, journals: Path
) -> None:
    options: dict[str, Any] = {"max_array_size": 4, "path_map": {"/a": "/b"}}
    writer = make_writer(**options, spec_to_mimetype={"MINE": "text/csv"})
    emit(scalar_run().docs[:2], writer)
    (info,) = JournalDirectory(journals).journals()
    assert info.header is not None
    assert info.header.options == options | {"spec_to_mimetype": {"MINE": "text/csv"}}


# -- what an interrupted process may leave in Tiled -----------------------------------------------


def append_again(client: Container, uid: str, rows: slice) -> None:
    """A request that was given up, and that the server carries out after all."""
    table = stream_of(client, uid)["internal"]
    content = serialize_arrow(APACHE_ARROW_FILE_MIME_TYPE, read_arrow(table)[rows], {})
    answer = client.context.http_client.patch(
        f"{client.context.api_uri}table/partition/{uid}/primary/internal",
        content=bytes(content),
        headers={"Content-Type": APACHE_ARROW_FILE_MIME_TYPE},
        params={"partition": 0},
    )
    answer.raise_for_status()


@pytest.mark.parametrize("rows", [slice(0, 5), slice(3, 5)], ids=["all", "the last"])
def test_rows_that_a_late_request_has_doubled_are_stored_once(
    client: Container, make_writer: MakeWriter, journals: Path, rows: slice
) -> None:
    run = rich_run()
    store(client, run.docs[:9])
    append_again(client, run.uid, rows)
    assert len(column(client, run.uid)) == 5 + len(range(5)[rows])
    leave_journal(journals, client, run.docs)
    (recovery,) = make_writer().recover()
    assert recovery.stored
    assert_rich_run_stored(client, run.uid)
    assert_nothing_left(journals)


def test_all_rows_were_doubled_and_none_is_missing(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = scalar_run()
    store(client, run.docs[:-1])
    append_again(client, run.uid, slice(0, 3))
    leave_journal(journals, client, run.docs)
    make_writer().recover()
    assert column(client, run.uid) == [0, 1, 2]


@pytest.mark.parametrize("stored", [3, 4, 5])
def test_a_node_that_was_widened_before_the_end_of_the_process(
    client: Container, make_writer: MakeWriter, journals: Path, stored: int
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer", "wave": data_key("array", [2], dtype_numpy="<i2")})
    values = [1, 2, 2.5, 4]
    for value in values:
        run.event("primary", {"n": value, "wave": [value, 0]})
    run.stop()
    store(client, run.docs[:stored], batch_size=1)
    for batch_size in (1, 10_000):
        leave_journal(journals, client, run.docs)
        (recovery,) = make_writer(batch_size=batch_size).recover()
        assert recovery.stored
        assert column(client, run.uid) == values
        waves = array_of(stream_of(client, run.uid)["wave"])["values"]
        assert waves == [[value, 0] for value in values]
    assert_nothing_left(journals)


def test_a_stream_that_was_created_without_any_node(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = rich_run()
    store(client, run.docs[:4])
    leave_journal(journals, client, run.docs)
    make_writer().recover()
    assert_rich_run_stored(client, run.uid)


def test_another_run_under_the_same_uid_is_not_touched(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = rich_run()
    store(client, run.docs)
    before = snapshot(client[run.uid])
    other = [(run.docs[0][0], run.docs[0][1] | {"scan_id": 4711}), *run.docs[1:]]
    leave_journal(journals, client, other)
    (recovery,) = make_writer().recover()
    assert not recovery.stored
    assert "4711" in recovery.text
    assert snapshot(client[run.uid]) == before
    assert len(list(journals.iterdir())) == 1


# -- what cannot be processed any more ------------------------------------------------------------


class FailsOnStop(RunNormalizer):
    def stop(self, doc: Any) -> None:
        raise ZeroDivisionError


def test_a_stop_that_a_normalizer_fails_on_does_not_keep_a_run_from_its_end(
    client: Container, make_writer: MakeWriter, journals: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = scalar_run()
    leave_journal(journals, client, run.docs)
    (recovery,) = make_writer(normalizer=FailsOnStop).recover(timeout=PATIENCE)
    assert recovery.stored
    assert column(client, run.uid) == [0, 1, 2]
    assert client[run.uid].metadata["stop"]["exit_status"] == "fail"
    assert "a stop document was left out" in caplog.text
    assert_nothing_left(journals)


def test_a_journal_that_cannot_be_added_to_is_recovered_all_the_same(
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = rich_run(stopped=False)
    leave_journal(journals, client, run.docs)

    def fail(*args: Any) -> None:
        raise JournalError("the disk is full")

    monkeypatch.setattr("bluesky_tiled_writer.journal.JournalFile.append", fail)
    (recovery,) = make_writer().recover(timeout=PATIENCE)
    assert recovery.stored
    assert_rich_run_stored(client, run.uid)
    assert_nothing_left(journals)


def test_a_journal_that_lost_its_start_is_set_aside_with_what_to_do(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = rich_run()
    leave_journal(journals, client, run.docs)
    (path,) = journals.iterdir()
    path.write_bytes(path.read_bytes().replace(b"plan_name", b"plan_nam3", 1))
    (recovery,) = make_writer().recover()
    assert not recovery.stored
    assert "has lost its start document" in recovery.text
    assert "bluesky-tiled-writer export" in recovery.text
    assert path.exists()


# -- the same run once more -----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 10_000])
@pytest.mark.parametrize(("stored", "rows"), [(1, 0), (6, 3), (9, 6), (12, 11)])
def test_a_replay_of_half_a_run_sends_the_other_half(
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    stored: int,
    rows: int,
    batch_size: int,
) -> None:
    run = rich_run()
    store(client, run.docs[:stored])
    writer = make_writer(batch_size=batch_size)
    with rows_sent(client) as sent:
        emit(run.docs, writer)
        assert writer.flush()
    assert_rich_run_stored(client, run.uid)
    assert sum(sent) == 12 - rows
    assert_nothing_left(journals)


@contextmanager
def rows_sent(client: Container) -> Iterator[list[int]]:
    """Rows of tables that a client sends meanwhile, by request."""
    rows: list[int] = []

    def see(request: httpx.Request) -> None:
        if "/table/partition/" in request.url.path:
            rows.append(pa.ipc.open_file(request.content).read_all().num_rows)

    hooks = client.context.http_client.event_hooks["request"]
    hooks.append(see)
    try:
        yield rows
    finally:
        hooks.remove(see)


@pytest.mark.parametrize("batch_size", [1, 10_000])
def test_a_replay_of_a_finished_run_sends_nothing_and_says_so(
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    request_log: RequestLog,
    caplog: pytest.LogCaptureFixture,
    batch_size: int,
) -> None:
    run = rich_run()
    store(client, run.docs)
    before = snapshot(client[run.uid])
    caplog.set_level(logging.INFO, "bluesky_tiled_writer")
    caplog.clear()
    writer = make_writer(batch_size=batch_size)
    with request_log(client) as requests:
        emit(run.docs, writer)
        assert writer.flush()
    assert writer.wait_for(run.uid)
    assert writes(requests) == [("POST", "metadata")]
    assert f"Run {run.uid} is already stored; nothing was sent." in caplog.text
    assert snapshot(client[run.uid]) == before
    assert_nothing_left(journals)


def test_a_replay_of_fewer_rows_than_tiled_holds_changes_nothing(
    client: Container, make_writer: MakeWriter, caplog: pytest.LogCaptureFixture
) -> None:
    run = rich_run()
    store(client, run.docs[:9])
    before = snapshot(client[run.uid])
    writer = make_writer()
    emit([*run.docs[:5], run.docs[-1]], writer)
    with pytest.raises(DocumentsIncomplete, match="give 1 rows of the stream 'primary'"):
        writer.wait_for(run.uid)
    assert snapshot(client[run.uid]) == before
    assert writer.status.set_aside.keys() == {run.uid}
    assert "Nothing was changed there" in caplog.text


def test_a_replay_that_lacks_the_first_rows_changes_nothing(
    client: Container, make_writer: MakeWriter
) -> None:
    run = rich_run()
    store(client, run.docs[:7])
    before = snapshot(client[run.uid])
    writer = make_writer()
    emit([*run.docs[:4], *run.docs[6:8], run.docs[-1]], writer)
    with pytest.raises(DocumentsIncomplete):
        writer.wait_for(run.uid)
    assert snapshot(client[run.uid]) == before


def test_a_replay_without_a_journal_changes_nothing_that_it_may_not_have(
    client: Container, make_writer: MakeWriter
) -> None:
    run = rich_run()
    store(client, run.docs[:7])
    before = snapshot(client[run.uid])
    writer = make_writer(journal_directory=None)
    with pytest.raises(DocumentsIncomplete, match="replay"):
        emit(run.docs, writer)
    assert snapshot(client[run.uid]) == before


def test_rows_of_another_process_wait_for_the_stop_of_the_replay(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    """Before that nobody knows whether the replay has them all."""
    run = rich_run()
    store(client, run.docs[:9])
    before = snapshot(client[run.uid])
    writer = make_writer()
    emit(run.docs[:5], writer)
    assert not writer.flush(), "which does not wait for what only the stop document brings"
    emit(run.docs[5:-1], writer)
    assert not writer.flush()
    assert snapshot(client[run.uid]) == before
    emit(run.docs[-1:], writer)
    assert writer.wait_for(run.uid)
    assert_rich_run_stored(client, run.uid)
    assert_nothing_left(journals)


@pytest.mark.parametrize("half", [1, 6, 9, 12])
def test_a_run_that_was_stopped_for_its_dead_process_gets_its_other_half(
    client: Container, make_writer: MakeWriter, journals: Path, half: int
) -> None:
    run = rich_run()
    leave_journal(journals, client, run.docs[:half])
    writer = make_writer()
    (recovery,) = writer.recover()
    assert recovery.text == "stored, and stopped, which it never was"
    emit(run.docs, writer)
    assert writer.wait_for(run.uid)
    assert_rich_run_stored(client, run.uid)
    assert client[run.uid].metadata == {"start": run.docs[0][1], "stop": run.docs[-1][1]}
    assert_nothing_left(journals)


def test_a_recovery_that_was_cut_off_at_its_very_end_sends_nothing(
    client: Container, make_writer: MakeWriter, journals: Path, request_log: RequestLog
) -> None:
    run = rich_run(stopped=False)
    leave_journal(journals, client, run.docs)
    make_writer().recover()
    docs = [*run.docs, ("stop", client[run.uid].metadata["stop"])]
    before = snapshot(client[run.uid])
    leave_journal(journals, client, docs)
    writer = make_writer()
    with request_log(client) as requests:
        (recovery,) = writer.recover()
    assert recovery == Recovery(run.uid, True, "was stored already")
    assert writes(requests) == [("POST", "metadata")]
    assert snapshot(client[run.uid]) == before


@pytest.mark.parametrize(
    ("halves", "rows"), [((6, 13), 10), ((13, 6), 10), ((6, 6), 2), ((14, 14), 10), ((14, 6), 10)]
)
def test_two_journals_of_one_run_are_stored_as_one(
    client: Container, make_writer: MakeWriter, journals: Path, halves: tuple[int, int], rows: int
) -> None:
    """Such as that of a process that was killed, and that of a replay that was."""
    run = rich_run()
    for number in halves:
        leave_journal(journals, client, run.docs[:number])
    recoveries = make_writer().recover(timeout=PATIENCE)
    assert [recovery.uid for recovery in recoveries] == [run.uid] * 2
    assert column(client, run.uid) == [*range(rows)]
    if 14 in halves:
        assert_rich_run_stored(client, run.uid)
        assert client[run.uid].metadata["stop"] == run.docs[-1][1]


def test_a_run_is_sent_once_more_while_it_is_recovered(
    client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = rich_run()
    leave_journal(journals, client, run.docs[:9])
    writer = make_writer()
    (orphan,) = writer._store._journals.orphans(writer._store.server)
    writer._store._adopt(orphan)
    emit(run.docs, writer)
    assert writer.wait_for(run.uid)
    assert_rich_run_stored(client, run.uid)
    assert client[run.uid].metadata["stop"] == run.docs[-1][1]
    assert_nothing_left(journals)
