"""Tables and records: arrays of a structured type."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.data_key import StorageForm

from .model import stored
from .values import batchings, quick

DECLARED = {
    "source": "s",
    "dtype": "array",
    "shape": [2],
    "dtype_numpy": [["x", "<f8"], ["n", "<i4"], ["s", "|S40"]],
}
TABLE = {"x": np.array([1.5, 2]), "n": [3, 4], "s": ["µm", "a" * 50]}
ROWS = [(1.5, 3, "µm"), (2.0, 4, "a" * 50)]


@pytest.mark.parametrize(
    "value",
    [
        TABLE,
        {name: TABLE[name] for name in reversed(TABLE)},
        [list(row) for row in ROWS],
        ROWS,
        np.array(ROWS, [("x", "f8"), ("n", "i4"), ("s", "U50")]),
    ],
    ids=["columns", "columns in another order", "lists", "records", "array"],
)
def test_a_table_is_an_array_of_its_rows(value):
    node = stored(DECLARED, [value])
    assert node.field.storage_form is StorageForm.ARRAY
    assert node.content.dtype.descr == [("x", "<f8"), ("n", "<i4"), ("s", "<U64")]
    assert node.content.tolist() == [ROWS]
    assert node.notes == []


def test_a_table_with_values_that_fit_has_the_declared_type_but_for_its_text():
    node = stored(DECLARED, [TABLE | {"s": ["a", "b"]}])
    assert node.content.dtype.descr == [("x", "<f8"), ("n", "<i4"), ("s", "<U40")]


def test_bytes_in_a_table_stay_bytes():
    node = stored(DECLARED, [TABLE | {"s": [b"a", b"b"]}])
    assert node.content.dtype["s"] == np.dtype("S40")


def test_each_field_is_widened_as_its_values_need_it():
    node = stored(DECLARED, [TABLE, TABLE | {"n": [2**40, 0.5]}], [1])
    assert node.content.dtype.descr == [("x", "<f8"), ("n", "<f8"), ("s", "<U64")]
    assert node.content["n"].tolist() == [[3, 4], [2**40, 0.5]]
    assert node.rebuilt == 1


def test_a_number_of_a_table_that_has_no_exact_form_is_noted_once():
    large = 2**53 + 1
    node = stored(DECLARED, [TABLE | {"n": [large, large]}, TABLE | {"n": [0.5, 1]}], [1])
    assert node.content["n"].tolist() == [[2.0**53] * 2, [0.5, 1]]
    (note,) = node.notes
    assert "has no exact form" in note


@pytest.mark.parametrize("sizes", [[], [1, 1]], ids=["at once", "one by one"])
def test_tables_of_several_lengths_are_json_with_a_list_for_each_column(sizes):
    short = {"x": [0.5], "n": [1], "s": ["b"]}
    node = stored(DECLARED, [TABLE, None, short], sizes)
    assert node.field.storage_form is StorageForm.JSON
    first, missing, last = node.rows
    assert json.loads(first) == TABLE | {"x": [1.5, 2.0]}
    assert (missing, json.loads(last)) == (None, short)


@pytest.mark.parametrize(
    "value",
    [
        {"x": [1], "n": [2]},
        {"x": [1], "n": [2], "z": ["a"]},
        TABLE | {"x": ["a", "b"]},
        TABLE | {"x": [1]},
        TABLE | {"x": [[1], [2, 3]]},
        "text",
        [[1, 2], [3, 4]],
        5,
    ],
    ids=str,
)
def test_what_is_no_such_table_is_left_out_and_noted(value):
    node = stored(DECLARED, [TABLE, value])
    assert node.content[1].tolist() == [(0, 0, "")] * 2
    assert "does not fit" in node.notes[0]


def test_a_record_may_be_a_scalar_and_have_arrays_as_fields():
    fields = [["a", "<i4"], ["b", "<f8", [2]]]
    declared = {"source": "s", "dtype": "array", "shape": [], "dtype_numpy": fields}
    node = stored(declared, [[1, [2.5, 3]], {"a": 4, "b": [5, 6]}])
    assert node.content["a"].tolist() == [1, 4]
    assert node.content["b"].tolist() == [[2.5, 3.0], [5.0, 6.0]]


@pytest.mark.parametrize("sizes", [[], [1, 1, 1]], ids=["at once", "one by one"])
def test_a_table_of_one_column_has_its_name_though_that_is_not_declared(sizes):
    declared = DECLARED | {"dtype_numpy": "|V8"}
    node = stored(declared, [None, {"x": np.array([1.5, 2])}, {"x": np.array([3.0, 4])}], sizes)
    assert node.content.dtype.descr == [("x", "<f8")]
    assert node.content["x"].tolist() == [[0, 0], [1.5, 2], [3, 4]]


def test_a_table_of_one_column_may_be_of_text():
    declared = DECLARED | {"dtype_numpy": "|V40"}
    node = stored(declared, [{"s": ["µm", "b"]}])
    assert node.content.tolist() == [[("µm",), ("b",)]]


numbers = st.sampled_from([0, 1, 0.5, 2**40, 2**53 + 1])
texts = st.sampled_from(["a", "µ", "b" * 50, b"c"])
columns = st.integers(0, 2).flatmap(
    lambda rows: st.fixed_dictionaries(
        {
            name: st.lists(items, min_size=rows, max_size=rows)
            for name, items in (("x", numbers), ("n", numbers), ("s", texts))
        }
    )
)


@quick
@given(
    values=st.lists(columns | st.none() | st.just("text"), min_size=1, max_size=5), sizes=batchings
)
def test_what_is_stored_of_tables_does_not_depend_on_batches(values, sizes):
    at_once, in_batches = stored(DECLARED, values), stored(DECLARED, values, sizes)
    assert in_batches.field.signature == at_once.field.signature
    assert in_batches.rows == at_once.rows
    assert in_batches.notes == at_once.notes
