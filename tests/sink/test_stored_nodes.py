"""What the sink does with nodes that are not what it left: deleted, compared, sorted anew."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from faults.tiled_process import TiledProcess
from tiled.client.container import Container
from tree import read_arrow

from bluesky_tiled_writer.errors import (
    OutOfStep,
    RequestRefused,
    ServerUnreachable,
    StorageUnsupported,
)
from bluesky_tiled_writer.run import (
    AppendRows,
    CheckNodes,
    CreateRun,
    CreateStream,
    Discard,
    Expected,
    ExtendArray,
    ExtendRagged,
    Node,
)
from bluesky_tiled_writer.schema import RaggedRows
from bluesky_tiled_writer.sink import Connection, TiledSink


@pytest.fixture
def stream(process_client: Container) -> tuple[TiledSink, str]:
    """A sink that has created a run and its stream, and the uid of the run."""
    return new_sink(process_client, uid := str(uuid.uuid4())), uid


def new_sink(client: Container, uid: str) -> TiledSink:
    sink = TiledSink(Connection.of(client))
    sink.execute(CreateRun(uid, {"start": {"uid": uid}}, []))
    sink.execute(CreateStream(uid, "primary", {}, []))
    return sink


def rows(uid: str, start: int, *values: float, order: tuple[str, ...] = ("seq_num",)) -> AppendRows:
    numbers = range(start, start + len(values))
    columns = {"seq_num": pa.array(numbers), "time": pa.array([1.0 * n for n in numbers])}
    table = pa.table(columns | {"x": pa.array(values)})
    return AppendRows(Node(uid, "primary", "internal"), start, table, order)


def column(client: Container, uid: str, name: str = "x") -> list[float]:
    return list(read_arrow(client[uid]["primary"]["internal"])[name].to_pylist())


def order(client: Container, uid: str) -> list[str]:
    (source,) = client[uid]["primary"]["internal"].data_sources()
    return [by["column"] for by in source.parameters["order_by_args"]]


def test_rows_of_other_columns_replace_those_of_a_plan_that_was_given_up(
    process_client: Container, stream: tuple[TiledSink, str]
) -> None:
    sink, uid = stream
    sink.execute(rows(uid, 0, 1.0, 2.0))
    step = rows(uid, 0, 1.0, 2.0)
    wider = step.table.append_column("a", pa.array(["[1]", "[]"]))
    sink.execute(AppendRows(step.node, 0, wider))
    assert column(process_client, uid, "a") == ["[1]", "[]"]


def test_rows_of_other_columns_do_not_follow(stream: tuple[TiledSink, str]) -> None:
    sink, uid = stream
    sink.execute(rows(uid, 0, 1.0, 2.0))
    step = rows(uid, 2, 3.0)
    with pytest.raises(OutOfStep, match="another form"):
        sink.execute(AppendRows(step.node, 2, step.table.append_column("a", pa.array(["[]"]))))


def test_blocks_of_another_shape_replace_those_of_a_plan_that_was_given_up(
    process_client: Container, stream: tuple[TiledSink, str]
) -> None:
    sink, uid = stream
    node = Node(uid, "primary", "a")
    sink.execute(ExtendArray(node, 0, np.zeros((2, 3))))
    sink.execute(ExtendArray(node, 0, np.ones((2, 4))))
    np.testing.assert_array_equal(process_client[uid]["primary"]["a"].read(), np.ones((2, 4)))


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (Expected(Node("", "primary", "a"), 2), "was not created"),
        (Expected(Node("", "primary", "internal"), 3, ["seq_num", "time", "x"]), "got 2 rows"),
        (Expected(Node("", "primary", "internal"), 2, ["seq_num", "time", "x", "a"]), "columns"),
    ],
)
def test_a_node_that_its_stream_lacks_is_found_before_the_stop(
    stream: tuple[TiledSink, str], expected: Expected, words: str
) -> None:
    sink, uid = stream
    sink.execute(rows(uid, 0, 1.0, 2.0))
    node = Node(uid, "primary", expected.node.name)
    wanted = Expected(node, expected.rows, expected.columns)
    with pytest.raises(OutOfStep, match=words):
        sink.execute(CheckNodes(uid, True, [wanted]))


def test_nodes_are_as_their_stream_has_them(stream: tuple[TiledSink, str]) -> None:
    sink, uid = stream
    step = rows(uid, 0, 1.0, 2.0)
    sink.execute(step)
    sink.execute(CheckNodes(uid, True, [Expected(step.node, 2, step.table.column_names)]))


def test_a_node_without_a_form_is_deleted(
    process_client: Container, server_process: TiledProcess, tmp_path: Path
) -> None:
    uid = str(uuid.uuid4())
    new_sink(process_client, uid).execute(rows(uid, 0, 9.0))
    with closing(sqlite3.connect(server_process.catalog_file)) as catalog:
        catalog.execute("PRAGMA foreign_keys = ON")
        catalog.execute(
            "DELETE FROM data_sources WHERE node_id ="
            " (SELECT id FROM nodes WHERE key = 'internal' ORDER BY id DESC LIMIT 1)"
        )
        catalog.commit()
    sink = new_sink(process_client, uid)
    sink.execute(rows(uid, 0, 1.0, 2.0))
    assert column(process_client, uid) == [1.0, 2.0]


def test_the_order_is_changed_before_rows_come_that_need_it(
    process_client: Container, stream: tuple[TiledSink, str]
) -> None:
    sink, uid = stream
    sink.execute(rows(uid, 0, 1.0))
    assert order(process_client, uid) == ["seq_num"]
    sink.execute(rows(uid, 1, 2.0, order=("time", "seq_num")))
    assert order(process_client, uid) == ["time", "seq_num"]
    assert column(process_client, uid) == [1.0, 2.0]


def test_the_order_stays_when_the_first_rows_come_again(
    process_client: Container, stream: tuple[TiledSink, str]
) -> None:
    sink, uid = stream
    for step in (rows(uid, 0, 1.0), rows(uid, 1, 2.0, order=("time",))):
        sink.execute(step)
    again = new_sink(process_client, uid)
    again.execute(rows(uid, 0, 1.0))
    assert order(process_client, uid) == ["time"]
    again.execute(rows(uid, 1, 2.0, 3.0, order=("time",)))
    assert column(process_client, uid) == [1.0, 2.0, 3.0]


def test_discarded_nodes_are_gone(process_client: Container, stream: tuple[TiledSink, str]) -> None:
    sink, uid = stream
    step = rows(uid, 0, 1.0)
    sink.execute(step)
    sink.execute(Discard([step.node]))
    assert "internal" not in process_client[uid]["primary"]


# -- what a database cannot hold ------------------------------------------------------------------


def test_a_limit_that_one_node_has_met_is_the_reason_for_all_others(
    stream: tuple[TiledSink, str],
) -> None:
    """They may have been planned before the first one met it; SQLite has no ragged nodes."""
    sink, uid = stream

    def append(name: str) -> type[Exception]:
        rows = RaggedRows([np.array([1.0, 2.0])], np.dtype("<f8"), (None,))
        while True:
            try:
                sink.execute(ExtendRagged(Node(uid, "primary", name), 0, rows))
            except ServerUnreachable:  # after an error the server closes the connection
                continue
            except RequestRefused as error:
                return type(error)

    assert [append("a") for _ in range(3)] == [RequestRefused, RequestRefused, StorageUnsupported]
    assert append("b") is StorageUnsupported
    assert append("b") is RequestRefused  # a plan that knows it would not have the node
