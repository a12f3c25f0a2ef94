"""EventRows that wait to be stored, as they came: single events and whole pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np

from bluesky_tiled_writer.schema import Source


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
    width : int
        Cells of an event.
    pick : callable
        Gives the values of all keys of a mapping, in order; a KeyError if it lacks one.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self.cells: list[Any] = []
        self.width = 2 + 2 * len(keys)
        self.pick: Callable[[Mapping[str, Any]], Sequence[Any]]
        if len(keys) > 1:
            self.pick = itemgetter(*keys)
        else:  # of which an itemgetter gives no tuple
            self.pick = lambda values: [values[key] for key in keys]

    def __len__(self) -> int:
        return len(self.cells) // self.width

    def column(self, source: Source, key: str) -> Sequence[Any]:
        """The values of one column; None throughout where the events have none."""
        if source in (Source.SEQ_NUM, Source.TIME):
            first = source.value
        elif key not in self.keys:
            return list(repeat(None, len(self)))
        else:
            first = 2 + self.keys.index(key)
            if source is Source.TIMESTAMPS:
                first += len(self.keys)
        return self.cells[first :: self.width]


class Batch:
    """EventRows of one stream that are stored together: a fixed sequence of pages and events.

    Parameters
    ----------
    segments : sequence of EventRows or Page
        The rows, in order.
    nbytes : int
        About how much memory they take.
    """

    def __init__(self, segments: Sequence[EventRows | Page], nbytes: int = 0) -> None:
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
