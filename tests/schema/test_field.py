from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.data_key import StorageForm

from .model import Node, plain, stored
from .values import EDGES, batchings, quick

integers = st.one_of(st.integers(-3, 3), st.sampled_from(EDGES))
floats = st.one_of(st.floats(allow_nan=False, width=32), st.sampled_from([0.1, 2.0, 1e300]))
texts = st.text("ab\u00e9", max_size=20)
none = st.none()


def data_key(dtype, shape=(), **more):
    return {"source": "s", "dtype": dtype, "shape": list(shape), **more}


SCALARS = {
    "number": (data_key("number"), integers | floats | none),
    "integer": (data_key("integer"), integers | floats | none),
    "uint8": (data_key("integer", dtype_numpy="|u1"), integers | floats | none),
    "uint64": (data_key("integer", dtype_numpy="<u8"), integers | none),
    "float32": (data_key("number", dtype_numpy="<f4"), floats | none),
    "boolean": (data_key("boolean"), st.booleans() | integers | none),
    "string": (data_key("string"), texts | st.sampled_from([1, {"a": 1}, b"a"]) | none),
}


def arrays_of(elements):
    regular = st.lists(elements, min_size=2, max_size=2)
    return st.one_of(regular, regular, st.lists(elements, max_size=3), none)


ARRAYS = {
    "f8": (data_key("array", [2], dtype_numpy="<f8"), arrays_of(floats | integers)),
    "i4": (data_key("array", [2], dtype_numpy="<i4"), arrays_of(integers)),
    "U3": (data_key("array", [2], dtype_numpy="<U3"), arrays_of(texts)),
    "undeclared numbers": (data_key("array", [2]), arrays_of(st.integers(-9, 9) | floats)),
    "undeclared text": (data_key("array", [2]), arrays_of(texts)),
    "undeclared": (data_key("array"), arrays_of(st.integers(-9, 9))),
    "ragged": (data_key("array", [None], dtype_numpy="<i8"), arrays_of(integers)),
    "empty": (data_key("array", [0], dtype_numpy="<f8"), arrays_of(floats)),
}
KINDS = SCALARS | ARRAYS


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(data=st.data(), sizes=batchings)
def test_rows_types_and_notes_do_not_depend_on_batches(kind, data, sizes):
    declared, values = KINDS[kind]
    rows = data.draw(st.lists(values, min_size=1, max_size=6))
    at_once, in_batches = stored(declared, rows), stored(declared, rows, sizes)
    assert in_batches.field.signature == at_once.field.signature
    assert in_batches.rows == at_once.rows
    assert in_batches.notes == at_once.notes
    assert at_once.rebuilt == 0


LARGE = 2**53 + 1
U2 = data_key("array", [2], dtype_numpy="<U2")
PATHS = {
    "to floats, inexactly": (data_key("integer"), [LARGE, 0.5]),
    "to floats, with gaps": (data_key("integer"), [1, None, 0.5]),
    "to an array and to a column again": (data_key("integer"), [None, LARGE, 0.5, None]),
    "to an array, after what does not fit": (data_key("integer"), ["a", LARGE, None, "b"]),
    "to complex numbers": (data_key("number"), [None, "a", 1.5, 1j]),
    "to unsigned integers": (data_key("integer"), [1, 2**63]),
    "unsigned ones to floats": (data_key("integer", dtype_numpy="<u8"), [2**64 - 1, -1]),
    "booleans to integers": (data_key("boolean"), [True, None, 3]),
    "to wider arrays": (data_key("array", [1], dtype_numpy="<i4"), [[1], None, [2**40], ["a"]]),
    "to wider text": (U2, [["a", "b"], None, ["a" * 20, "b"]]),
    "to ragged rows": (data_key("array", [1], dtype_numpy="<i4"), [[1], None, [2, 3], []]),
    "to ragged rows of floats": (data_key("array", [1]), [[1], [0.1, 2]]),
    "text of two lengths to JSON": (U2, [["a", "b"], None, ["c"]]),
    "arrays of two dimensions to JSON": (data_key("array"), [[1], [[2]], None]),
    "numbers to text": (data_key("array", [1]), [[1], [0.1], ["a"]]),
}


@pytest.mark.parametrize("path", PATHS)
def test_row_by_row_ends_as_all_rows_at_once(path):
    declared, rows = PATHS[path]
    at_once, one_by_one = stored(declared, rows), stored(declared, rows, [1] * len(rows))
    assert one_by_one.rebuilt
    assert one_by_one.field.signature == at_once.field.signature
    assert one_by_one.rows == at_once.rows
    assert one_by_one.notes == at_once.notes


def test_a_row_of_fill_values_is_noted_once_by_what_it_stands_for():
    node = stored(data_key("array", [1], dtype_numpy="<i4"), [["a"], None])
    assert node.rows == [[0], [0]]
    assert ["does not fit" in note for note in node.notes] == [True, False]
    assert ["no value" in note for note in node.notes] == [False, True]


def test_a_list_column_becomes_ragged_lists():
    declared = data_key("array", [2], dtype_numpy="<f8")
    node = stored(declared, [[1.5, 2], None, [3]], [1, 1], max_list=2)
    assert node.field.storage_form is StorageForm.LIST
    assert node.rows == [[1.5, 2.0], None, [3.0]]


def test_a_refused_type_moves_a_column_to_a_node():
    node = Node(data_key("integer", dtype_numpy="<u8"), refused=["u8"])
    node.store([2**64 - 1, None])
    assert node.field.storage_form is StorageForm.ARRAY
    assert node.rows == [2**64 - 1, 0]
    assert "no value" in node.notes[0]


def test_text_with_nul_is_an_empty_cell_where_the_database_refuses_it():
    node = stored(data_key("string"), ["a", "b\0", None], refused=["NUL"])
    assert node.rows == ["a", None, None]
    assert len(node.notes) == 1
    assert "seq_num 1: 'b\\x00' does not fit" in node.notes[0]
    assert stored(data_key("string"), ["b\0"]).rows == ["b\0"]


def test_a_key_without_any_value_has_rows_all_the_same():
    node = stored(data_key("array"), [None, None], [1])
    assert (node.field.storage_form, node.rows) == (StorageForm.RAGGED, [[], []])


def test_a_key_that_comes_later_is_blank_before():
    node = Node(data_key("array", [1], dtype_numpy="<i4"), born=2)
    assert node.field.absent(2).tolist() == [[0], [0]]
    assert [note.split(": ")[0].split()[-1] for note in node.notes] == ["0", "1"]
    assert node.field.missing == [range(2)]


@pytest.mark.parametrize("kind", SCALARS)
@quick
@given(data=st.data(), sizes=batchings)
def test_scalars_are_found_again_or_noted(kind, data, sizes):
    declared, values = KINDS[kind]
    rows = data.draw(st.lists(values, min_size=1, max_size=6))
    node = stored(declared, rows, sizes)
    assert len(node.rows) == len(rows)
    for i, (value, cell) in enumerate(zip(rows, node.rows, strict=True)):
        assert plain(value) == cell or any(f"seq_num {i}:" in note for note in node.notes)


@pytest.mark.parametrize("kind", ARRAYS)
@quick
@given(data=st.data(), sizes=batchings)
def test_arrays_are_found_again_or_noted(kind, data, sizes):
    declared, values = KINDS[kind]
    rows = data.draw(st.lists(values, min_size=1, max_size=6))
    node = stored(declared, rows, sizes)
    assert len(node.rows) == len(rows)
    if node.field.storage_form is StorageForm.JSON:
        return  # see test_arrays.py
    for i, (value, row) in enumerate(zip(rows, node.rows, strict=True)):
        assert plain(value) == row or any(f"seq_num {i}:" in note for note in node.notes)
