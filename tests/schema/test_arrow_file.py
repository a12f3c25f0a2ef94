from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.arrow_file import (
    column_groups,
    join_columns,
    read_arrow_file,
    to_arrow_file,
)


def test_a_table_is_read_as_it_was_written_lists_and_empty_cells_included():
    table = pa.table(
        {
            "x": pa.array([1, None, 2**64 - 1], pa.uint64()),
            "y": pa.array([[1.5], None, []], pa.list_(pa.float64())),
            "z": pa.array(["a", None, "é"]),
        }
    )
    assert read_arrow_file(to_arrow_file(table)).equals(table)


def test_a_table_without_rows_keeps_its_columns():
    schema = pa.schema([("x", pa.int32())])
    read = read_arrow_file(to_arrow_file(schema.empty_table()))
    assert (len(read), read.schema) == (0, schema)


def test_what_is_no_arrow_file_is_refused():
    with pytest.raises(pa.ArrowInvalid):
        read_arrow_file(b"<html>Bad gateway</html>")


@given(
    columns=st.lists(st.text("abcdef", min_size=1, max_size=3), max_size=20, unique=True),
    rows=st.integers(1, 50),
    cells=st.integers(1, 200),
)
def test_groups_hold_every_column_once_and_few_enough_cells(columns, rows, cells):
    groups = column_groups(columns, rows, cells=cells)
    assert [name for group in groups for name in group] == columns
    assert all(len(group) == 1 or len(group) * rows <= cells for group in groups)
    # As few groups as that takes.
    assert all((len(group) + 1) * rows > cells for group in groups[:-1])


def test_columns_stand_side_by_side_in_the_order_of_their_groups():
    table = pa.table({"b": [1, 2], "a": ["x", None], "c": [0.5, 1.5]})
    groups = column_groups(table.column_names, len(table), cells=4)
    assert groups == [["b", "a"], ["c"]]
    assert join_columns(table.select(group) for group in groups).equals(table)


def test_tables_of_different_length_are_not_joined():
    with pytest.raises(pa.ArrowInvalid):
        join_columns([pa.table({"a": [1, 2]}), pa.table({"b": [1]})])


def test_no_tables_make_a_table_without_columns():
    assert join_columns([]).equals(pa.table({}))


def test_an_empty_table_is_one_group():
    assert column_groups(["a", "b"], 0, cells=2) == [["a", "b"]]
