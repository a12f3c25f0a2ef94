from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.array_type import ArrayShape, ArrayType
from bluesky_tiled_writer.schema.widening import TypeRequirements

from .values import any_numeric_types, arrays, quick

texts = st.lists(st.text("abé", min_size=1, max_size=40), min_size=1, max_size=3).map(np.array)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
patterns = st.none() | st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=3).map(tuple)


def type_of(values, declared=None):
    found = ArrayType(declared, TypeRequirements())
    for value in values:
        found.account(value)
    return found


@quick
@given(data=st.data(), declared=st.one_of(st.none(), any_numeric_types, st.just(np.dtype("U5"))))
def test_the_type_depends_on_the_set_of_arrays(data, declared):
    one = texts if declared is not None and declared.kind == "U" else arrays()
    values = data.draw(st.lists(one | texts if declared is None else one, max_size=5))
    shuffled = data.draw(st.permutations(values))
    assert type_of(values, declared).dtype == type_of(shuffled, declared).dtype


@quick
@given(values=st.lists(texts, min_size=1, max_size=4), width=st.integers(0, 20))
def test_text_is_as_wide_as_declared_or_as_it_takes(values, width):
    longest = max(len(text) for value in values for text in value)
    dtype = type_of(values, np.dtype(f"U{width}")).dtype
    assert dtype.itemsize // 4 >= longest
    if longest <= width:
        assert dtype == np.dtype(f"U{width}")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([], "f8"),
        ([[True]], "?"),
        ([[True], [1]], "f8"),
        ([[1j]], "c16"),
        ([["a"]], "U16"),
        ([["a" * 17]], "U32"),
        ([["a"], [1.5]], "U32"),
        ([["a"], [1.5 + 1j]], "U64"),
    ],
)
def test_types_of_undeclared_arrays(values, dtype):
    assert type_of(map(np.array, values)).dtype == np.dtype(dtype)


@pytest.mark.parametrize("number", [-2.2250738585072014e-308, -1.2345678901234567e-300 * (1 + 1j)])
def test_any_number_has_room_as_text(number):
    wide = type_of([np.array(["a"]), np.array([number])]).dtype
    assert len(repr(number)) <= wide.itemsize // 4


def shape_of(values, declared=None):
    found = ArrayShape(declared)
    for value in values:
        found.account(value, has_elements=0 not in value)
    return found


@quick
@given(data=st.data(), declared=patterns, values=st.lists(shapes, min_size=1, max_size=5))
def test_the_shape_depends_on_the_set_of_shapes(data, declared, values):
    found = shape_of(values, declared)
    other = shape_of(data.draw(st.permutations(values)), declared)
    assert found.is_irregular == other.is_irregular
    if not found.is_irregular:
        assert (found.row, found.is_ragged) == (other.row, other.is_ragged)


@quick
@given(declared=patterns, values=st.lists(shapes, max_size=5))
def test_the_shape_is_that_of_every_array(declared, values):
    found = shape_of(values, declared)
    dimensions = {len(shape) for shape in values if shape and 0 not in shape}
    least = max((len(shape) for shape in values if 0 in shape), default=0)
    assert found.is_irregular == (
        len(dimensions) > 1 or (bool(dimensions) and least > max(dimensions))
    )
    if found.row is None:
        assert not values
        return
    if found.is_irregular:
        return
    for shape in values:
        sizes = shape or (1,) * len(found.row)
        if 0 in sizes:  # what an empty list is a list of has no size
            sizes = sizes[: sizes.index(0) + 1]
        assert all(size in (None, n) for size, n in zip(found.row, sizes, strict=False))
    assert found.is_ragged == (None in found.row)
    assert 0 not in found.row or None in (declared or ())
    assert len(found.fill) == len(found.row)
    if not found.is_ragged:
        assert found.fill == found.row
