"""Rows as they came, single events and whole pages, and the batches they are stored in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from bluesky_tiled_writer.schema import Source

BYTES_PER_CELL = 32
"""About what a number in a list takes: the object, and its place in the list."""


class Page:
    """The columns of an event page.

    Parameters
    ----------
    seq_num, time : sequence
        One value per row.
    data, timestamps : mapping of str to sequence
        One sequence per key, one value per row.
    sized_bytes : int
        About how many bytes the values take beyond those of numbers.
    """

    def __init__(
        self,
        seq_num: Sequence[Any],
        time: Sequence[Any],
        data: Mapping[str, Sequence[Any]],
        timestamps: Mapping[str, Sequence[Any]],
        sized_bytes: int = 0,
    ) -> None:
        self._columns = (seq_num, time, data, timestamps)
        width = 2 + len(data) + len(timestamps)
        self.nbytes = len(seq_num) * width * BYTES_PER_CELL + sized_bytes

    def __len__(self) -> int:
        return len(self._columns[0])

    def column(self, source: Source, key: str) -> Sequence[Any]:
        """Return the values of one column; None throughout where the page has none."""
        part = self._columns[source.value]
        if isinstance(part, Mapping):
            return part[key] if key in part else [None] * len(self)
        return part


class EventRows:
    """Single events, in order, in one flat list: the cells of one event after those of another.

    That costs the caller of an event next to nothing, makes no object per event for Python's
    garbage collector to look at, and gives columns as strided slices.

    Parameters
    ----------
    keys : tuple of str
        The data keys.

    Attributes
    ----------
    cells : list
        Of each event `seq_num`, `time`, the values, then the timestamps, both in the order of the
        keys.
    count, width : int
        Data keys, and cells, per event.
    sized_bytes : int
        About how many bytes the values take beyond those of numbers.
    pick : callable
        Returns the values of all keys of a mapping, in order; raises KeyError if it lacks one.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self.cells: list[Any] = []
        self.count = len(keys)
        self.width = 2 + 2 * self.count
        self.sized_bytes = 0
        self.pick: Callable[[Mapping[str, Any]], Sequence[Any]]
        if len(keys) > 1:
            self.pick = itemgetter(*keys)
        elif keys:  # an itemgetter of one key returns no tuple
            (key,) = keys
            self.pick = lambda values: (values[key],)
        else:
            self.pick = lambda values: ()

    def __len__(self) -> int:
        return len(self.cells) // self.width

    @property
    def row_bytes(self) -> int:
        """About how many bytes a row takes if all its values are numbers."""
        return self.width * BYTES_PER_CELL

    @property
    def nbytes(self) -> int:
        """About how many bytes the rows take."""
        return len(self.cells) * BYTES_PER_CELL + self.sized_bytes

    def column(self, source: Source, key: str) -> Sequence[Any]:
        """Return the values of one column; None throughout where the events have none."""
        if source in (Source.SEQ_NUM, Source.TIME):
            first = source.value
        elif key not in self.keys:
            return [None] * len(self)
        else:
            first = 2 + self.keys.index(key)
            if source is Source.TIMESTAMPS:
                first += len(self.keys)
        return self.cells[first :: self.width]


class Batch:
    """Rows of one stream that are stored together: a fixed sequence of pages and events.

    Parameters
    ----------
    segments : sequence of EventRows or Page
        The rows, in order. They do not change any more.

    Attributes
    ----------
    nbytes : int
        About how many bytes of memory they take.
    """

    def __init__(self, segments: Sequence[EventRows | Page]) -> None:
        self.segments = segments
        self.nbytes = sum(segment.nbytes for segment in segments)
        self._length = sum(map(len, segments))

    def __len__(self) -> int:
        return self._length

    def column(self, source: Source, key: str = "") -> Sequence[Any]:
        """Return the values of one column over all segments."""
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
