"""The cases of the documentation's table of how values are stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
from documents import RunBuilder, data_key

NAN = float("nan")


INF = float("inf")
COLUMN, ARRAY, RAGGED = "column", "array", "ragged"


class Color(str, Enum):  # noqa: UP042  # as devices define them
    RED = "red"


@dataclass
class Case:
    """Values of a key, and what Tiled holds of them: where, of which type, which values.

    `notes` are words that the notes of the run have, in this order; `without` says where the
    values go on databases that cannot hold them so, as (databases, where, type, values).
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


S40 = {"dtype_numpy": "|S40"}


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
    Case("bytes have no column", "string", [b"abc", b"de"], ARRAY, "|S16", [b"abc", b"de"],
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
    Case("texts among numbers", "number", [1.5, ["a", "b"]], COLUMN, "double", [1.5, None],
         notes=["seq_num 2: ['a', 'b'] does not fit"]),
    # Text that is declared as bytes
    Case("text as bytes", "string", ["µm", "a" * 50], COLUMN, "string", ["µm", "a" * 50], S40),
    Case("texts as bytes", "array", [["µ", "b"], ["a" * 50, ""]], ARRAY, "<U64",
         [["µ", "b"], ["a" * 50, ""]], {"shape": [2], **S40}),
    # Arrays and numbers, either in place of the other
    Case("array among numbers", "number", [1.5, None, [1, 2]], RAGGED, "float64",
         [[1.5], [], [1.0, 2.0]], notes=["seq_num 2: no value"],
         without=("sqlite", COLUMN, "string", ["[1.5]", None, "[1.0, 2.0]"])),
    Case("arrays of one for numbers", "number", [np.array([1.5]), [2]], COLUMN, "double",
         [1.5, 2.0]),
    Case("arrays for numbers", "number", [[1, 2], np.array([3.5, 4])], ARRAY, "float64",
         [[1.0, 2.0], [3.5, 4.0]]),
    Case("numbers for arrays", "array", [[1, 2, 3], 4.5, np.array(5)], RAGGED, "float64",
         [[1.0, 2.0, 3.0], [4.5], [5.0]], {"shape": [3], "dtype_numpy": "<f8"},
         without=("sqlite", COLUMN, "string", ["[1.0, 2.0, 3.0]", "[4.5]", "[5.0]"])),
    Case("text for arrays of one", "array", [["a"], "b"], ARRAY, "<U16", [["a"], ["b"]],
         {"shape": [1]}),
    # Other numbers
    Case("decimals", "number", [Decimal("1.5"), np.longdouble(2.5)], COLUMN, "double", [1.5, 2.5]),
    Case("masked", "array", [np.ma.array([1.5, 2], mask=[0, 1])], ARRAY, "float64", [[1.5, None]],
         ARRAY_F8),
    Case("masked integers", "array", [np.ma.array([1, 2], mask=[0, 1])], ARRAY, "int64", [[1, 2]],
         ARRAY_I8, ["[1, None] has masked elements"]),
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
    Case("tables", "array", [{"a": [1, 2], "b": [2.5, 3]}, {"b": [4.5, 5], "a": [6, 7]}], ARRAY,
         "[('a', '<i4'), ('b', '<f8')]", [[[1, 2.5], [2, 3.0]], [[6, 4.5], [7, 5.0]]],
         {"shape": [2], **RECORD}),
    Case("tables of two lengths", "array", [{"a": [1, 2], "b": [2.5, 3]}, {"a": [], "b": []}],
         COLUMN, "string", ['{"a": [1, 2], "b": [2.5, 3.0]}', '{"a": [], "b": []}'],
         {"shape": [2], **RECORD}),
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
    Case("other dimensions", "array", [np.eye(2, 3), np.ones((2, 3))], ARRAY, "float64",
         [np.eye(2, 3).tolist(), np.ones((2, 3)).tolist()],
         {"shape": [3, 2, 0], "dtype_numpy": "<f8"}),
    Case("text for an array", "array", [[1, 2], ["a", "b"]], ARRAY, "float64",
         [[1.0, 2.0], [None, None]], ARRAY_F8, ["seq_num 2: ['a', 'b'] does not fit the type"]),
    Case("never an array", "array", [None, None], ARRAY, "float64",
         [[None, None], [None, None]], ARRAY_F8, ["seq_num 1 to 2: no value"]),
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
    Case("ragged inside", "array", [[[1, 2], [3]], [[4], [5]]], RAGGED, "int32",
         [[[1, 2], [3]], [[4], [5]]], {"shape": [2, None], "dtype_numpy": "<i4"},
         without=("sqlite", COLUMN, "string", ["[[1, 2], [3]]", "[[4], [5]]"])),
    Case("ragged images without rows", "array", [[[1, 2, 3]], [], [[4, 5, 6], [7, 8, 9]]], RAGGED,
         "int32", [[[1, 2, 3]], [], [[4, 5, 6], [7, 8, 9]]],
         {"shape": [None, 3], "dtype_numpy": "<i4"},
         without=("sqlite", COLUMN, "string", ["[[1, 2, 3]]", "[]", "[[4, 5, 6], [7, 8, 9]]"])),
    Case("ragged in three dimensions", "array", [[[[1], []], []], [[[2, 3]]], []], RAGGED,
         "float64", [[[[1.0], []], []], [[[2.0, 3.0]]], []], {"shape": [-1, -1, -1]},
         without=("sqlite", COLUMN, "string", ["[[[1.0], []], []]", "[[[2.0, 3.0]]]", "[]"])),
    Case("fixed inside and outside", "array", [[[[1, 2]], []], [[], []]], RAGGED, "int32",
         [[[[1, 2]], []], [[], []]], {"shape": [2, None, 2], "dtype_numpy": "<i4"},
         without=("sqlite", COLUMN, "string", ["[[[1, 2]], []]", "[[], []]"])),
    Case("text of several lengths", "array", [["a", "b"], ["c"]], COLUMN, "string",
         ['["a", "b"]', '["c"]'], {"shape": [2], "dtype_numpy": "<U2"}),
    Case("nested lists of several lengths", "array", [[1, 2], [[1, 2, 3], [4]]], COLUMN, "string",
         ["[1, 2]", "[[1, 2, 3], [4]]"], ARRAY_I8),
    Case("never an array, nor a shape", "array", [None, None], RAGGED, "float64", [[], []],
         {"shape": []}, ["seq_num 1 to 2: no value"],
         without=("sqlite", COLUMN, "string", [None, None])),
]  # fmt: skip


SQL_CASES = [case for case in CASES if case.where == COLUMN or case.without]
"""Those that depend on the database, where arrays and ragged rows lie beside it."""


def all_cases(batching: int | str, given: list[Case] = CASES) -> RunBuilder:
    """Return a run of all cases: a stream for each number of rows, a key for each case.

    In one run, because that is how they meet in real runs, and because each run takes a while.
    """
    run = RunBuilder()
    run.start()
    for count in sorted({len(case.values) for case in given}):
        cases = {key_of(case): case for case in given if len(case.values) == count}
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
