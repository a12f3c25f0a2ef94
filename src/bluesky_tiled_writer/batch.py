"""Rows that wait to be stored, as they came: single events and whole pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import repeat
from typing import Any

import numpy as np


class Source(Enum):
    """The part of an event that a column comes from."""

    SEQ_NUM = 0
    TIME = 1
    DATA = 2
    TIMESTAMPS = 3


class Page:
    """The columns of an event page.

    Parameters
    ----------
    seq_num, time : sequence
        One a row.
    data, timestamps : mapping of str to sequence
        One sequence a key, one value a row.
    """

    def __init__(
        self,
        seq_num: Sequence[Any],
        time: Sequence[Any],
        data: Mapping[str, Sequence[Any]],
        timestamps: Mapping[str, Sequence[Any]],
    ) -> None:
        self._columns = (seq_num, time, data, timestamps)

    def __len__(self) -> int:
        return len(self._columns[0])

    def column(self, source: Source, key: str) -> Sequence[Any]:
        """The values of one column; None throughout where the page has none."""
        part = self._columns[source.value]
        if isinstance(part, Mapping):
            return part[key] if key in part else list(repeat(None, len(self)))
        return part


class Rows:
    """Single events, in order, as flat lists: the values of one event after those of another.

    That costs the caller of an event next to nothing, makes no object per event for Python's
    garbage collector to look at, and gives columns as strided slices.

    Parameters
    ----------
    keys : tuple of str
        The data keys, in the order in which the values of each event are added.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self.seq_num: list[Any] = []
        self.time: list[Any] = []
        self.data: list[Any] = []
        self.timestamps: list[Any] = []

    def __len__(self) -> int:
        return len(self.seq_num)

    def column(self, source: Source, key: str) -> Sequence[Any]:
        """The values of one column; None throughout where the events have none."""
        if source is Source.SEQ_NUM:
            return self.seq_num
        if source is Source.TIME:
            return self.time
        if key not in self.keys:
            return list(repeat(None, len(self)))
        flat = self.data if source is Source.DATA else self.timestamps
        return flat[self.keys.index(key) :: len(self.keys)]


class Batch:
    """Rows of one stream that are stored together: a fixed sequence of pages and events.

    Parameters
    ----------
    segments : sequence of Rows or Page
        The rows, in order.
    nbytes : int
        About how much memory they take.
    """

    def __init__(self, segments: Sequence[Rows | Page], nbytes: int = 0) -> None:
        self.segments = segments
        self.nbytes = nbytes
        self._length = sum(map(len, segments))

    def __len__(self) -> int:
        return self._length

    def column(self, source: Source, key: str = "") -> Sequence[Any]:
        """The values of one column over all segments."""
        columns = [segment.column(source, key) for segment in self.segments]
        if len(columns) == 1:
            return columns[0]
        if all(isinstance(column, np.ndarray) for column in columns):
            shapes = {(column.dtype, column.shape[1:]) for column in columns}  # type: ignore[attr-defined]
            if len(shapes) == 1:
                return np.concatenate(columns)  # type: ignore[return-value]
        values: list[Any] = []
        for column in columns:
            values.extend(column)
        return values
