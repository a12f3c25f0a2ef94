"""Parsed rows of arrays into what a node or a column takes: blocks, ragged rows, lists or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from .notes import Deviation, Deviations
from .plain_values import json_text
from .ragged_rows import RaggedRows
from .scalars import arrow_type
from .widening import all_fit

LEFT_OUT = Deviation.LEFT_OUT
"""Stands for a row whose value did not fit."""

ParsedRows = np.ndarray | list[Any]
"""Parsed values: one block, or a list of one array a row, None or `LEFT_OUT` for a row without.

A row that is no regular array (nested lists of differing lengths) is a list.
"""

_FILL_VALUES: dict[str, Any] = {"f": np.nan, "c": np.nan, "M": "NaT", "m": "NaT"}
"""Fill values by kind of type; other kinds have zeros, or empty text."""


def is_blank(row: Any) -> bool:
    """Return True for a parsed row without a value."""
    return row is None or row is LEFT_OUT


@dataclass(frozen=True)
class Packer:
    """Packs the parsed rows of one key in the type and the shape that hold them all.

    Parameters
    ----------
    key : str
        Name of the data key, for the notes.
    dtype : numpy.dtype
        Type of the elements.
    wanted : numpy.dtype
        Type in which numbers that fit it are written as text, so that the text of a row does not
        depend on other rows.
    shape : tuple of (int or None)
        Shape of a row; None where it varies.
    fill_shape : tuple of int
        Shape of a row without a value.
    """

    key: str
    dtype: np.dtype
    wanted: np.dtype
    shape: tuple[int | None, ...]
    fill_shape: tuple[int, ...]

    @cached_property
    def fill(self) -> np.ndarray:
        """A row without a value: NaN, NaT, 0, False or empty text."""
        fill = np.zeros(self.fill_shape, self.dtype)
        if self.dtype.kind in _FILL_VALUES:
            fill.fill(_FILL_VALUES[self.dtype.kind])
        return fill

    def block(self, rows: ParsedRows, start: int, deviations: Deviations) -> np.ndarray:
        """Return a block of shape (rows, *shape).

        Parameters
        ----------
        rows : numpy.ndarray or list
            Parsed rows, none of them a list.
        start : int
            Number of the first row.
        deviations : Deviations
            Records the rows that the type does not hold exactly.
        """
        if isinstance(rows, list) or (self.dtype.kind == "U" and rows.dtype.kind != "U"):
            if not len(rows):
                return self.fill[None][:0]
            # Row by row: stacked, int64 and uint64 would become floats.
            return np.stack([self._exact(row, start + i, deviations) for i, row in enumerate(rows)])
        self._note_inexact(rows, start, deviations)
        return np.ascontiguousarray(_cast(rows, self.dtype))

    def ragged(self, rows: ParsedRows, start: int, deviations: Deviations) -> RaggedRows:
        """Return the rows of a ragged node; for the parameters see `block`."""
        packed = [self._exact(row, start + i, deviations) for i, row in enumerate(rows)]
        return RaggedRows(packed, self.dtype, self.shape)

    def lists(self, rows: ParsedRows, start: int, deviations: Deviations) -> pa.Array:
        """Return a list column, null for a row without a value; for the parameters see `block`."""
        lists = [
            None if is_blank(row) else self._exact(row, start + i, deviations).tolist()
            for i, row in enumerate(rows)
        ]
        return pa.array(lists, self.list_type)

    @property
    def list_type(self) -> pa.DataType:
        """The Arrow type of a list column."""
        list_type = arrow_type(self.dtype)
        for _ in self.shape or (1,):
            list_type = pa.list_(list_type)
        return list_type

    def _exact(self, row: Any, row_number: int, deviations: Deviations) -> np.ndarray:
        """Return one row in the type of the node, with a note if that is not exact."""
        if is_blank(row):
            return self.fill
        if self.dtype.kind == "U" and row.dtype.kind != "U":
            texts = [json_text(item) for item in self._as_wanted(row).ravel().tolist()]
            row = np.array(texts, dtype=self.dtype).reshape(row.shape)
        typed: np.ndarray = np.asarray(row)
        self._note_inexact(typed[None], row_number, deviations)
        return _cast(typed, self.dtype)

    def json(self, rows: ParsedRows) -> pa.Array:
        """Return a text column of JSON, null for a row without a value."""
        plain = [
            self._as_wanted(row).tolist() if isinstance(row, np.ndarray) else row for row in rows
        ]
        return pa.array([None if is_blank(row) else json_text(row) for row in plain], pa.string())

    def _as_wanted(self, row: np.ndarray) -> np.ndarray:
        is_number = row.dtype.kind in "iufc" and self.wanted.kind in "iuf"
        return _cast(row, self.wanted) if is_number and all_fit(row, self.wanted) else row

    def _note_inexact(self, rows: np.ndarray, start: int, deviations: Deviations) -> None:
        dtype = self.dtype
        if rows.dtype.kind not in "iuf" or dtype.kind not in "biufc" or all_fit(rows, dtype):
            return
        for i, row in enumerate(rows):
            if not all_fit(np.atleast_1d(row), dtype):
                deviations.add(self.key, Deviation.NEAREST, start + i, row)


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return an array in another type, with the nearest value where there is no exact one."""
    if values.dtype.kind == "c" and dtype.kind in "biuf":  # imaginary parts are 0 then
        values = values.real
    with np.errstate(all="ignore"):
        return values.astype(dtype, copy=False)
