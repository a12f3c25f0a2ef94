"""Rows by their number: row numbers count the rows of a stream from 0.

`seq_num` cannot identify a row, since it repeats when a scan is paused and resumed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class RowRanges:
    """A set of row numbers that grows at its end, stored as ranges."""

    def __init__(self) -> None:
        self._ranges: list[list[int]] = []  # [first, end), in order

    def extend(self, row_numbers: Iterable[int]) -> None:
        """Add row numbers in ascending order; those before the end of the set are ignored."""
        for row_number in row_numbers:
            if not self._ranges or row_number > self._ranges[-1][1]:
                self._ranges.append([row_number, row_number + 1])
            elif row_number == self._ranges[-1][1]:
                self._ranges[-1][1] += 1

    def __iter__(self) -> Iterator[int]:
        for start, stop in self._ranges:
            yield from range(start, stop)

    @property
    def ranges(self) -> list[range]:
        """The row numbers, in as few ranges as possible."""
        return [range(start, stop) for start, stop in self._ranges]


class SeqNums:
    """The `seq_num` of each row, stored for the rows only at which it does not count up by one."""

    def __init__(self) -> None:
        self._row_numbers: list[int] = []
        self._values: list[int] = []
        self._count = 0

    def extend(self, seq_nums: Sequence[int]) -> None:
        """Add the `seq_num` of the next rows."""
        if not len(seq_nums):
            return
        values = np.asarray(seq_nums)
        jumps = np.flatnonzero(np.diff(values) != 1) + 1
        for index in (0, *jumps.tolist()):
            row_number, value = self._count + index, int(values[index])
            if index or not self._count or value != self[row_number]:
                self._row_numbers.append(row_number)
                self._values.append(value)
        self._count += len(values)

    def split(self, rows: range) -> Iterator[range]:
        """Split a range of rows wherever their `seq_num` does not count up by one."""
        start = rows.start
        for jump in self._row_numbers[bisect_right(self._row_numbers, start) :]:
            if jump >= rows.stop:
                break
            yield range(start, jump)
            start = jump
        yield range(start, rows.stop)

    def __getitem__(self, row_number: int) -> int:
        index = bisect_right(self._row_numbers, row_number) - 1
        return self._values[index] + row_number - self._row_numbers[index]
