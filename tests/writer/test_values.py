"""Each value is stored as the table in the documentation says.

Each case is stored row by row and as a page, and on each database if it depends on that; it is read
back through Tiled and compared in values and types.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from conftest import ContextOn
from documents import (
    TOGETHER_OR_IN_BATCHES,
    TOGETHER_OR_NOT,
    RunBuilder,
    Send,
    data_key,
    emit,
    emit_one_by_one,
)
from tiled.client import from_context
from tiled.client.container import Container
from tree import snapshot, stream_of
from value_cases import (
    ARRAY,
    CASES,
    COLUMN,
    INF,
    NAN,
    RAGGED,
    Case,
    all_cases,
    key_of,
)

from bluesky_tiled_writer import TiledWriter


def write(client: Container, run: RunBuilder, send: Send = emit, **options: Any) -> dict[str, Any]:
    """Write a run, and return what Tiled holds of it."""
    send(run.docs, TiledWriter(client, **options))
    return snapshot(client[run.uid])


@pytest.fixture(scope="module")
def run_of_all_cases(database: str, context_on: ContextOn) -> dict[str, Any]:
    """A run of all cases, whose nodes grow and are widened row by row."""
    return write(from_context(context_on(database)), all_cases(1), emit_one_by_one)


@pytest.fixture(scope="module")
def run_in_pages(database: str, context_on: ContextOn) -> dict[str, Any]:
    """A run of all cases, stored at once."""
    return write(from_context(context_on(database)), all_cases("page"))


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@each(CASES)
def test_value_is_stored_as_documented(
    case: Case, database: str, run_of_all_cases: dict[str, Any]
) -> None:
    assert_as_documented(case, run_of_all_cases, database)


@each(CASES)
def test_value_in_a_page_is_stored_as_documented(
    case: Case, database: str, run_in_pages: dict[str, Any]
) -> None:
    assert_as_documented(case, run_in_pages, database)


def assert_as_documented(case: Case, run: dict[str, Any], database: str) -> None:
    stream, key = f"rows_{len(case.values)}", key_of(case)
    nodes = run["children"][stream]["children"]
    columns = nodes["internal"]["columns"]
    where, type_, stored, notes = case.where, case.type, case.stored, case.notes
    if case.without and database in case.without[0]:
        _, where, type_, stored = case.without
    if database == "postgresql" and case.name == "embedded NUL":
        notes = ["'a\\x00b' does not fit", "'c\\x00' does not fit"]
    elif where == COLUMN:  # an empty cell needs no note
        notes = [words for words in notes if "no value" not in words]
    assert columns[f"ts_{key}"][0] == "double"
    if where == COLUMN:
        assert columns[key] == (type_, stored)
        assert key not in nodes
    else:
        assert nodes[key]["family"] == where
        assert (nodes[key]["dtype"], nodes[key]["values"]) == (type_, stored)
        assert key not in columns
    begin = f"Stream {stream!r}, key {key!r}, seq_num "
    found = [note for note in run["metadata"]["notes"] if note.startswith(begin)]
    assert len(found) == len(notes)
    for words, note in zip(notes, found, strict=True):
        assert words in note


REFUSED_NAMES = [
    *("a(b)", "a=b", "a%b", "a;b", "a--b", 'a"b', "a'b", "a\\b", "a+b"),
    *("1a", "_a", "é"),  # SQL wants a letter first
    *("k" * 61, "é" * 31),  # over 60 bytes
]


def test_name_that_sql_refuses_has_a_node_of_its_own(storage_client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", dict.fromkeys(REFUSED_NAMES, "number") | {"plain": "number"})
    for i in range(3):
        values = {key: i + n / 100 for n, key in enumerate(REFUSED_NAMES)}
        run.event("primary", values | {"plain": i})
    run.stop()
    nodes = write(storage_client, run)["children"]["primary"]["children"]
    for n, key in enumerate(REFUSED_NAMES):
        assert nodes[key]["values"] == [n / 100, 1 + n / 100, 2 + n / 100]
        stamps = f"ts_{key}"
        assert stamps in nodes or stamps in nodes["internal"]["columns"]
    assert nodes["internal"]["columns"]["plain"] == ("double", [0.0, 1.0, 2.0])


def test_names_that_differ_in_case_are_told_apart(storage_client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"A": "number", "a": "integer", "Time": "number"})
    run.event("primary", {"A": 1.5, "a": 2, "Time": 3.5})
    run.stop()
    nodes = write(storage_client, run)["children"]["primary"]["children"]
    assert nodes["internal"]["columns"]["A"] == ("double", [1.5])
    assert (nodes["a"]["dtype"], nodes["a"]["values"]) == ("int64", [2])
    assert (nodes["Time"]["dtype"], nodes["Time"]["values"]) == ("float64", [3.5])
    assert nodes["ts_a"]["values"] == nodes["internal"]["columns"]["ts_A"][1]


def test_name_that_no_file_or_url_can_have_is_noted(client: Container) -> None:
    run = RunBuilder()
    run.start()
    array = data_key("array", [1], dtype_numpy="<f8")
    run.descriptor("primary", {"q?#": array, "y" * 300: array})
    run.event("primary", {"q?#": [1.0], "y" * 300: [2.0]})
    run.stop()
    tree = write(client, run)
    nodes = tree["children"]["primary"]["children"]
    assert nodes["q__"]["values"] == [[1.0]]
    (renamed,) = [name for name in nodes if name.startswith("yyy")]
    assert nodes[renamed]["values"] == [[2.0]]
    notes = tree["metadata"]["notes"]
    assert any("'q?#'" in note and "'q__'" in note for note in notes)
    assert any(renamed in note for note in notes)


def test_reserved_names_are_renamed_and_noted(client: Container) -> None:
    run = RunBuilder()
    run.start()
    keys = ["time", "seq_num", "internal", "x", "ts_x"]
    run.descriptor("primary", dict.fromkeys(keys, "number"))
    run.event("primary", {key: float(i) for i, key in enumerate(keys)})
    run.stop()
    tree = write(client, run)
    columns = tree["children"]["primary"]["children"]["internal"]["columns"]
    for i, column in enumerate(["time_", "seq_num_", "internal_", "x", "ts_x_"]):
        assert columns[column] == ("double", [float(i)])
    assert columns["seq_num"] == ("int64", [1])
    assert columns["ts_x"][0] == "double"
    notes = tree["metadata"]["notes"]
    for old in ("time", "seq_num", "internal", "ts_x"):
        assert any(repr(old) in note and repr(old + "_") in note for note in notes)


def test_1500_keys_are_parts_with_each_column_in_one(client: Container) -> None:
    keys = [f"k{i}" for i in range(1500)]
    run = RunBuilder()
    run.start()
    run.descriptor("primary", dict.fromkeys(keys, "number"))
    for row in range(2):
        run.event("primary", {key: i + row / 2 for i, key in enumerate(keys)})
    run.stop()
    nodes = write(client, run, emit_one_by_one)["children"]["primary"]["children"]
    assert set(nodes) == {"internal_0", "internal_1", "internal_2"}
    columns: dict[str, Any] = {}
    for node in nodes.values():
        assert not columns.keys() & node["columns"].keys()
        assert len(node["columns"]) <= 1024
        columns |= node["columns"]
    for part in ("0", "2"):  # without `seq_num` and `time`
        assert columns.pop(f"ts_row_number_{part}") == ("int64", [0, 1])
    assert len(columns) == 2 + 2 * 1500
    assert columns["k7"] == ("double", [7.0, 7.5])
    frame = client[run.uid]["primary"]["internal/events"].read()
    assert frame.shape == (2, 3004)  # with the numbers of rows
    assert list(frame["k1499"]) == [1499.0, 1499.5]


def test_streams_and_keys_are_never_mixed_up(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("a_b", {"c": "number", "x": "integer"})
    run.descriptor("a", {"b_c": "string", "x": "string"})
    run.descriptor("with space", {"x": data_key("array", [1], dtype_numpy="<f8")})
    run.event("a_b", {"c": 1.5, "x": 1})
    run.event("a", {"b_c": "text", "x": "one"})
    run.event("with space", {"x": [2.5]})
    run.stop()
    streams = write(client, run)["children"]
    assert streams["a_b"]["children"]["internal"]["columns"]["c"] == ("double", [1.5])
    assert streams["a_b"]["children"]["internal"]["columns"]["x"] == ("int64", [1])
    assert streams["a"]["children"]["internal"]["columns"]["b_c"] == ("string", ["text"])
    assert streams["a"]["children"]["internal"]["columns"]["x"] == ("string", ["one"])
    assert streams["with space"]["children"]["x"]["values"] == [[2.5]]


@TOGETHER_OR_NOT
def test_key_absent_from_some_rows(client: Container, send: Send) -> None:
    array = data_key("array", [2], dtype_numpy="<f8")
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary", {"first": "number", "later": "integer", "never": "string", "a": array}
    )
    run.event("primary", {"later": 1, "a": [1, 2]})
    run.event("primary", {"first": 2.5})
    run.event("primary", {"first": 3.5, "later": 3, "a": [3, 4]})
    run.stop()
    tree = write(client, run, send)
    nodes = tree["children"]["primary"]["children"]
    columns = nodes["internal"]["columns"]
    assert columns["first"] == ("double", [None, 2.5, 3.5])
    assert columns["later"] == ("int64", [1, None, 3])
    assert columns["never"] == ("string", [None, None, None])
    assert nodes["a"]["values"] == [[1.0, 2.0], [None, None], [3.0, 4.0]]
    assert [note for note in tree["metadata"]["notes"] if "'a', seq_num 2" in note]


@TOGETHER_OR_IN_BATCHES
def test_more_than_100_values_of_a_key_that_do_not_fit_are_kept_beside_it(
    storage_client: Container, send: Send
) -> None:
    texts = [f"{i} µm" for i in range(130)]
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "y": "number"})
    for i, text in enumerate(texts):
        run.event("primary", {"x": text, "y": i / 2})
    run.event("primary", {"x": 1.5, "y": 2.5})
    run.stop()

    notes = write(storage_client, run, send, batch_size=7)["metadata"]["notes"]

    assert len(notes) == 102
    assert "all values that are not stored as they came are in 'ts_x_verbatim'" in notes[0]
    assert notes[100].startswith("Stream 'primary', key 'x', seq_num 100: '99 µm'")
    assert "30 more values" in notes[101]
    frame = stream_of(storage_client, run.uid)["internal"].read()
    assert [json.loads(text) for text in frame["ts_x_verbatim"][:130]] == texts
    assert frame["ts_x_verbatim"].isna().tolist() == [False] * 130 + [True]
    assert frame["x"].isna().tolist() == [True] * 130 + [False]
    dataset = storage_client[run.uid]["primary"].read()
    assert dataset["y"].values.tolist() == [*(i / 2 for i in range(130)), 2.5]
    assert stream_of(storage_client, run.uid)["internal"]["ts_x_verbatim"].read()[0] is not None


@TOGETHER_OR_IN_BATCHES
def test_numbers_that_a_later_one_makes_inexact_are_kept_beside_their_key(
    storage_client: Container, send: Send
) -> None:
    numbers = [2**60 + i for i in range(1, 121)]
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer", "pair": data_key("array", [2], dtype_numpy="<i8")})
    for i, number in enumerate(numbers):
        run.event("primary", {"n": number, "pair": [number, i]})
    run.event("primary", {"n": 0.5, "pair": [0.5, 1.0]})
    run.stop()

    write(storage_client, run, send, batch_size=50)

    frame = stream_of(storage_client, run.uid)["internal"].read()
    assert [json.loads(text) for text in frame["ts_n_verbatim"][:-1]] == numbers
    assert [json.loads(text)[0] for text in frame["ts_pair_verbatim"][:-1]] == numbers
    assert frame[["ts_n_verbatim", "ts_pair_verbatim"]].iloc[-1].isna().all()
    assert frame["n"].tolist() == [*map(float, numbers), 0.5]


@pytest.mark.parametrize(("size", "where"), [(0, ARRAY), (1, ARRAY), (2, COLUMN), (-1, COLUMN)])
def test_small_arrays_are_list_columns_if_asked_for(
    client: Container, size: int, where: str
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": data_key("array", [2], dtype_numpy="<i8")})
    for value in ([1, 2], None, [3], [0.5, 1]):
        run.event("primary", {"x": value})
    run.stop()
    nodes = write(client, run, emit_one_by_one, max_array_size=size)["children"]["primary"][
        "children"
    ]
    if where == ARRAY:
        assert nodes["x"]["family"] == RAGGED
        return
    type_, values = nodes["internal"]["columns"]["x"]
    assert type_.startswith("list<")
    assert "double" in type_
    assert values == [[1.0, 2.0], None, [3.0], [0.5, 1.0]]


def test_metadata_is_exact_or_noted(client: Container) -> None:
    run = RunBuilder()
    run.start(
        exact={
            "int": np.int64(2**60 + 1),
            "large": 2**64 - 1,
            "float": np.float32(0.5),
            "array": np.arange(3),
            "nested": ((1, 2), (3, [4, (5,)])),
            "none": None,
            "empty": {},
        },
        lossy={"nan": NAN, "inf": [INF, -INF], "bytes": b"ab", "raw": b"\xff", "huge": 2**70},
    )
    run.stop()
    tree = write(client, run)["metadata"]
    assert tree["start"]["exact"] == {
        "int": 2**60 + 1,
        "large": 2**64 - 1,
        "float": 0.5,
        "array": [0, 1, 2],
        "nested": [[1, 2], [3, [4, [5]]]],
        "none": None,
        "empty": {},
    }
    assert tree["start"]["lossy"] == {
        "nan": "NaN",
        "inf": ["Infinity", "-Infinity"],
        "bytes": "ab",
        "raw": "/w==",
        "huge": str(2**70),
    }
    for path in ("nan", "inf[0]", "inf[1]", "bytes", "raw", "huge"):
        assert any(note.startswith(f"start.lossy.{path}:") for note in tree["notes"])
    assert len(tree["notes"]) == 6


def test_metadata_with_nul_is_stored(storage_client: Container) -> None:
    run = RunBuilder()
    run.start(title="a\0b")
    run.stop()
    tree = write(storage_client, run)["metadata"]
    assert tree["start"]["title"] == "a␀b"
    assert "start.title" in tree["notes"][0]


def test_large_arrays_are_stored_in_chunks_of_bounded_size(
    client: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluesky_tiled_writer.sink.arrays.CHUNK_BYTES", 1000)
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": data_key("array", [10], dtype_numpy="<f8")})
    for i in range(97):
        run.event("primary", {"x": [i] * 10})
    run.stop()
    write(client, run, batch_size=50)
    node = stream_of(client, run.uid)["x"]
    assert node.shape == (97, 10)
    assert max(node.chunks[0]) == 12
    np.testing.assert_array_equal(node.read()[:, 3], np.arange(97))


class Broken:
    """An object that refuses every use."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no array")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_object_that_does_not_behave_costs_its_own_key_only(client: Container) -> None:
    run = RunBuilder()
    run.start()
    array = data_key("array", [2], dtype_numpy="<f8")
    run.descriptor("primary", {"x": array, "y": "number", "z": "number"})
    run.event("primary", {"x": Broken(), "y": Broken(), "z": 1.5})
    run.event("primary", {"x": [1, 2], "y": 2.5, "z": 3.5})
    run.stop()
    tree = write(client, run)
    nodes = tree["children"]["primary"]["children"]
    assert nodes["internal"]["columns"]["z"] == ("double", [1.5, 3.5])
    assert nodes["internal"]["columns"]["y"][1][0] is None
    assert nodes["x"]["values"][0] == [None, None]
    for key in ("x", "y"):
        assert any(f"key {key!r}, seq_num 1: " in note for note in tree["metadata"]["notes"])
