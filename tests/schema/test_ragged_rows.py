from __future__ import annotations

import itertools

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.ragged_rows import RaggedRows, in_columns

from .values import quick

sizes = st.integers(0, 3)
shapes = st.lists(st.one_of(st.none(), st.integers(1, 3)), min_size=1, max_size=3).filter(
    lambda shape: None in shape
)


@st.composite
def ragged(draw, dtype="i8"):
    """Rows of one shape, where each row has its own size for None."""
    shape = tuple(draw(shapes))
    rows, count = [], 0
    for _ in range(draw(st.integers(0, 4))):
        actual = [draw(sizes) if size is None else size for size in shape]
        row = np.arange(count, count + np.prod(actual, dtype=int)).reshape(actual)
        count += row.size
        rows.append(row.astype(dtype))
    return RaggedRows(rows, np.dtype(dtype), shape)


def rebuilt(levels, values):
    """Nest the values again, from the innermost dimension outwards."""
    nested = values.tolist()
    for level in reversed(levels):
        if isinstance(level, int):
            nested = [nested[i : i + level] for i in range(0, len(nested), level)]
        else:
            nested = [nested[a:b] for a, b in itertools.pairwise(level)]
    return nested


@quick
@given(rows=ragged())
def test_offsets_and_values_make_the_rows_again(rows):
    levels, values = in_columns(rows)
    assert rebuilt(levels, values) == [row.tolist() for row in rows.rows]
    last = len(levels) - 1
    assert rows.shape[last] is None
    assert None not in rows.shape[last + 1 :]
    assert values.shape[1:] == rows.shape[last + 1 :]
    assert all(size == level for size, level in zip(rows.shape, levels, strict=False) if size)


@quick
@given(rows=ragged("f4"))
def test_awkward_reads_offsets_and_values_as_the_rows(rows):
    levels, values = in_columns(rows)
    layout = ak.contents.NumpyArray(values)
    for depth, level in reversed(list(enumerate(levels))):
        if isinstance(level, int):
            outer = levels[depth - 1] if depth else None
            zeros = int(outer[-1]) if isinstance(outer, np.ndarray) else len(rows)
            layout = ak.contents.RegularArray(layout, level, zeros_length=zeros)
        else:
            layout = ak.contents.ListOffsetArray(ak.index.Index64(level), layout)
    assert ak.to_list(ak.Array(layout)) == [row.tolist() for row in rows.rows]


@quick
@given(rows=ragged(), count=st.integers(0, 5))
def test_rows_are_split_at_any_row(rows, count):
    first, since = rows.first(count), rows.since(count)
    assert len(first) == min(count, len(rows))
    assert [*first.rows, *since.rows] == list(rows.rows)
    assert {(part.dtype, part.shape) for part in (first, since)} == {(rows.dtype, rows.shape)}


@pytest.mark.parametrize("name", ["i8", "longlong", "intc", "u8", "f4"])
def test_values_have_the_type_that_its_name_says(name):
    # numpy's long and long long are equal, but a reader of the buffer may know one of them only.
    dtype = np.dtype(name)
    _, values = in_columns(RaggedRows([np.arange(2, dtype=dtype)], dtype, (None,)))
    assert values.dtype.char == np.dtype(dtype.str).char
