from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.arrays import ArrayEncoder
from bluesky_tiled_writer.schema.data_key import DeclaredKey, StorageForm
from bluesky_tiled_writer.schema.limits import ServerLimits
from bluesky_tiled_writer.schema.notes import Deviations
from bluesky_tiled_writer.schema.ragged_rows import RaggedRows

from .model import plain
from .values import NUMERIC, arrays, numbers, quick

ARRAY, RAGGED, LIST, JSON = (
    StorageForm.ARRAY,
    StorageForm.RAGGED,
    StorageForm.LIST,
    StorageForm.JSON,
)


def encoder(dtype=None, shape=None, *, refused=(), **options):
    limits = ServerLimits()
    for what in refused:
        limits.learn(what)
    declared = DeclaredKey("x", True, None if dtype is None else np.dtype(dtype), shape, {})
    return ArrayEncoder(declared, limits, **options)


def encode(values, dtype=None, shape=None, **options):
    """Return the form, the element type, the rows and the notes of one batch."""
    found, deviations = encoder(dtype, shape, **options), Deviations()
    packed = found.pack(found.absorb(values, 0, deviations), 0, deviations)
    return found.storage_form, found.dtype.str, rows_of(packed), deviations.notes("s", int)


def rows_of(packed):
    if isinstance(packed, pa.Array):
        return packed.to_pylist()
    rows = packed.rows if isinstance(packed, RaggedRows) else packed
    return [row.tolist() for row in rows]


@pytest.mark.parametrize(
    ("values", "declared", "form", "dtype", "rows"),
    [
        ([[1, 2]], ("<f8", (2,)), ARRAY, "<f8", [[1.0, 2.0]]),
        ([[1, 2.5]], ("<i4", (2,)), ARRAY, "<f8", [[1.0, 2.5]]),
        ([[1], [1, 2]], ("<i4", (1,)), RAGGED, "<i4", [[1], [1, 2]]),
        ([[]], ("<i4", (1,)), RAGGED, "<i4", [[]]),
        ([[1, 2]], ("<i4", (None,)), RAGGED, "<i4", [[1, 2]]),
        ([[[1, 2]], [[3, 4], [5, 6]]], ("<i4", (None, 2)), RAGGED, "<i4",
         [[[1, 2]], [[3, 4], [5, 6]]]),
        ([[True, False]], (None, None), ARRAY, "|b1", [[True, False]]),
        ([[True], [2]], (None, None), ARRAY, "<f8", [[1.0], [2.0]]),
        ([["a"], ["b" * 17]], (None, (1,)), ARRAY, "<U32", [["a"], ["b" * 17]]),
        ([["a"], [0.12345678901234]], (None, (1,)), ARRAY, "<U32", [["a"], ["0.12345678901234"]]),
        ([["a"], [1]], (None, (1,)), ARRAY, "<U32", [["a"], ["1.0"]]),
        ([["a", "b"], ["c"]], (None, (2,)), JSON, "<U16", ['["a", "b"]', '["c"]']),
        ([[1, [2, 3]]], (None, (2,)), JSON, "<f8", ["[1, [2, 3]]"]),
        ([[1], [[2]]], (None, None), JSON, "<f8", ["[1.0]", "[[2.0]]"]),
        ([["abc"]], ("|S2", (1,)), ARRAY, "<U16", [["abc"]]),
        ([[b"abc"]], ("|S2", (1,)), ARRAY, "|S16", [[b"abc"]]),
        ([[[1, 2.5]]], ([("a", "<i4"), ("b", "<f8")], (1,)), ARRAY, "|V12", [[(1, 2.5)]]),
    ],
)  # fmt: skip
def test_arrays_are_stored_in_the_form_that_holds_them_all(values, declared, form, dtype, rows):
    assert encode(values, *declared) == (form, dtype, rows, [])


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("<f4", [np.nan] * 2),
        ("<c16", [complex(np.nan, 0)] * 2),
        ("<i4", [0, 0]),
        ("?", [False, False]),
        ("<U3", ["", ""]),
        ("<M8[s]", [None, None]),
        ([("a", "<i4"), ("b", "<f8")], [(0, 0.0)] * 2),
    ],
    ids=str,
)
def test_a_row_without_a_value_has_fill_values(dtype, fill):
    _, _, rows, notes = encode([None], dtype, (2,))
    assert repr(plain(rows[0])) == repr(plain(fill)) or np.isnan(rows[0]).all()
    assert notes == []  # a field notes those, see test_field.py


def test_what_does_not_fit_leaves_a_row_of_fill_values_and_a_note():
    form, _, rows, notes = encode([[1], ["a"], {"b": 2}, "c"], "<i4", (1,))
    assert (form, rows) == (ARRAY, [[1], [0], [0], [0]])
    assert [note.split(": ")[1].split(" does")[0] for note in notes[:1]] == ["['a']"]
    assert len(notes) == 3


real = arrays(st.sampled_from(NUMERIC))


@pytest.mark.parametrize("options", [{}, {"max_list": -1}, {"refused": ["ragged"]}], ids=str)
@quick
@given(values=st.lists(real, min_size=1, max_size=4))
def test_numbers_are_exact_or_noted_in_every_form(options, values):
    form, _, rows, notes = encode(values, "<f8", (2,), **options)
    for i, (value, row) in enumerate(zip(values, rows, strict=True)):
        found = json.loads(row) if form is JSON else row
        exact = plain(found) == plain(value.tolist())
        assert exact or any(f"seq_num {i}:" in note for note in notes)


@quick
@given(values=st.lists(arrays(st.just(np.dtype("c8"))), min_size=1, max_size=4))
def test_complex_numbers_are_exact_or_text(values):
    form, _, rows, notes = encode(values, "<c16", (2,))
    if form is ARRAY:
        assert plain(np.real(rows).tolist()) == plain(np.real(values).tolist())
        assert plain(np.imag(rows).tolist()) == plain(np.imag(values).tolist())
    else:
        assert form is JSON
        for value, row in zip(values, rows, strict=True):
            found = [complex(text) for text in json.loads(row)]
            assert np.array_equal(found, value, equal_nan=True)
    assert notes == []


@quick
@given(values=st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=1, max_size=4))
def test_a_list_column_notes_what_an_array_node_notes(values):
    array, listed = encode(values, "<f4", (2,)), encode(values, "<f4", (2,), max_list=2)
    assert (array[0], listed[0]) == (ARRAY, LIST)
    assert plain(array[2]) == plain(listed[2])
    assert array[3] == listed[3]


@pytest.mark.parametrize(
    ("refused", "dtype", "shape", "options", "form"),
    [
        ((), "<f8", (2,), {"max_list": 2}, LIST),
        ((), "<f8", (3,), {"max_list": 2}, ARRAY),
        ((), "<f8", (3,), {"max_list": -1}, LIST),
        ((), "<f8", (None,), {"max_list": 2}, RAGGED),
        ((), "<f8", (None,), {"max_list": -1}, LIST),
        ((), "<U3", (2,), {"max_list": -1}, ARRAY),
        ((), "<c8", (2,), {"max_list": -1}, ARRAY),
        (["lists"], "<f8", (2,), {"max_list": 2}, ARRAY),
        (["u8"], "<u8", (2,), {"max_list": 2}, ARRAY),
        ((), "<f8", (None,), {}, RAGGED),
        (["ragged"], "<f8", (None,), {}, JSON),
        (["ragged u8"], "<u8", (None,), {}, JSON),
        (["ragged u8"], "<i8", (None,), {}, RAGGED),
        ((), "<c8", (None,), {}, JSON),
        ((), "<U3", (None,), {}, JSON),
    ],
)
def test_the_form_follows_settings_and_limits(refused, dtype, shape, options, form):
    assert encoder(dtype, shape, refused=refused, **options).storage_form is form


def test_a_key_without_type_and_shape_is_known_by_its_first_array():
    found = encoder()
    found.absorb([None], 0, Deviations())
    assert not found.known
    found.absorb([[[1, 2]]], 1, Deviations())
    assert (found.known, found.shape, found.storage_form) == (True, (1, 2), ARRAY)


def test_a_key_that_never_had_a_value_ends_as_rows_of_no_elements():
    found = encoder()
    found.settle()
    packed = found.pack(found.absorb([None, None], 0, Deviations()), 0, Deviations())
    assert (found.storage_form, found.shape) == (RAGGED, (None,))
    assert [row.shape for row in packed.rows] == [(0,), (0,)]


def test_ragged_nodes_have_no_half_floats_and_no_foreign_byte_order():
    assert encoder("<f2", (None,)).ragged_dtype == np.dtype("f4")
    assert encoder(">i4", (None,)).ragged_dtype.str == np.dtype("i4").str


def test_a_text_that_numpy_cuts_is_noted():
    _, _, rows, notes = encode([["a\0"]], "<U3", (1,))
    assert rows == [["a"]]
    assert "has no exact form" in notes[0]
