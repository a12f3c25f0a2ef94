"""Logins that may write, but neither delete nodes nor register files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import multi_user
import numpy as np
import pytest
from detector_files import notes_of
from documents import RunBuilder, data_key, emit, emit_one_by_one, run_of_rows, scalar_run
from multi_user import WRITING
from servers import wait_until
from tiled.client.container import Container
from tree import read_arrow, stream_of

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.journal import Grade
from bluesky_tiled_writer.sink import Preflight

from .proxy import Proxy
from .runs import FaultRun
from .tiled_process import TiledProcess

PATIENCE = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TiledProcess]:
    directory = tmp_path_factory.mktemp("server")
    with TiledProcess(
        directory,
        tmp_path_factory.getbasetemp(),
        "sqlite",
        authentication=multi_user.AUTHENTICATION,
    ) as server:
        yield server


@pytest.fixture
def client(server: TiledProcess) -> Iterator[Container]:
    """A client with a key that may do what a writer does, but for deletions."""
    with multi_user.client_of(server.url, "bob", WRITING) as client:
        yield client


@pytest.fixture
def writer(client: Container, journals: Path) -> Iterator[TiledWriter]:
    with TiledWriter(client, journal_directory=journals, batch_size=1) as writer:
        yield writer


def store(writer: TiledWriter, run: RunBuilder) -> None:
    emit_one_by_one(run.docs, writer)
    assert writer.wait_for(run.uid, PATIENCE)
    assert not writer.status.waiting_for


def all_notes(client: Container, run: RunBuilder) -> str:
    return "\n".join(notes_of(client, run.uid))


def test_a_number_that_would_widen_its_column_is_in_a_note(
    client: Container, writer: TiledWriter
) -> None:
    run = run_of_rows({"n": "integer"}, [{"n": n} for n in (1, 2, 3.5, 4)])
    store(writer, run)
    assert read_arrow(stream_of(client, run.uid)["internal"])["n"].to_pylist() == [1, 2, None, 4]
    assert client[run.uid]["primary"].read()["n"].values.tolist()[::3] == [1, 4]
    assert "seq_num 3: 3.5" in all_notes(client, run)
    assert "delete:node" in all_notes(client, run)
    other = scalar_run()
    store(writer, other)
    assert "notes" not in client[other.uid].metadata


def test_more_numbers_than_notes_hold_are_in_a_table_beside_the_other(
    client: Container, writer: TiledWriter
) -> None:
    values = [1, *(n + 0.5 for n in range(150))]
    run = run_of_rows({"n": "integer", "x": "number"}, [{"n": n, "x": n} for n in values])
    emit(run.docs[:3], writer)
    assert writer.flush(PATIENCE)
    emit(run.docs[3:], writer)
    assert writer.wait_for(run.uid, PATIENCE)
    stream = stream_of(client, run.uid)
    verbatim = read_arrow(stream["internal_1"])["ts_n_verbatim"].to_pylist()
    assert [text and json.loads(text) for text in verbatim] == [None, *values[1:]]
    dataset = client[run.uid]["primary"].read()
    assert dataset["x"].values.tolist() == values
    assert "'ts_n_verbatim'" in all_notes(client, run)


ARRAYS: dict[str, tuple[dict[str, Any], list[Any], Any]] = {
    "a wider type": (data_key("array", [2], dtype_numpy="<i4"), [[1, 2], [0.5, 3]], [0, 0]),
    "longer text": (data_key("array", [1], dtype_numpy="<U2"), [["ab"], ["abc"]], [""]),
    "another length": (data_key("array", [2], dtype_numpy="<i4"), [[1, 2], [3, 4, 5]], [0, 0]),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_an_array_that_does_not_fit_its_node_is_in_a_note(
    client: Container, writer: TiledWriter, case: str
) -> None:
    key, values, fill = ARRAYS[case]
    run = run_of_rows({"a": key}, [{"a": value} for value in (*values, values[0])])
    store(writer, run)
    assert stream_of(client, run.uid)["a"].read().tolist() == [values[0], fill, values[0]]
    note = all_notes(client, run)
    assert "seq_num 2" in note
    assert str(values[1]) in note or json.dumps(values[1]) in note
    assert "no value" not in note


def test_arrays_in_place_of_numbers_are_in_a_note(client: Container, writer: TiledWriter) -> None:
    run = run_of_rows({"n": "number"}, [{"n": n} for n in (1.5, [1.5, 2.5], 3.5)])
    store(writer, run)
    column = read_arrow(stream_of(client, run.uid)["internal"])["n"].to_pylist()
    assert column == [1.5, None, 3.5]
    assert "[1.5, 2.5]" in all_notes(client, run)


def test_a_key_of_a_later_descriptor_has_a_table_of_its_own(
    client: Container, writer: TiledWriter
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 1})
    run.descriptor("primary", {"x": "number", "y": "number"})
    run.event("primary", {"x": 2, "y": 0.5})
    run.stop()
    store(writer, run)
    assert set(stream_of(client, run.uid)) == {"internal", "internal_1"}
    frame = client[run.uid]["primary"].read()
    assert frame["x"].values.tolist() == [1, 2]
    assert frame["y"].values.tolist()[1:] == [0.5]


def test_a_run_of_all_kinds_is_stored_to_its_end(
    client: Container, writer: TiledWriter, frames: str
) -> None:
    """On SQLite, which has no ragged nodes: they become a column when the table is there."""
    run = FaultRun(frames)
    store(writer, run)
    stored = client[run.uid]
    primary = [doc for name, doc in run.docs if name == "event" and "n" in doc["data"]]
    dataset = stored["primary"].read()
    assert dataset["n"].values.tolist() == list(range(len(dataset["n"])))
    assert len(dataset["n"]) > len(primary)  # there is a page, too
    texts = dataset["spectrum"].values.tolist()
    assert json.loads(texts[2]) == [2.0, 2.25, 2.5]
    assert stored["camera"]["frame"].shape[0] == len(stored["camera"].read()["gain"])
    assert stored.metadata["stop"] == run.docs[-1][1]


@pytest.mark.parametrize("kind", ["time", "both"])
def test_rows_whose_order_no_column_tells_are_stored(
    client: Container, writer: TiledWriter, kind: str
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer"})
    for n, (seq_num, time) in enumerate([(1, 1.0), (2, 2.0), (2, 1.5 if kind == "both" else 3.0)]):
        _, event = run.event("primary", {"n": n}, seq_num=seq_num)
        event["time"] = time
    run.stop()
    store(writer, run)
    rows = read_arrow(stream_of(client, run.uid)["internal"])["n"].to_pylist()
    assert sorted(rows) == [0, 1, 2]
    if kind == "time":
        assert rows == [0, 1, 2]
    else:
        assert "no column of an event tells the order" in all_notes(client, run)


def test_the_preflight_tells_what_a_login_without_deletions_means(client: Container) -> None:
    found = {finding.subject: finding for finding in Preflight(client).check()}
    assert found["delete"].grade is Grade.WARNING
    assert "delete:revision" in found["delete"].hint
    assert found["table"].grade is Grade.OK


def test_a_run_whose_files_may_not_be_registered_waits_for_that_alone(
    server: TiledProcess, journals: Path, frames: str
) -> None:
    weak = [scope for scope in WRITING if scope != "register"]
    run, other = FaultRun(frames), scalar_run()
    with (
        multi_user.client_of(server.url, "bob", weak) as client,
        multi_user.client_of(server.url, "bob", WRITING) as stronger,
        TiledWriter(client, journal_directory=journals, timeout=1.0) as writer,
    ):
        emit(run.docs, writer)
        emit(other.docs, writer)
        assert writer.wait_for(other.uid, PATIENCE)
        wait_until(lambda: writer.status.waiting_for, "the run does not wait")
        assert writer.status.state != "login"
        assert "'register'" in writer.status.waiting_for[run.uid]
        rows = sum(name == "event" and "gain" in doc["data"] for name, doc in run.docs)
        assert len(read_arrow(stream_of(stronger, run.uid, "camera")["internal"])) == rows
        assert "stop" not in stronger[run.uid].metadata
        client.context.api_key = stronger.context.api_key  # which the writer looks at
        assert writer.wait_for(run.uid, PATIENCE)
        assert stronger[run.uid]["camera"]["frame"].shape[0] == rows
        assert stronger[run.uid].metadata["stop"] == run.docs[-1][1]


def test_an_array_whose_first_rows_are_too_many_for_a_request_is_written_in_pieces(
    server: TiledProcess, journals: Path
) -> None:
    key = data_key("array", [1000], dtype_numpy="<f8")
    rows = [{"a": np.full(1000, n + 0.5)} for n in range(40)]
    run = run_of_rows({"a": key}, rows)
    with (
        Proxy(server.url, max_body=50_000) as proxy,
        multi_user.client_of(proxy.url, "bob", WRITING) as client,
        TiledWriter(client, journal_directory=journals, flush_interval=60.0) as writer,
    ):
        emit(run.docs, writer)
        assert writer.wait_for(run.uid, PATIENCE)
        stored = stream_of(client, run.uid)["a"].read()
    assert np.array_equal(stored, [row["a"] for row in rows])
