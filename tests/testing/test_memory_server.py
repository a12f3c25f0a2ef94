"""The server in memory keeps the promises that `run.Sink` asks of a sink."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tiled.structures.array import ArrayStructure, BuiltinDtype
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import Asset, DataSource, Management

from bluesky_tiled_writer.errors import (
    DocumentsIncomplete,
    OutOfStep,
    RunComplete,
    RunExists,
    ServerUnreachable,
    StorageError,
    StorageUnsupported,
)
from bluesky_tiled_writer.run import (
    AppendRows,
    CheckHeld,
    CheckNodes,
    CloseNode,
    CreateRun,
    CreateStream,
    Discard,
    ExtendArray,
    ExtendRagged,
    Known,
    Node,
    Rebuild,
    RegisterAsset,
    Step,
    UpdateAsset,
    UpdateMetadata,
    interrupted_stop,
)
from bluesky_tiled_writer.schema import RaggedRows
from bluesky_tiled_writer.testing import MemoryServer, MemorySink

RUN = CreateRun("run", {"start": {"uid": "run", "time": 0}}, [("BlueskyRun", "3.0")], ["tag"])
STREAM = CreateStream("run", "primary", {"data_keys": {}}, [("BlueskyEventStream", "3.0")])
STOP = UpdateMetadata("run", None, {"stop": {"uid": "stop", "exit_status": "success"}})
TABLE, IMAGE, LISTS = (Node("run", "primary", name, {"k": 1}) for name in ("internal", "img", "r"))


def rows(start: int, *values: Any, dtype: str = "i8") -> AppendRows:
    arrow = pa.list_(pa.int64()) if dtype == "list" else pa.from_numpy_dtype(np.dtype(dtype))
    return AppendRows(TABLE, start, pa.table({"x": pa.array(values, arrow)}))


def frames(start: int, *values: float) -> ExtendArray:
    return ExtendArray(IMAGE, start, np.array([[v, v] for v in values], "f8"))


def lists(start: int, *values: list[int]) -> ExtendRagged:
    return ExtendRagged(
        LISTS, start, RaggedRows([np.array(v, "i4") for v in values], np.dtype("i4"), (None,))
    )


def source(count: int, rows: int) -> DataSource:
    assets = [Asset(f"file:///{i}.tif", False, "data_uris", num=i) for i in range(count)]
    structure = ArrayStructure(
        BuiltinDtype.from_numpy_dtype(np.dtype("u2")), ((rows,), (4,)), (rows, 4)
    )
    return DataSource(
        StructureFamily.array, structure, None, "image/tiff", {}, {}, assets, Management.external
    )


@pytest.fixture
def server() -> MemoryServer:
    server = MemoryServer()
    execute(server.new_sink(), RUN, STREAM)
    return server


def execute(sink: MemorySink, *steps: Step) -> MemorySink:
    for step in steps:
        sink.execute(step)
    return sink


def test_it_says_what_tiled_would_hold(server: MemoryServer) -> None:
    sink = server.new_sink()
    execute(sink, rows(0, 1, 2), rows(2, 3), frames(0, 1, 2), frames(2, 3))
    execute(sink, lists(0, [1], []), lists(2, [2, 3]), STOP, CloseNode(("run",)))
    assert server.rows("run") == [{"x": 1}, {"x": 2}, {"x": 3}]
    assert server.streams("run") == ["primary"]
    assert server.metadata("run")["stop"]["uid"] == "stop"
    assert server.metadata("run", "primary") == {"data_keys": {}}
    assert server.containers["run",].specs == [("BlueskyRun", "3.0")]
    assert server.containers["run",].access_tags == ["tag"]
    image, ragged = server.node("run", "primary", "img"), server.node("run", "primary", "r")
    assert image is not None
    assert ragged is not None
    assert image.metadata == {"k": 1}
    assert image.read().tolist() == [[1, 1], [2, 2], [3, 3]]  # type: ignore[union-attr]
    assert [row.tolist() for row in ragged] == [[1], [], [2, 3]]
    assert server.node("run", "primary", "absent") is None
    assert server.closed == [("run",)]


def test_parts_of_a_wide_table_are_rows_together(server: MemoryServer) -> None:
    for name, column in (("internal_0", "x"), ("internal_1", "y")):
        table = pa.table({column: [1, 2]})
        server.new_sink().execute(AppendRows(Node("run", "primary", name), 0, table))
    assert server.rows("run", "primary") == [{"x": 1, "y": 1}, {"x": 2, "y": 2}]
    assert server.rows("run", "other") == []


# -- rows are stored once -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize(
    "step", [rows(0, 1, None), frames(0, 1, float("nan")), lists(0, [1], [2])], ids=["t", "a", "r"]
)
@pytest.mark.parametrize("same_sink", [True, False])
def test_a_step_that_failed_counts_once(
    server: MemoryServer, step: Any, fault: str, same_sink: bool
) -> None:
    sink = server.new_sink()
    server.faults.append(fault)
    with pytest.raises(ServerUnreachable):
        sink.execute(step)
    assert len(server.nodes) == (fault == "after")
    execute(sink if same_sink else server.new_sink(), step, step)
    (node,) = server.nodes.values()
    assert len(node) == 2


def test_faults_come_from_the_end_of_the_list(server: MemoryServer) -> None:
    server.faults[:] = ["after", ""]
    sink = execute(server.new_sink(), rows(0, 1))
    with pytest.raises(ServerUnreachable):
        sink.execute(rows(1, 2))
    assert server.faults == []
    assert len(server.rows("run")) == 2


def test_rows_that_overlap_are_appended_from_where_they_are_new(server: MemoryServer) -> None:
    execute(server.new_sink(), rows(0, 1, 2), rows(1, 2, 3), rows(0, 1))
    assert server.rows("run") == [{"x": 1}, {"x": 2}, {"x": 3}]


def test_rows_that_are_missing_are_told(server: MemoryServer) -> None:
    with pytest.raises(OutOfStep, match="Rows 0 to 1"):
        server.new_sink().execute(rows(2, 1))


def test_other_rows_are_deleted_to_be_stored_again(server: MemoryServer) -> None:
    sink = execute(server.new_sink(), rows(0, 1, 2))
    with pytest.raises(OutOfStep, match="other rows"):
        sink.execute(rows(0, 1, 3))
    assert server.nodes == {}


def test_a_new_sink_replaces_a_node_of_another_form(server: MemoryServer) -> None:
    """As after a crash: the node was widened by then, and is wanted as the first rows need it."""
    execute(server.new_sink(), rows(0, 1.5, dtype="f8"))
    execute(server.new_sink(), rows(0, 1))
    assert server.rows("run") == [{"x": 1}]


def test_rows_of_another_form_from_the_same_sink_are_a_defect(server: MemoryServer) -> None:
    sink = execute(server.new_sink(), rows(0, 1))
    with pytest.raises(TypeError, match="internal"):
        sink.execute(rows(1, 1.5, dtype="f8"))


def test_what_is_stored_does_not_change_with_the_callers_arrays(server: MemoryServer) -> None:
    step = frames(0, 1)
    server.new_sink().execute(step)
    step.block[:] = 7
    assert server.nodes[IMAGE.path].read().tolist() == [[1, 1]]  # type: ignore[union-attr]


# -- runs -----------------------------------------------------------------------------------------


def test_a_run_is_adopted_unless_it_is_another_or_complete(server: MemoryServer) -> None:
    server.new_sink().execute(RUN)
    with pytest.raises(RunExists):
        server.new_sink().execute(CreateRun("run", {"start": {"uid": "run", "time": 1}}, []))
    server.new_sink().execute(STOP)
    with pytest.raises(RunComplete):
        server.new_sink().execute(RUN)


def test_a_stop_that_was_made_up_may_be_replaced(server: MemoryServer) -> None:
    made = {"stop": interrupted_stop("run", "Why.", {}), "notes": ["made up"]}
    server.new_sink().execute(UpdateMetadata("run", None, made))
    execute(server.new_sink(), RUN, STOP)
    assert server.metadata("run")["stop"]["uid"] == "stop"
    assert "notes" not in server.metadata("run")


def test_metadata_are_json(server: MemoryServer) -> None:
    for value in (float("nan"), object(), b"x"):
        with pytest.raises((TypeError, ValueError)):
            server.new_sink().execute(UpdateMetadata("run", None, {"x": value}))
    server.new_sink().execute(UpdateMetadata("run", "primary", {"x": [1]}))
    assert server.metadata("run", "primary") == {"data_keys": {}, "x": [1]}


@pytest.mark.parametrize(
    "step", [UpdateMetadata("no", None, {}), UpdateAsset(IMAGE, source(1, 1)), frames(0, 1)]
)
def test_a_step_on_what_was_never_made_is_told(step: Step) -> None:
    with pytest.raises(OutOfStep):
        MemoryServer().new_sink().execute(step)


def test_more_rows_than_the_documents_give_are_not_touched(server: MemoryServer) -> None:
    execute(server.new_sink(), rows(0, 1, 2))
    sink = execute(server.new_sink(), RUN)
    with pytest.raises(DocumentsIncomplete):
        sink.execute(CheckHeld("run"))
    with pytest.raises(DocumentsIncomplete):
        sink.execute(CheckHeld("run", lambda: Known({"primary": 1})))
    sink.execute(CheckHeld("run", lambda: Known({"primary": 2})))
    assert len(server.rows("run")) == 2


def test_a_run_of_this_sink_is_not_asked_for_its_documents() -> None:
    sink = MemoryServer().new_sink()
    execute(sink, RUN, CheckHeld("run", lambda: pytest.fail("asked")))


def test_nodes_are_checked_against_what_was_sent(server: MemoryServer) -> None:
    sink = execute(server.new_sink(), rows(0, 1, 2), CheckNodes("run", again=False))
    server.nodes[TABLE.path].rows.append({"x": 3})
    with pytest.raises(StorageError, match="3 rows where 2"):
        sink.execute(CheckNodes("run", again=False))
    with pytest.raises(OutOfStep):
        sink.execute(CheckNodes("run", again=True))
    assert server.rows("run") == []


# -- nodes that change ----------------------------------------------------------------------------


def rebuild(contents: list[Any]) -> Rebuild:
    def remake(content: Any) -> list[AppendRows]:
        contents.append(content)
        values = content["internal"]["x"].to_pylist()
        return [rows(0, *map(float, values), dtype="f8")]

    return Rebuild([TABLE], 2, remake)


@pytest.mark.parametrize("faults", [[], ["after"], ["before"], ["after", "before"]])
def test_a_rebuild_goes_on_where_it_failed(server: MemoryServer, faults: list[str]) -> None:
    sink = execute(server.new_sink(), rows(0, 1, 2))
    contents: list[Any] = []
    server.faults[:] = faults
    while True:
        try:
            sink.execute(rebuild(contents))
        except ServerUnreachable:
            continue
        break
    assert all(c["internal"]["x"].to_pylist() == [1, 2] for c in contents)
    assert server.rows("run") == [{"x": 1.0}, {"x": 2.0}]
    sink.execute(rows(2, 3.5, dtype="f8"))
    assert len(server.rows("run")) == 3


def test_a_discarded_node_is_gone(server: MemoryServer) -> None:
    sink = execute(server.new_sink(), rows(0, 1), Discard([TABLE, IMAGE]))
    assert server.nodes == {}
    execute(sink, rows(0, 1.5, dtype="f8"), CheckNodes("run", again=False))


@pytest.mark.parametrize(
    ("limit", "step"),
    [
        ("u8", rows(0, 1, dtype="u8")),
        ("lists", rows(0, [1], dtype="list")),
        ("ragged", lists(0, [1])),
    ],
)
def test_a_database_may_not_hold_everything(limit: str, step: Step) -> None:
    sink = execute(MemoryServer(unsupported=[limit]).new_sink(), RUN, STREAM)
    with pytest.raises(StorageUnsupported):
        sink.execute(step)
    assert not sink.limits.learn(limit)


def test_files_are_registered_once_and_never_become_fewer(server: MemoryServer) -> None:
    sink = execute(server.new_sink(), RegisterAsset(IMAGE, source(1, 1)))
    execute(sink, UpdateAsset(IMAGE, source(3, 3), (2, 4), (1, 0)))
    execute(server.new_sink(), RegisterAsset(IMAGE, source(1, 1)))
    execute(sink, UpdateAsset(IMAGE, source(2, 2)))
    node = server.nodes[IMAGE.path]
    assert node.in_files
    assert node.family == "array"
    assert node.source.structure.shape == (3, 4)
    assert node.patches == [((2, 4), (1, 0))]
    with pytest.raises(TypeError):
        node.read()
