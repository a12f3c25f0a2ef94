"""The order of the rows of a table, told by its columns: SQL itself has none.

PostgreSQL returns rows in any order it likes. Tiled sorts them by columns that the table names, so
these have to increase from each row to the next, in the order in which rows were measured.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .data_key import DeclaredKey, Source, StorageForm
from .notes import Deviations

BY_SEQ_NUM = ("seq_num",)
BY_TIME = ("time",)
BY_TIME_AND_SEQ_NUM = ("time", "seq_num")
_ORDERS = (BY_SEQ_NUM, BY_TIME, BY_TIME_AND_SEQ_NUM)
"""Columns by which a table may be sorted; each order is tried when the one before does not hold."""

ROW_NUMBER = "ts_row_number"
"""Name of the column that a table gets if none of these gives the order of its rows.

Readers take a column that does not begin with `ts_` for the data of a key.
"""


@dataclass(frozen=True)
class RowOrder:
    """Which columns increase from row to row, so far.

    `seq_num` does, unless a run is rewound to a checkpoint; and then times do, unless the clock
    steps back.
    """

    by_seq_num: bool = True
    by_time: bool = True
    by_both: bool = True
    last: tuple[float, float] | None = None  # seq_num and time of the last row

    def after(self, seq_nums: object, times: object) -> RowOrder:
        """Return the order of the rows with some more after them.

        Parameters
        ----------
        seq_nums, times : object
            Their parsed columns; anything but Arrow columns of numbers has no order.
        """
        columns = [_numbers(seq_nums), _numbers(times)]
        if columns[0] is None or columns[1] is None:
            return RowOrder(False, False, False, self.last)
        if not len(columns[0]):
            return self
        before = self.last or (-np.inf, -np.inf)
        n, t = (np.concatenate([[b], c]) for b, c in zip(before, columns, strict=True))
        later, higher = t[1:] > t[:-1], n[1:] > n[:-1]
        return RowOrder(
            self.by_seq_num and bool(higher.all()),
            self.by_time and bool(later.all()),
            self.by_both and bool((later | ((t[1:] == t[:-1]) & higher)).all()),
            (n[-1], t[-1]),
        )

    def columns(self, names: Collection[str]) -> tuple[str, ...] | None:
        """Return those of a table's columns that give the order; None if they do not."""
        if self.by_seq_num and "seq_num" in names:
            return BY_SEQ_NUM
        if self.by_time and "time" in names:
            return BY_TIME
        if self.by_both and "time" in names and "seq_num" in names:
            return BY_TIME_AND_SEQ_NUM
        return None

    def best_columns(self, names: Collection[str]) -> tuple[str, ...]:
        """Return those of a table's columns that come closest, if none gives the order."""
        return tuple(name for name in BY_TIME_AND_SEQ_NUM if name in names)


def supersedes(wanted: tuple[str, ...], found: tuple[str, ...]) -> bool:
    """Return True if a table is to be sorted in the wanted order, and no longer as it was found.

    A later one was found if an earlier process stored more of these rows: it holds for all of them.
    """
    if wanted not in _ORDERS or found not in _ORDERS:
        return wanted != found
    return _ORDERS.index(wanted) > _ORDERS.index(found)


def _numbers(column: object) -> np.ndarray | None:
    """Return a column as numbers in which two that differ still do; None if it has none."""
    if not isinstance(column, pa.Array) or column.null_count:
        return None
    values = column.to_numpy(zero_copy_only=False)
    return values if values.dtype.kind in "iuf" else None


class RowNumbers:
    """A column with the number of each row; it takes the part of a `Field` in a table."""

    source = Source.ROW_NUMBER
    key = ""
    storage_form = StorageForm.COLUMN
    signature = pa.int64()
    declared = DeclaredKey("", False, np.dtype("i8"), (), {})

    def __init__(self, name: str) -> None:
        self.name = name
        self.stored_in: str | None = None

    def batch(self, start: int, count: int) -> pa.Array:
        """Return the numbers of the rows of a batch."""
        return pa.array(np.arange(start, start + count, dtype=np.int64))

    def pack(self, parsed: pa.Array, start: int, deviations: Deviations) -> pa.Array:
        """Return the numbers as they are."""
        return parsed

    def absent(self, count: int) -> pa.Array:
        """Return the numbers of the rows that were stored before."""
        return self.batch(0, count)

    def again(self, content: Collection[object], deviations: Deviations) -> pa.Array:
        """Return the numbers of the rows of a node that is written anew."""
        return self.absent(len(content))

    def remember_form(self) -> None:
        """Do nothing: the form never changes."""

    def fix_form(self) -> None:
        """Do nothing: the form never changes."""

    def remember_blank(self, parsed: pa.Array, start: int) -> None:
        """Do nothing: no row lacks a number."""
