"""Runs whose process is gone, and runs that are sent once more: Tiled has every row once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import RequestLog
from documents import RunBuilder, data_key, emit, emit_one_by_one, scalar_run
from tiled.client.container import Container
from tiled.mimetypes import APACHE_ARROW_FILE_MIME_TYPE
from tiled.serialization.table import serialize_arrow
from tree import array_of, read_arrow, snapshot, stream_of

from bluesky_tiled_writer import RunNormalizer
from bluesky_tiled_writer.delivery.recovery import Recovery
from bluesky_tiled_writer.errors import (
    JournalError,
    StorageError,
)
from bluesky_tiled_writer.journal import JournalDirectory
from delivery.helpers import MakeWriter, refused_for_good, writers_of
from delivery.recoveries import (
    NO_PROCESS,
    OPTIONS,
    PATIENCE,
    assert_nothing_left,
    assert_rich_run_stored,
    column,
    kill,
    leave_journal,
    rich_run,
    store,
    writes,
)


@pytest.fixture
def make_writer(client: Container, journals: Path) -> Iterator[MakeWriter]:
    """Make writers that flush when they are told to; they are closed after the test."""
    with writers_of(client, journals) as make:
        yield make


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


PROCESS_ENDED = "The process that took this run ended before the run did."
WRITER_GONE = "The writer that took this run was gone before the run ended."


@pytest.mark.parametrize(
    ("stored", "pid", "reason"),
    [
        (0, NO_PROCESS, PROCESS_ENDED),
        (7, NO_PROCESS, PROCESS_ENDED),
        (7, os.getppid(), WRITER_GONE),
    ],
)
def test_a_run_without_a_stop_gets_one_that_says_so(
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    stored: int,
    pid: int,
    reason: str,
) -> None:
    run = rich_run(stopped=False)
    if stored:
        store(client, run.docs[:stored])
    leave_journal(journals, client, run.docs, pid=pid)
    (recovery,) = make_writer().recover()
    assert recovery == Recovery(run.uid, True, "stored, and stopped, which it never was")
    assert_rich_run_stored(client, run.uid)
    metadata = client[run.uid].metadata
    stop = metadata["stop"]
    assert stop["exit_status"] == "fail"
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
    with refused_for_good(client):
        emit([*opened.docs[:5], *run.docs], writer)
        assert writer.flush()
        (recovery,) = writer.recover()
        assert (recovery.uid, recovery.stored) == (run.uid, False)
        assert "405" in recovery.text
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
    store(client, run.docs[:stored], send=emit_one_by_one)
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
