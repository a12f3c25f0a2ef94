from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.to_numpy import (
    depth_of,
    elements,
    ends_in_nul,
    is_faithful,
    regular_block,
)

from .values import any_number, arrays, equal, numbers, quick

texts = st.text("ab\0é", max_size=3)
leaves = st.one_of(numbers, any_number, texts, st.none(), st.binary(max_size=2))


def same_kind(a, b):
    """Return True if two values are equal, and both text or both numbers."""
    return equal(a, b) and isinstance(a, str | bytes) == isinstance(b, str | bytes)


@quick
@given(
    values=st.one_of(
        st.lists(st.lists(numbers, min_size=2, max_size=2), max_size=4),
        st.lists(st.lists(leaves, min_size=1, max_size=2), max_size=4),
        st.lists(leaves, max_size=4),
    )
)
def test_a_block_holds_the_values_as_they_came(values):
    block = regular_block(values)
    if block is not None:
        assert block.dtype.kind != "O"
        lists = [value if isinstance(value, list) else [value] for value in values]
        flat = [item for row in lists for item in row]
        assert all(map(same_kind, block.ravel().tolist(), flat))
        assert block.size == len(flat)


@quick
@given(values=st.lists(st.floats(width=64), min_size=1, max_size=5))
def test_floats_are_always_a_block(values):
    assert regular_block([values, values]).shape == (2, len(values))


@pytest.mark.parametrize(
    "values",
    [
        [1, "a"],
        [[1.5, 2**53 + 1]],
        [[1j, 2**60 + 1]],
        [["a\0"]],
        [[b"a\0"]],
        [[False, b"a"]],
        [[1], [1, 2]],
        [None],
        [[None, 1.0]],
        [],
        [{"a": 1}],
        [np.arange(2), np.arange(3)],
        [np.arange(2), np.arange(2.0)],
        np.array([None, 1]),
    ],
    ids=repr,
)
def test_values_that_numpy_would_change_are_no_block(values):
    assert regular_block(values) is None


def test_complex_numbers_are_a_block():
    assert regular_block([[1j, 2.5, 3]]).tolist() == [[1j, 2.5, 3]]


@quick
@given(row=arrays(max_size=4), count=st.integers(1, 3))
def test_arrays_of_one_type_and_shape_are_stacked(row, count):
    block = regular_block([row] * count)
    assert (block.dtype, block.shape) == (row.dtype, (count, len(row)))
    assert regular_block(block) is block


@quick
@given(items=st.lists(leaves, min_size=1, max_size=5))
def test_objects_keep_their_values_in_the_type_that_they_share(items):
    row = np.empty((1, len(items)), dtype=object)
    row[0] = items
    typed, exact = elements(row)
    assert typed.shape == row.shape
    found = typed[0].tolist()
    if all(isinstance(item, bool | int | float | complex) for item in items):
        assert typed.dtype.kind in "biufc"
        assert exact == all(map(equal, found, items))
    elif all(isinstance(item, str) for item in items):
        assert found == [item.rstrip("\0") for item in items]
    elif all(isinstance(item, bytes) for item in items):
        assert typed.dtype.kind == "S"
    elif any(isinstance(item, str | bytes) for item in items):
        assert typed.dtype.kind == "U"


@pytest.mark.parametrize(
    ("items", "dtype", "exact"),
    [
        ([True, False], "?", True),
        ([True, 2], "i8", True),
        ([1, 2**63], "u8", True),
        ([-1, 2**63], "f8", True),
        ([-1, 2**63 + 1], "f8", False),
        ([1.5, 2**53 + 1], "f8", False),
        ([1, None], "f8", True),
        ([2**70 + 1, None], "f8", False),
        ([10**400, -(10**400)], "f8", False),
        ([1, 1j], "c16", True),
        ([2**53 + 1, 1j], "c16", False),
    ],
)
def test_types_that_objects_share(items, dtype, exact):
    typed, found = elements(np.array(items, dtype=object))
    assert (typed.dtype, found) == (np.dtype(dtype), exact)


def test_an_integer_beyond_float64_is_infinite():
    assert elements(np.array([10**400, -(10**400)]))[0].tolist() == [np.inf, -np.inf]


@quick
@given(values=st.lists(st.one_of(numbers, texts), min_size=1, max_size=4))
def test_an_array_is_faithful_only_if_it_holds_the_values(values):
    try:
        block = np.array(values)
    except OverflowError:
        return
    if is_faithful(block, values):
        assert all(map(same_kind, block.tolist(), values))


def test_a_nul_at_the_end_is_found_at_any_depth():
    assert ends_in_nul([["a", ("b\0",)]])
    assert ends_in_nul(b"a\0")
    assert not ends_in_nul(["a\0b", b"", 1, None])


def test_the_depth_of_lists_is_that_of_their_first_items():
    assert [depth_of(value) for value in (1, [1], [[1], 2], [], [[]])] == [0, 1, 2, 0, 1]
