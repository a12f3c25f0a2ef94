"""Rows that wait to be stored, as they came: single events and whole pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np

Row = tuple[Any, Any, Mapping[str, Any], Mapping[str, Any]]
"""seq_num, time, data, timestamps."""


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
    """Single events, in order."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._parts: list[tuple[Any, ...]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, source: Source, key: str) -> Sequence[Any]:
        """The values of one column; None where an event has none."""
        if self._parts is None:
            self._parts = list(zip(*self.rows, strict=True))
        part = self._parts[source.value]
        if source in (Source.SEQ_NUM, Source.TIME):
            return part
        try:
            return list(map(itemgetter(key), part))
        except KeyError:
            return [mapping.get(key) for mapping in part]


class Batch:
    """Rows of one stream that are stored together: a fixed sequence of pages and events."""

    def __init__(self, segments: Sequence[Rows | Page]) -> None:
        self.segments = segments
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
                return np.concatenate(columns)  # type: ignore[arg-type, return-value]
        values: list[Any] = []
        for column in columns:
            values.extend(column)
        return values
