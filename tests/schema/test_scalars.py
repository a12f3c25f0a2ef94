from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.data_key import TEXT
from bluesky_tiled_writer.schema.notes import Deviations
from bluesky_tiled_writer.schema.scalars import ScalarEncoder, arrow_type

from .values import (
    NUMERIC,
    any_number,
    arrays,
    batchings,
    equal,
    in_batches,
    numbers,
    numeric_types,
    quick,
)

odd = st.one_of(
    numbers,
    st.none(),
    st.sampled_from(["abc", b"a", [1], {"a": 1}, np.float32(0.1), np.int16(3), np.array(2.5)]),
)


def encode(declared, values, start=0):
    encoder, deviations = ScalarEncoder("x", declared), Deviations()
    return encoder, encoder.encode(values, start, deviations), deviations.notes("s", int)


def noted_rows(notes):
    return {int(note.split("seq_num ")[1].split(":")[0]) for note in notes}


@quick
@given(declared=numeric_types, values=st.lists(odd, max_size=6))
def test_a_value_is_in_its_cell_exactly_or_is_noted(declared, values):
    encoder, column, notes = encode(declared, values)
    assert column is not None
    assert column.type == encoder.arrow_type
    for i, (value, cell) in enumerate(zip(values, column.to_pylist(), strict=True)):
        plain = value.item() if isinstance(value, np.ndarray | np.generic) else value
        plain = plain[0] if isinstance(plain, list) else plain  # an array of one
        assert equal(cell, plain) or i in noted_rows(notes)
        if not isinstance(plain, bool | int | float):
            assert cell is None
            assert (i in noted_rows(notes)) == (value is not None)
        elif not equal(cell, plain):  # the nearest one
            assert math.isclose(cell, plain) if abs(plain) < 1e308 else math.isinf(cell)


@quick
@given(declared=numeric_types, values=st.lists(numbers, max_size=6))
def test_of_numbers_that_fit_none_is_noted(declared, values):
    encoder, column, notes = encode(declared, values)
    if encoder.dtype != np.dtype("f8"):
        assert notes == []
        assert all(map(equal, column.to_pylist(), values))


@quick
@given(data=st.data(), declared=numeric_types, sizes=batchings)
def test_the_type_of_the_column_does_not_depend_on_batches(data, declared, sizes):
    values = data.draw(st.lists(st.one_of(any_number, st.none()), max_size=6))
    expected, _, _ = encode(declared, values)
    shuffled = data.draw(st.permutations(values))
    encoder = ScalarEncoder("x", declared)
    for start, batch in in_batches(shuffled, sizes):
        encoder.encode(batch, start, Deviations())
    assert encoder.dtype == expected.dtype
    if expected.dtype.kind in "iu" or encoder.dtype.kind == "c":
        assert encoder.fits_column == expected.fits_column


@quick
@given(declared=numeric_types, values=arrays(st.sampled_from(NUMERIC)))
def test_an_array_of_numbers_is_encoded_as_a_list_of_them(declared, values):
    encoder, column, notes = encode(declared, values)
    expected_encoder, expected, expected_notes = encode(declared, values.tolist())
    assert (encoder.dtype, notes) == (expected_encoder.dtype, expected_notes)
    assert column.type == expected.type
    assert equal(column.to_pylist(), expected.to_pylist())


@quick
@given(values=st.lists(st.one_of(st.text(st.characters(exclude_categories=())), st.none())))
def test_text_is_stored_as_it_is_unless_it_has_lone_surrogates(values):
    _, column, notes = encode(TEXT, values)
    for i, (value, cell) in enumerate(zip(values, column.to_pylist(), strict=True)):
        broken = value is not None and any("\ud800" <= c <= "\udfff" for c in value)
        assert cell == (None if broken else value)
        assert (i in noted_rows(notes)) == broken if i < 100 else True


def test_what_is_not_text_is_stored_as_text_and_noted():
    _, column, notes = encode(TEXT, ["a", 5, b"b", {"c": 1.5}, True])
    assert column.to_pylist() == ["a", "5", "b", '{"c": 1.5}', "true"]
    assert noted_rows(notes) == {1, 2, 3, 4}
    _, _, notes = encode(TEXT, ["a", b"b"])  # which Arrow takes for text
    assert noted_rows(notes) == {1}


def test_rows_are_noted_by_their_number_in_the_stream():
    _, _, notes = encode(np.dtype("f8"), [1.5, "a"], start=40)
    assert noted_rows(notes) == {41}


def test_an_integer_column_with_gaps_and_large_numbers_is_unreadable():
    large = 2**53 + 1
    for values in ([large, None], [None, large], [None, -large]):
        assert not encode(np.dtype("i8"), values)[0].fits_column
        encoder = ScalarEncoder("x", np.dtype("i8"))
        for start, value in enumerate([*values, 1]):
            encoder.encode([value], start, Deviations())
        assert not encoder.fits_column
    for values in ([large, 1], [2**53, None], [None, None]):
        assert encode(np.dtype("i8"), values)[0].fits_column


@pytest.mark.parametrize("first", [[2**64 - 1], np.array([2**64 - 1], "u8")], ids=type)
def test_a_negative_number_after_large_unsigned_ones_makes_floats(first):
    encoder = ScalarEncoder("x", np.dtype("u8"))
    encoder.encode(first, 0, Deviations())
    assert encoder.dtype == np.dtype("u8")
    encoder.encode([-1], 1, Deviations())
    assert encoder.dtype == np.dtype("f8")


def test_complex_numbers_have_no_column():
    encoder, column, _ = encode(np.dtype("f8"), [1.5, 1j])
    assert column is None
    assert encoder.dtype == np.dtype("c16")
    assert not encoder.fits_column


def test_an_integer_beyond_float64_is_infinite_and_noted():
    _, column, notes = encode(np.dtype("f8"), [10**400, -(10**400)])
    assert column.to_pylist() == [math.inf, -math.inf]
    assert noted_rows(notes) == {0, 1}


def test_columns_are_in_native_byte_order():
    assert arrow_type(np.dtype(">i4")) == pa.int32()
    assert encode(np.dtype(">f8"), [1.5])[1].to_pylist() == [1.5]
