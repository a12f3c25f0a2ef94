"""Values in another form than declared: scalars, arrays, images and lists, in any mixture.

What is stored of them follows from the declaration and from the set of the values: not from their
order, nor from how they were batched.
"""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.data_key import DeclaredKey, Source, StorageForm
from bluesky_tiled_writer.schema.field import Field
from bluesky_tiled_writer.schema.limits import ServerLimits
from bluesky_tiled_writer.schema.notes import Deviation, Deviations

from .model import plain, stored
from .values import batchings, quick

ARRAY, RAGGED, COLUMN, JSON = (
    StorageForm.ARRAY,
    StorageForm.RAGGED,
    StorageForm.COLUMN,
    StorageForm.JSON,
)
NAN = float("nan")


def data_key(dtype, shape=(), **more):
    return {"source": "s", "dtype": dtype, "shape": list(shape), **more}


F8, I4, S40 = {"dtype_numpy": "<f8"}, {"dtype_numpy": "<i4"}, {"dtype_numpy": "|S40"}
NUMBER, INTEGER = data_key("number"), data_key("integer")
TEXT = data_key("string", **S40)
TEXTS = data_key("array", [2], **S40)
IMAGE = np.arange(6, dtype="i4").reshape(2, 3)

CASES = {
    # Text that is declared as bytes
    "text": (TEXT, ["µm", None, "a" * 50], COLUMN, ["µm", None, "a" * 50]),
    "bytes": (TEXT, [b"ab", None, b"c"], ARRAY, [b"ab", b"", b"c"]),
    "bytes without a declared type": (data_key("string"), [b"\xff"], ARRAY, [b"\xff"]),
    "bytes that end in NUL": (TEXT, [b"a\0"], COLUMN, ["a␀"]),
    "bytes, then text": (TEXT, [b"ab", "c"], COLUMN, ["ab", "c"]),
    "text in an array of one": (TEXT, [["a"], np.array(["b"])], COLUMN, ["a", "b"]),
    "no text at all": (TEXT, [None, None], COLUMN, [None, None]),
    "text that is declared as numbers": (data_key("string", **F8), ["a"], COLUMN, ["a"]),
    "texts": (TEXTS, [["µ", "b"], None], ARRAY, [["µ", "b"], ["", ""]]),
    "longer texts": (TEXTS, [["a" * 50, "b"]], ARRAY, [["a" * 50, "b"]]),
    "arrays of bytes": (TEXTS, [[b"a", b"b"]], ARRAY, [[b"a", b"b"]]),
    "arrays of bytes, then texts": (TEXTS, [[b"a", b"b"], ["c", "d"]],
     ARRAY, [["a", "b"], ["c", "d"]]),
    # Numbers where arrays are declared
    "arrays and scalars": (data_key("array", [3], **F8), [[1, 2, 3], 4.5, np.array(5), None, [6]],
                           RAGGED, [[1, 2, 3], [4.5], [5], [None] * 3, [6]]),
    "scalars for arrays": (data_key("array", [3], **F8), [1.5, 2], RAGGED, [[1.5], [2]]),
    "scalars for arrays of one": (data_key("array", [1], **F8), [1.5, [2]], ARRAY, [[1.5], [2]]),
    "text for arrays of one": (data_key("array", [1]), [["a"], "b"], ARRAY, [["a"], ["b"]]),
    "text for texts of one": (data_key("array", [1], **S40), ["a", "bµ"], ARRAY, [["a"], ["bµ"]]),
    "scalars for images": (data_key("array", [2, 3], **I4), [IMAGE, 7],
     RAGGED, [IMAGE.tolist(), [[7]]]),
    "scalars for an undeclared shape": (data_key("array"), [1, [2, 3]], RAGGED, [[1], [2, 3]]),
    # Arrays where numbers are declared
    "arrays of one": (NUMBER, [np.array([1.5]), [2], None, [[3]]], COLUMN, [1.5, 2, None, 3]),
    "only arrays": (NUMBER, [[1, 2], np.array([3.5, 4]), None],
     ARRAY, [[1, 2], [3.5, 4], [None, None]]),
    "only images": (INTEGER, [IMAGE, IMAGE], ARRAY, [IMAGE.tolist()] * 2),
    "arrays of two lengths": (INTEGER, [[1, 2], [3, 4, 5]], RAGGED, [[1, 2], [3, 4, 5]]),
    "scalars, then arrays": (INTEGER, [1, None, "a", [2, 3], [4]],
     RAGGED, [[1], [], [], [2, 3], [4]]),
    "arrays, then scalars": (INTEGER, [[2, 3], "a", 1, 0.5], RAGGED, [[2, 3], [], [1], [0.5]]),
    "arrays without elements": (NUMBER, [1, []], RAGGED, [[1], []]),
    "arrays of text": (NUMBER, [1, ["a", "b"]], COLUMN, [1, None]),
    # Other numbers of dimensions
    "a last size of 0": (data_key("array", [3, 2, 0], **I4), [IMAGE, None],
     ARRAY, [IMAGE.tolist(), [[0] * 3] * 2]),
    "flat images": (data_key("array", [2, 3], **I4), [IMAGE.ravel()],
     ARRAY, [IMAGE.ravel().tolist()]),
    "stacks of images": (data_key("array", [2, 3], **I4), [IMAGE[None]], ARRAY, [[IMAGE.tolist()]]),
    "images of two sizes": (data_key("array", [6], **I4), [IMAGE, IMAGE[:1]],
     RAGGED, [IMAGE.tolist(), IMAGE[:1].tolist()]),
    "mixed dimensions": (data_key("array", [6], **I4), [IMAGE, [1, 2], 3], JSON,
                         ["[[0, 1, 2], [3, 4, 5]]", "[1, 2]", "[3]"]),
    # Ragged in any dimension
    "ragged inside": (data_key("array", [2, None], **F8), [[[1, 2], [3]], [[4], [5]]],
     RAGGED, [[[1, 2], [3]], [[4], [5]]]),
    "an empty row of rows": (data_key("array", [None, 3], **F8), [[[1, 2, 3]], [], None],
     RAGGED, [[[1, 2, 3]], [], []]),
    "ragged twice": (data_key("array", [None, None], **I4), [[[1], [2, 3]], [], [[], [4]]],
     RAGGED, [[[1], [2, 3]], [], [[], [4]]]),
    "ragged three times": (data_key("array", [None, None, None]), [[[[1], []], []], [[]]],
     RAGGED, [[[[1], []], []], [[]]]),
    "ragged, but declared fixed": (data_key("array", [2, 2], **I4), [[[1], [2, 3]]],
     RAGGED, [[[1], [2, 3]]]),
    "arrays of arrays": (data_key("array", [2, 2]),
     [np.array([np.arange(1), np.arange(2)], object)],
     RAGGED, [[[0], [0, 1]]]),
    "-1 is any size": (data_key("array", [None, 2], **I4), [[[1, 2]], [[3, 4], [5, 6]]],
     RAGGED, [[[1, 2]], [[3, 4], [5, 6]]]),
    "different depths": (data_key("array", [2]), [[1, [2, 3]]], JSON, ["[1, [2, 3]]"]),
    # Other types of numbers
    "decimals": (NUMBER, [Decimal("1.5"), Decimal("NaN"), Decimal("-Infinity")],
     COLUMN, [1.5, None, -np.inf]),
    "whole decimals": (INTEGER, [Decimal(2**60 + 1), Decimal("2.0")], COLUMN, [2**60 + 1, 2]),
    "decimal text": (data_key("string"), [Decimal("1.50")], COLUMN, ["1.50"]),
    "long doubles": (NUMBER, [np.longdouble("1.5"), np.longdouble(2)], COLUMN, [1.5, 2]),
    "declared long doubles": (data_key("number", dtype_numpy=np.dtype("g").str), [1.5],
     COLUMN, [1.5]),
    "fractions": (NUMBER, [Fraction(1, 2), Fraction(4)], COLUMN, [0.5, 4]),
    "arrays of decimals": (data_key("array", [2], **F8), [[Decimal("1.5"), None]],
     ARRAY, [[1.5, None]]),
    "arrays of long doubles": (data_key("array", [2], **F8), [np.array([1.5, 2], "g")],
     ARRAY, [[1.5, 2]]),
    # Masked elements
    "masked floats": (data_key("array", [2], **F8), [np.ma.array([1.5, 2], mask=[0, 1])],
     ARRAY, [[1.5, None]]),
    "masked integers among floats": (data_key("array", [2], **F8),
     [np.ma.array([1, 2], mask=[0, 1])],
     ARRAY, [[1, None]]),
    "masked floats among integers": (data_key("array", [2], **I4),
     [np.ma.array([1.0, 2], mask=[0, 1])],
     ARRAY, [[1, None]]),
    "masked integers": (data_key("array", [2], **I4), [np.ma.array([1, 2], mask=[0, 1])],
     ARRAY, [[1, 2]]),
    "nothing masked": (data_key("array", [2], **I4), [np.ma.array([1, 2])], ARRAY, [[1, 2]]),
    "masked scalars": (INTEGER, [1, np.ma.masked, np.ma.array(3), np.ma.array(4, mask=True)],
     COLUMN, [1, None, 3, None]),
    "a masked array of one": (NUMBER, [np.ma.array([1.5], mask=[1]), np.ma.array([2.5])],
     COLUMN, [None, 2.5]),
    "masked arrays for numbers": (INTEGER, [np.ma.array([1.5, 2], mask=[0, 1])],
     ARRAY, [[1.5, None]]),
}  # fmt: skip

NOTED = {
    "bytes": ["no value"],
    "bytes that end in NUL": ["is not text"],
    "bytes, then text": ["is not text"],
    "texts": ["no value"],
    "arrays of bytes, then texts": ["is not text"],
    "arrays and scalars": ["no value"],
    "only arrays": ["no value"],
    "scalars, then arrays": ["'a' does not fit", "no value"],
    "arrays, then scalars": ["'a' does not fit"],
    "arrays of text": ["['a', 'b'] does not fit"],
    "a last size of 0": ["no value"],
    "an empty row of rows": ["no value"],
    "decimal text": ["is not text"],
    "masked integers": ["[1, None] has masked elements"],
}
"""Words that the notes have; of cases that are not here, there are none."""


@pytest.mark.parametrize("one_by_one", [False, True], ids=["at once", "one by one"])
@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_stored_in_the_form_that_holds_it(case, one_by_one):
    declared, values, form, rows = CASES[case]
    node = stored(declared, values, [1] * len(values) * one_by_one)
    assert node.field.storage_form is form
    assert node.rows == plain(rows)
    words = NOTED.get(case, [])
    assert len(node.notes) == len(words)
    assert all(any(word in note for note in node.notes) for word in words)
    assert one_by_one or node.rebuilt == 0


@pytest.mark.parametrize("value", [Decimal("0.1234567890123456789"), Fraction(1, 3), 10**400])
def test_a_number_with_more_digits_than_a_float_is_noted(value):
    node = stored(NUMBER, [value])
    assert node.rows == [float(value)] if value < 1 else [np.inf]
    assert "has no exact form" in node.notes[0]


number = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 2.5, 2**53 + 1, Decimal("1.5")]))
numbers = st.lists(number, max_size=3)
nested = st.lists(numbers, max_size=3)
none = st.none()
odd = st.sampled_from([[1, [2]], "text", {"a": 1}, b"bytes", [[[1.5]]], [[], [[2]]], ["a", "b"]])
masked = st.builds(
    lambda values: np.ma.array(values, mask=[i % 2 for i in range(len(values))]),
    st.lists(st.integers(-3, 3), min_size=1, max_size=3),
)
text = st.text("abµ", max_size=3)
as_bytes = st.binary(max_size=2)

MIXED = {
    "number": (NUMBER, number | numbers | nested | masked | odd | none),
    "number, mostly arrays": (NUMBER, st.just([1, 2]) | st.just([3, 4.5]) | number | none),
    "integer": (INTEGER, number | numbers | odd | none),
    "array": (data_key("array", [2], **F8), number | numbers | nested | masked | odd | none),
    "array of one": (data_key("array", [1], **I4), number | numbers | masked | none),
    "image": (data_key("array", [2, 2], **I4), number | numbers | nested | odd | none),
    "image of 3 sizes": (data_key("array", [2, 2, 0]), nested | st.just(IMAGE) | numbers | none),
    "undeclared": (data_key("array"), number | numbers | nested | text | as_bytes | odd | none),
    "ragged inside": (data_key("array", [2, None], **F8), nested | number | none),
    "ragged outside": (data_key("array", [None, 3], **F8), nested | st.just(IMAGE) | none),
    "string": (TEXT, text | as_bytes | st.lists(text, max_size=2) | number | none),
    "strings": (
        TEXTS,
        st.lists(text, max_size=2) | st.lists(as_bytes, max_size=2) | text | as_bytes | odd | none,
    ),
}


@pytest.mark.parametrize("refused", [(), ("ragged",)], ids=["ragged", "no ragged"])
@pytest.mark.parametrize("kind", MIXED)
@quick
@given(data=st.data(), sizes=batchings)
def test_what_is_stored_of_a_mixture_does_not_depend_on_batches(kind, refused, data, sizes):
    declared, values = MIXED[kind]
    rows = data.draw(st.lists(values, min_size=1, max_size=6))
    at_once = stored(declared, rows, refused=refused)
    in_batches = stored(declared, rows, sizes, refused=refused)
    assert in_batches.field.signature == at_once.field.signature
    assert in_batches.rows == at_once.rows
    assert in_batches.notes == at_once.notes


@pytest.mark.parametrize("kind", MIXED)
@quick
@given(data=st.data(), sizes=batchings)
def test_the_form_does_not_depend_on_the_order_of_a_mixture(kind, data, sizes):
    declared, values = MIXED[kind]
    rows = data.draw(st.lists(values, min_size=1, max_size=6))
    shuffled = data.draw(st.permutations(rows))
    assert (
        stored(declared, shuffled, sizes).field.signature == stored(declared, rows).field.signature
    )


@pytest.mark.parametrize("kind", [kind for kind in MIXED if kind != "undeclared"])
@quick
@given(data=st.data())
def test_a_value_of_a_mixture_is_found_again_or_noted(kind, data):
    declared, values = MIXED[kind]
    rows = data.draw(st.lists(values, min_size=1, max_size=6))
    node = stored(declared, rows)
    for i, (value, row) in enumerate(zip(rows, node.rows, strict=True)):
        found = json.loads(row) if node.field.storage_form is JSON and row is not None else row
        noted = any(f"seq_num {i}:" in note for note in node.notes)
        assert noted or leaves(found) == leaves(value)


def leaves(value):
    """Return the elements of a value in order, without NaN and None, numbers as floats."""
    if isinstance(value, np.ma.MaskedArray):
        value = value.tolist()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    if value is None or value != value:
        return []
    return [value if isinstance(value, str | bytes | dict) else float(value)]


JSON_ROWS = {
    "bytes": (data_key("array", [1], **S40), [[b"a"], [b"\xc3\xa9", b"b"], [b"\xff"]]),
    "complex numbers": (data_key("array", [1]), [[1.5], [1 + 2j, 3], [complex(NAN, 1)]]),
    "times": (
        data_key("array", [1], dtype_numpy="<M8[s]"),
        [np.array(["2020-01-01"], "M8[s]"), np.array(["NaT", "2020-01-02"], "M8[s]")],
    ),
    "objects": (data_key("array", [1]), [[1.5], [1, [{(1, 2): 3}]], [2.5]]),
    "text": (data_key("array", [1]), [[1.5], ["a\0", "\N{MICRO SIGN}"]]),
    "numbers": (data_key("array", [1], **I4), [[1.5], [2**60, 2], [NAN], [[1]]]),
}


@pytest.mark.parametrize("kind", JSON_ROWS)
def test_json_stays_as_it_is_when_its_table_is_rebuilt(kind):
    declared, values = JSON_ROWS[kind]
    node = stored(declared, values, [1] * len(values), refused=["ragged"])
    assert node.field.storage_form is JSON
    again = node.field.again(node.content, Deviations())
    assert again.to_pylist() == node.content["x"].to_pylist()
    assert node.rows == stored(declared, values, refused=["ragged"]).rows


@pytest.mark.parametrize("source", [Source.SEQ_NUM, Source.TIME, Source.TIMESTAMPS])
def test_arrays_leave_other_columns_than_those_of_data_where_they_are(source):
    declared = DeclaredKey.from_data_key("time", NUMBER)
    field = Field(source, declared, name="time", node="time", limits=ServerLimits())
    deviations = Deviations()
    column = field.pack(field.absorb([1.5, [1, 2], [2.5]], 0, deviations), 0, deviations)
    assert field.storage_form is COLUMN
    assert column.to_pylist() == [1.5, None, 2.5]
    assert deviations.has("time", Deviation.LEFT_OUT)
