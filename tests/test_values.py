"""What a value becomes: every row and bullet of the table in the documentation.

Each case is stored in batches of several sizes and as a page, read back through Tiled on every
database, and compared in values and types.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import pytest
from documents import RunBuilder, data_key
from servers import Storage
from tiled.client import from_context
from tiled.client.container import Container
from tiled.client.context import Context
from tree import snapshot, stream_of

from bluesky_tiled_writer import TiledWriter

NAN = float("nan")
INF = float("inf")
COLUMN, ARRAY, RAGGED = "column", "array", "ragged"


class Color(str, Enum):  # noqa: UP042  # as devices define them
    RED = "red"


@dataclass
class Case:
    """Values of a key, and what is in Tiled then: where, of which type, which values.

    `notes` are words that the notes of the run have, in this order; `without` says where the
    values go on the databases that have no place for them, as (databases, where, type, values).
    """

    name: str
    dtype: str
    values: list[Any]
    where: str
    type: str
    stored: list[Any]
    declared: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    without: tuple[str, str, str, list[Any]] | None = None


ARRAY_F8 = {"shape": [2], "dtype_numpy": "<f8"}
ARRAY_I8 = {"shape": [2], "dtype_numpy": "<i8"}
RECORD = {"dtype_numpy": [["a", "<i4"], ["b", "<f8"]]}
BIG = 2**63 + 5

CASES = [
    Case("number", "number", [1.5, 2], COLUMN, "double", [1.5, 2.0]),
    Case("integer", "integer", [1, -2], COLUMN, "int64", [1, -2]),
    Case("boolean", "boolean", [True, False], COLUMN, "bool", [True, False]),
    Case("string", "string", ["a", ""], COLUMN, "string", ["a", ""]),
    Case("int8", "integer", [1, -128], COLUMN, "int8", [1, -128], {"dtype_numpy": "|i1"}),
    Case("uint16", "integer", [0, 65535], COLUMN, "uint16", [0, 65535], {"dtype_numpy": "<u2"}),
    Case("uint32", "integer", [2**32 - 1], COLUMN, "uint32", [2**32 - 1], {"dtype_numpy": "<u4"}),
    Case("float32", "number", [1.5, None], COLUMN, "float", [1.5, None], {"dtype_numpy": "<f4"}),
    Case("big endian", "number", [1.5], COLUMN, "double", [1.5], {"dtype_numpy": ">f8"}),
    Case("fixed text", "string", ["abc", "abcdef"], COLUMN, "string", ["abc", "abcdef"],
         {"dtype_numpy": "<U3"}),
    Case("uint64 declared", "integer", [0, 2**64 - 1], COLUMN, "uint64", [0, 2**64 - 1],
         {"dtype_numpy": "<u8"},
         without=("sqlite postgresql", ARRAY, "uint64", [0, 2**64 - 1])),
    Case("half float has no column", "number", [1.5, 2.0], ARRAY, "float16", [1.5, 2.0],
         {"dtype_numpy": "<f2"}),
    Case("complex has no column", "number", [1 + 2j, 3], ARRAY, "complex128", [1 + 2j, 3 + 0j],
         {"dtype_numpy": "<c16"}),
    Case("bytes have no column", "string", [b"abc", b"de"], ARRAY, "|S3", [b"abc", b"de"],
         {"dtype_numpy": "|S3"}),
    Case("datetime has no column", "string", [np.datetime64("2020-01-01", "s")], ARRAY,
         "datetime64[s]", [np.datetime64("2020-01-01", "s").item()], {"dtype_numpy": "<M8[s]"}),
    # Wider numbers
    Case("int then float", "integer", [1, 2, 2.5, 4], COLUMN, "double", [1.0, 2.0, 2.5, 4.0]),
    Case("whole floats are integers", "integer", [1, 2.0], COLUMN, "int64", [1, 2]),
    Case("NaN among integers", "integer", [1, NAN, 3], COLUMN, "double", [1.0, None, 3.0]),
    Case("uint64 above int64", "integer", [1, BIG, 7], COLUMN, "uint64", [1, BIG, 7],
         without=("sqlite postgresql", ARRAY, "uint64", [1, BIG, 7])),
    Case("uint64 and negative", "integer", [-1, BIG], COLUMN, "double", [-1.0, float(BIG)],
         notes=[f"{BIG} has no exact form"]),
    Case("beyond 64 bit", "integer", [1, 2**70], COLUMN, "double", [1.0, float(2**70)]),
    Case("small type overflows", "integer", [1, 300], COLUMN, "int64", [1, 300],
         {"dtype_numpy": "|u1"}),
    Case("bool then integer", "boolean", [True, 3, False], COLUMN, "int64", [1, 3, 0]),
    Case("float32 too coarse", "number", [1.5, 0.1], COLUMN, "double", [1.5, 0.1],
         {"dtype_numpy": "<f4"}),
    Case("integer among numbers", "number", [1.5, 2**60 + 1], COLUMN, "double",
         [1.5, float(2**60)], notes=[f"{2**60 + 1} has no exact form"]),
    Case("int64 extremes", "integer", [2**63 - 1, -(2**63)], COLUMN, "int64",
         [2**63 - 1, -(2**63)]),
    Case("int64 extremes and None", "integer", [2**63 - 1, None, -(2**63)], ARRAY, "int64",
         [2**63 - 1, 0, -(2**63)], notes=["seq_num 2: no value"]),
    # Nothing there
    Case("None first", "number", [None, 1.0], COLUMN, "double", [None, 1.0]),
    Case("None among text", "string", [None, "b"], COLUMN, "string", [None, "b"]),
    Case("None among booleans", "boolean", [True, None, False], COLUMN, "bool",
         [True, None, False]),
    Case("None among integers", "integer", [1, None], COLUMN, "int64", [1, None]),
    Case("None only", "integer", [None, None], COLUMN, "int64", [None, None]),
    Case("NaN and inf", "number", [NAN, INF, -INF], COLUMN, "double", [None, INF, -INF]),
    # Values in disguise
    Case("numpy scalars", "number", [np.float32(0.5), np.int16(3), np.float64(2.5)], COLUMN,
         "double", [0.5, 3.0, 2.5]),
    Case("0-d arrays", "number", [np.array(1.5), np.array(2)], COLUMN, "double", [1.5, 2.0]),
    Case("numpy booleans", "boolean", [np.bool_(True), np.array(False)], COLUMN, "bool",
         [True, False]),
    Case("str enums", "string", [Color.RED, np.str_("blue")], COLUMN, "string", ["red", "blue"]),
    # Text
    Case("unicode", "string", ["é", "中文", "🔬"], COLUMN, "string", ["é", "中文", "🔬"]),
    Case("embedded NUL", "string", ["a\0b", "c\0"], COLUMN, "string", ["a\0b", "c\0"],
         without=("postgresql", COLUMN, "string", [None, None])),
    Case("lone surrogate", "string", ["a", "\udc80"], COLUMN, "string", ["a", None],
         notes=["'\\udc80' does not fit"]),
    Case("a number among text", "string", ["a", 5, 1.5], COLUMN, "string", ["a", "5", "1.5"],
         notes=["5 is not text", "1.5 is not text"]),
    Case("bytes and dicts among text", "string", [b"ab", {"a": 1}], COLUMN, "string",
         ["ab", '{"a": 1}'], notes=["b'ab' is not text", "{'a': 1} is not text"]),
    # What fits no type
    Case("text among numbers", "number", [1.5, "abc", 3], COLUMN, "double", [1.5, None, 3.0],
         notes=["seq_num 2: 'abc' does not fit"]),
    Case("dict among integers", "integer", [1, {"a": 1}], COLUMN, "int64", [1, None],
         notes=["seq_num 2: {'a': 1} does not fit"]),
    Case("array among numbers", "number", [1.5, [1, 2]], COLUMN, "double", [1.5, None],
         notes=["seq_num 2: [1, 2] does not fit"]),
    # Arrays of a fixed shape
    Case("lists and arrays", "array", [[1, 2.5], np.array([3, 4])], ARRAY, "float64",
         [[1.0, 2.5], [3.0, 4.0]], ARRAY_F8),
    Case("undeclared numbers", "array", [[1, 2], [3, 4.5]], ARRAY, "float64",
         [[1.0, 2.0], [3.0, 4.5]], {"shape": [2]}),
    Case("undeclared booleans", "array", [[True, False]], ARRAY, "bool", [[True, False]],
         {"shape": [2]}),
    Case("undeclared text", "array", [["a", "b"], ["c" * 20, "d"]], ARRAY, "<U32",
         [["a", "b"], ["c" * 20, "d"]], {"shape": [2]}),
    Case("undeclared shape", "array", [[1, 2], [3, 4]], ARRAY, "float64", [[1.0, 2.0], [3.0, 4.0]],
         {"shape": []}),
    Case("2-D", "array", [np.eye(2, dtype="i4"), [[5, 6], [7, 8]]], ARRAY, "int32",
         [[[1, 0], [0, 1]], [[5, 6], [7, 8]]], {"shape": [2, 2], "dtype_numpy": "<i4"}),
    Case("longer text than declared", "array", [["a", "b"], ["ccc", "d"]], ARRAY, "<U16",
         [["a", "b"], ["ccc", "d"]], {"shape": [2], "dtype_numpy": "<U2"}),
    Case("text as declared", "array", [["a", "b"]], ARRAY, "<U2", [["a", "b"]],
         {"shape": [2], "dtype_numpy": "<U2"}),
    Case("records", "array", [[1, 2.5], (3, 4.5)], ARRAY, "[('a', '<i4'), ('b', '<f8')]",
         [[1, 2.5], [3, 4.5]], {"shape": [], **RECORD}),
    Case("arrays of records", "array", [[[1, 2.5], [5, 6.5]]], ARRAY,
         "[('a', '<i4'), ('b', '<f8')]", [[[1, 2.5], [5, 6.5]]], {"shape": [2], **RECORD}),
    Case("wider arrays", "array", [[1, 2], [2.5, 3]], ARRAY, "float64", [[1.0, 2.0], [2.5, 3.0]],
         ARRAY_I8),
    Case("large integers in arrays", "array", [[2**60 + 1, 1]], ARRAY, "int64", [[2**60 + 1, 1]],
         ARRAY_I8),
    Case("uint64 in arrays", "array", [[1, 2], [BIG, 1]], ARRAY, "uint64", [[1, 2], [BIG, 1]],
         ARRAY_I8),
    Case("None for an array", "array", [[1, 2], None, [3, 4]], ARRAY, "int64",
         [[1, 2], [0, 0], [3, 4]], ARRAY_I8, ["seq_num 2: no value"]),
    Case("None for the first array", "array", [None, [1, 2]], ARRAY, "float64",
         [[None, None], [1.0, 2.0]], {"shape": []}, ["seq_num 1: no value"]),
    Case("a number for an array", "array", [[1, 2], 5.0], ARRAY, "float64",
         [[1.0, 2.0], [None, None]], ARRAY_F8, ["seq_num 2: 5.0 does not fit the type"]),
    Case("text for an array", "array", [[1, 2], ["a", "b"]], ARRAY, "float64",
         [[1.0, 2.0], [None, None]], ARRAY_F8, ["seq_num 2: ['a', 'b'] does not fit the type"]),
    Case("never an array", "array", [None, None], ARRAY, "float64",
         [[None, None], [None, None]], ARRAY_F8, ["seq_num 1: no value", "seq_num 2: no value"]),
    # Arrays of several lengths
    Case("declared ragged", "array", [[1, 2], [], [4.5]], RAGGED, "float64",
         [[1.0, 2.0], [], [4.5]], {"shape": [None], "dtype_numpy": "<f8"},
         without=("sqlite", COLUMN, "string", ["[1.0, 2.0]", "[]", "[4.5]"])),
    Case("length changes", "array", [[1, 2], [3], [4, 5, 6]], RAGGED, "int64",
         [[1, 2], [3], [4, 5, 6]], ARRAY_I8,
         without=("sqlite", COLUMN, "string", ["[1, 2]", "[3]", "[4, 5, 6]"])),
    Case("zero length", "array", [[1, 2], []], RAGGED, "float64", [[1.0, 2.0], []], ARRAY_F8,
         without=("sqlite", COLUMN, "string", ["[1.0, 2.0]", "[]"])),
    Case("ragged images", "array", [[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]], RAGGED, "int32",
         [[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]], {"shape": [None, 3], "dtype_numpy": "<i4"},
         without=("sqlite", COLUMN, "string", ["[[1, 2, 3]]", "[[1, 2, 3], [4, 5, 6]]"])),
    Case("ragged and wider", "array", [[1, 2], [3], [0.5]], RAGGED, "float64",
         [[1.0, 2.0], [3.0], [0.5]], ARRAY_I8,
         without=("sqlite", COLUMN, "string", ["[1, 2]", "[3]", "[0.5]"])),
    Case("ragged and beyond int64", "array", [[], [BIG], [1, 2]], RAGGED, "uint64",
         [[], [BIG], [1, 2]], {"shape": [None], "dtype_numpy": "<i8"},
         without=("sqlite postgresql", COLUMN, "string", ["[]", f"[{BIG}]", "[1, 2]"])),
    Case("text of several lengths", "array", [["a", "b"], ["c"]], COLUMN, "string",
         ['["a", "b"]', '["c"]'], {"shape": [2], "dtype_numpy": "<U2"}),
    Case("nested lists of several lengths", "array", [[1, 2], [[1, 2, 3], [4]]], COLUMN, "string",
         ["[1, 2]", "[[1, 2, 3], [4]]"], ARRAY_I8),
    Case("never an array, nor a shape", "array", [None, None], RAGGED, "float64", [[], []],
         {"shape": []}, ["seq_num 1: no value", "seq_num 2: no value"],
         without=("sqlite", COLUMN, "string", [None, None])),
]  # fmt: skip

BATCHINGS = [1, "page"]
"""The two ends; every batching between them gives the same, see test_batching.py."""


def write(client: Container, run: RunBuilder, batch_size: int, **options: Any) -> dict[str, Any]:
    writer = TiledWriter(client, batch_size=batch_size, **options)
    for name, doc in run.docs:
        writer(name, doc)
    return snapshot(client[run.uid])


def all_cases(batching: int | str) -> RunBuilder:
    """A run with the values of every case: a stream for each number of rows, a key for each case.

    RunConcurrently, because that is how they meet in real runs, and because each run costs a while.
    """
    run = RunBuilder()
    run.start()
    for count in sorted({len(case.values) for case in CASES}):
        cases = {key_of(case): case for case in CASES if len(case.values) == count}
        stream = f"rows_{count}"
        run.descriptor(
            stream,
            {
                key: data_key(case.dtype, **{"shape": [], **case.declared})
                for key, case in cases.items()
            },
        )
        rows = [{key: case.values[i] for key, case in cases.items()} for i in range(count)]
        if batching == "page":
            run.event_page(stream, rows)
        else:
            for row in rows:
                run.event(stream, row)
    run.stop()
    return run


def key_of(case: Case) -> str:
    return f"x{CASES.index(case)}"


@pytest.fixture(scope="module", params=BATCHINGS)
def everything(request: pytest.FixtureRequest, storage_context: Context) -> dict[str, Any]:
    """What Tiled holds of a run with all cases."""
    size = 10_000 if request.param == "page" else request.param
    return write(from_context(storage_context), all_cases(request.param), size)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_value_is_stored_as_documented(
    case: Case, everything: dict[str, Any], storage: Storage
) -> None:
    stream, key = f"rows_{len(case.values)}", key_of(case)
    nodes = everything["children"][stream]["children"]
    columns = nodes["internal"]["columns"]
    where, type_, stored, notes = case.where, case.type, case.stored, case.notes
    if case.without and storage.name in case.without[0]:
        _, where, type_, stored = case.without
    if storage.name == "postgresql" and case.name == "embedded NUL":
        notes = ["'a\\x00b' does not fit", "'c\\x00' does not fit"]
    elif where == COLUMN and case.name == "never an array, nor a shape":
        notes = []
    assert columns[f"ts_{key}"][0] == "double"
    if where == COLUMN:
        assert columns[key] == (type_, stored)
        assert key not in nodes
    else:
        assert nodes[key]["family"] == where
        assert (nodes[key]["dtype"], nodes[key]["values"]) == (type_, stored)
        assert key not in columns
    begin = f"Stream {stream!r}, key {key!r}, seq_num "
    found = [note for note in everything["metadata"]["notes"] if note.startswith(begin)]
    assert len(found) == len(notes)
    for words, note in zip(notes, found, strict=True):
        assert words in note


LONG = "k" * 61
NAMES = {
    "forbidden characters": ["a(b)", "a=b", "a%b", "a;b", "a--b", 'a"b', "a'b", "a\\b", "a+b"],
    "leading digit or underscore": ["1a", "_a", "é"],
    "over 60 bytes": [LONG, "é" * 31],
}


@pytest.mark.parametrize("kind", NAMES)
def test_name_that_sql_refuses_is_a_node_of_its_own(kind: str, storage_client: Container) -> None:
    keys = NAMES[kind]
    run = RunBuilder()
    run.start()
    run.descriptor("primary", dict.fromkeys(keys, "number") | {"plain": "number"})
    for i in range(3):
        run.event("primary", {key: i + n / 10 for n, key in enumerate(keys)} | {"plain": i})
    run.stop()
    nodes = write(storage_client, run, 2)["children"]["primary"]["children"]
    for n, key in enumerate(keys):
        assert nodes[key]["values"] == [n / 10, 1 + n / 10, 2 + n / 10]
        stamps = f"ts_{key}"
        assert stamps in nodes or stamps in nodes["internal"]["columns"]
    assert nodes["internal"]["columns"]["plain"] == ("double", [0.0, 1.0, 2.0])


def test_names_that_differ_in_case_are_told_apart(storage_client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"A": "number", "a": "integer", "Time": "number"})
    run.event("primary", {"A": 1.5, "a": 2, "Time": 3.5})
    run.stop()
    nodes = write(storage_client, run, 1)["children"]["primary"]["children"]
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
    tree = write(client, run, 1)
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
    tree = write(client, run, 1)
    columns = tree["children"]["primary"]["children"]["internal"]["columns"]
    for i, column in enumerate(["time_", "seq_num_", "internal_", "x", "ts_x_"]):
        assert columns[column] == ("double", [float(i)])
    assert columns["seq_num"] == ("int64", [1])
    assert columns["ts_x"][0] == "double"
    notes = tree["metadata"]["notes"]
    for old in ("time", "seq_num", "internal", "ts_x"):
        assert any(repr(old) in note and repr(old + "_") in note for note in notes)


@pytest.mark.parametrize("batch_size", [1, 10_000])
def test_1500_keys_are_parts_with_each_column_in_one(client: Container, batch_size: int) -> None:
    keys = [f"k{i}" for i in range(1500)]
    run = RunBuilder()
    run.start()
    run.descriptor("primary", dict.fromkeys(keys, "number"))
    for row in range(2):
        run.event("primary", {key: i + row / 2 for i, key in enumerate(keys)})
    run.stop()
    nodes = write(client, run, batch_size)["children"]["primary"]["children"]
    assert set(nodes) == {"internal_0", "internal_1", "internal_2"}
    columns: dict[str, Any] = {}
    for node in nodes.values():
        assert not columns.keys() & node["columns"].keys()
        assert len(node["columns"]) <= 1024
        columns |= node["columns"]
    assert len(columns) == 2 + 2 * 1500
    assert columns["k7"] == ("double", [7.0, 7.5])
    frame = client[run.uid]["primary"]["internal/events"].read()
    assert frame.shape == (2, 3002)
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
    streams = write(client, run, 10)["children"]
    assert streams["a_b"]["children"]["internal"]["columns"]["c"] == ("double", [1.5])
    assert streams["a_b"]["children"]["internal"]["columns"]["x"] == ("int64", [1])
    assert streams["a"]["children"]["internal"]["columns"]["b_c"] == ("string", ["text"])
    assert streams["a"]["children"]["internal"]["columns"]["x"] == ("string", ["one"])
    assert streams["with space"]["children"]["x"]["values"] == [[2.5]]


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_key_absent_from_some_rows(client: Container, batch_size: int) -> None:
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
    tree = write(client, run, batch_size)
    nodes = tree["children"]["primary"]["children"]
    columns = nodes["internal"]["columns"]
    assert columns["first"] == ("double", [None, 2.5, 3.5])
    assert columns["later"] == ("int64", [1, None, 3])
    assert columns["never"] == ("string", [None, None, None])
    assert nodes["a"]["values"] == [[1.0, 2.0], [None, None], [3.0, 4.0]]
    assert [note for note in tree["metadata"]["notes"] if "'a', seq_num 2" in note]


def test_more_than_100_misfits_of_a_key_are_counted(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    for i in range(130):
        run.event("primary", {"x": f"text {i}"})
    run.stop()
    notes = write(client, run, 7)["metadata"]["notes"]
    assert len(notes) == 101
    assert notes[99].startswith("Stream 'primary', key 'x', seq_num 100: 'text 99'")
    assert "30 more values" in notes[100]


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
    nodes = write(client, run, 2, max_array_size=size)["children"]["primary"]["children"]
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
    tree = write(client, run, 1)["metadata"]
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
    tree = write(storage_client, run, 1)["metadata"]
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
    write(client, run, 50)
    node = stream_of(client, run.uid)["x"]
    assert node.shape == (97, 10)
    assert max(node.chunks[0]) == 12
    np.testing.assert_array_equal(node.read()[:, 3], np.arange(97))


class Broken:
    """An object that nothing can be done with."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no array")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("batch_size", [1, 10])
def test_object_that_does_not_behave_costs_its_own_key_only(
    client: Container, batch_size: int
) -> None:
    run = RunBuilder()
    run.start()
    array = data_key("array", [2], dtype_numpy="<f8")
    run.descriptor("primary", {"x": array, "y": "number", "z": "number"})
    run.event("primary", {"x": Broken(), "y": Broken(), "z": 1.5})
    run.event("primary", {"x": [1, 2], "y": 2.5, "z": 3.5})
    run.stop()
    tree = write(client, run, batch_size)
    nodes = tree["children"]["primary"]["children"]
    assert nodes["internal"]["columns"]["z"] == ("double", [1.5, 3.5])
    assert nodes["internal"]["columns"]["y"][1][0] is None
    assert nodes["x"]["values"][0] == [None, None]
    for key in ("x", "y"):
        assert any(f"key {key!r}, seq_num 1: " in note for note in tree["metadata"]["notes"])
