"""`RowOrder`: which columns give the order of the rows, whatever batches they come in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema import RowNumbers, RowOrder
from bluesky_tiled_writer.schema.notes import Deviations

BOTH = ["seq_num", "time", "x"]
ROWS = st.lists(
    st.tuples(st.integers(-3, 6), st.sampled_from([0.0, 1.0, 2.0, 3.5, 4.0])), max_size=8
)


def order_of(rows: list[tuple[int, float]], batch: int = 100) -> RowOrder:
    order = RowOrder()
    for start in range(0, max(1, len(rows)), batch):
        part = rows[start : start + batch]
        numbers = pa.array([n for n, _ in part], pa.int64())
        order = order.after(numbers, pa.array([t for _, t in part], pa.float64()))
    return order


@given(ROWS, st.integers(1, 9))
def test_sorting_by_the_columns_gives_the_rows_as_measured(
    rows: list[tuple[int, float]], batch: int
) -> None:
    columns = order_of(rows, batch).columns(BOTH)
    values = {"seq_num": [n for n, _ in rows], "time": [t for _, t in rows]}
    if columns is None:
        assert sorted(set(values["seq_num"])) != values["seq_num"]
        return
    keys = list(zip(*(values[name] for name in columns), strict=True))
    assert keys == sorted(set(keys))


@given(ROWS, st.integers(1, 9), st.integers(1, 9))
def test_the_outcome_does_not_depend_on_batches(
    rows: list[tuple[int, float]], one: int, other: int
) -> None:
    assert order_of(rows, one) == order_of(rows, other)


@given(ROWS, st.integers(0, 8))
def test_the_order_of_all_rows_is_one_of_the_first_rows_as_well(
    rows: list[tuple[int, float]], first: int
) -> None:
    columns, before = order_of(rows).columns(BOTH), order_of(rows[:first])
    if columns is not None:
        assert before.columns([*columns]) is not None


@pytest.mark.parametrize(
    ("rows", "names", "columns"),
    [
        ([(1, 0.0), (2, 0.0)], BOTH, ("seq_num",)),
        ([(1, 0.0), (2, 1.0)], ["time"], ("time",)),
        ([(1, 0.0), (2, 0.0)], ["time"], None),
        ([(1, 0.0), (2, 1.0), (1, 2.0)], BOTH, ("time",)),
        ([(1, 0.0), (2, 1.0), (1, 2.0), (2, 2.0)], BOTH, ("time", "seq_num")),
        ([(1, 0.0), (2, 5.0), (3, 4.0)], BOTH, ("seq_num",)),
        ([(1, 0.0), (2, 5.0), (1, 4.0)], BOTH, None),
        ([(1, float("nan")), (2, 0.0)], BOTH, ("seq_num",)),
        ([(1, 0.0), (2, 1.0)], ["x"], None),
    ],
)
def test_order_by_example(
    rows: list[tuple[int, float]], names: list[str], columns: tuple[str, ...] | None
) -> None:
    assert order_of(rows).columns(names) == columns


@pytest.mark.parametrize(
    "numbers",
    [pa.array([1, None]), pa.array(["1", "2"]), np.array([1, 2]), [1, 2]],
    ids=["empty cell", "text", "array node", "ragged"],
)
def test_what_is_no_column_of_numbers_has_no_order(numbers: object) -> None:
    assert RowOrder().after(numbers, pa.array([1.0, 2.0])).columns(BOTH) is None


def test_numbers_of_rows_go_on_from_batch_to_batch() -> None:
    field, noted = RowNumbers("n"), Deviations()
    assert field.batch(3, 2).to_pylist() == [3, 4]
    assert field.absent(2).to_pylist() == [0, 1]
    assert field.again([None] * 3, noted).to_pylist() == [0, 1, 2]
