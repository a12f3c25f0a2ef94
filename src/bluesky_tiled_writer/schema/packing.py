"""Parsed rows of arrays into what a node or a column takes: blocks, ragged rows, lists or JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from .notes import Deviation, Deviations
from .plain_values import json_text
from .ragged_rows import NestedRow, RaggedRows, Row, in_shape
from .scalars import arrow_type
from .widening import all_fit

LEFT_OUT = Deviation.LEFT_OUT
"""Stands for a row whose value did not fit."""

ParsedRows = np.ndarray | list[Any]
"""Parsed values: one block, or a list of one array a row, None or `LEFT_OUT` for a row without.

A row that is no regular array is a `NestedRow`; a list, if its elements are at different depths.
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
        if (
            isinstance(rows, list)
            or rows.ndim != len(self.shape) + 1
            or (self.dtype.kind == "U" and rows.dtype.kind != "U")
        ):
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

    def _exact(self, row: Any, row_number: int, deviations: Deviations) -> Any:
        """Return one row in the type and the dimensions of the node, with a note if not exact."""
        if is_blank(row):
            return self.fill
        return in_shape(self._typed(row, row_number, deviations), self.shape)

    def _typed(self, row: Row, row_number: int, deviations: Deviations) -> Row:
        """Return a row in the type of the node, with a note if that is not exact."""
        if self.dtype.fields is not None:
            return self._records(np.asarray(row), row_number, deviations)
        if isinstance(row, NestedRow):
            return row.with_elements(
                self._exact_elements(row.elements, row, row_number, deviations)
            )
        return self._exact_elements(np.asarray(row), row, row_number, deviations)

    def _records(self, row: np.ndarray, row_number: int, deviations: Deviations) -> np.ndarray:
        noted = Deviations()
        records = np.empty(row.shape, self.dtype)
        for name in self.dtype.names or ():
            field, wanted = self.dtype[name].base, self.wanted[name].base
            packer = replace(self, dtype=field, wanted=wanted)
            records[name] = packer._exact_elements(row[name], row, row_number, noted)
        for what in (Deviation.NEAREST, Deviation.AS_TEXT):
            if noted.has(self.key, what):  # once, however many fields
                deviations.add(self.key, what, row_number, row)
        return records

    def _exact_elements(
        self, items: np.ndarray, row: Row, row_number: int, deviations: Deviations
    ) -> np.ndarray:
        if self.dtype.kind == "U" and items.dtype.kind != "U":
            if items.dtype.kind == "S" and items.size:
                deviations.add(self.key, Deviation.AS_TEXT, row_number, row)
            elif items.dtype.kind in "biuf":  # as a node of numbers would hold them
                if _inexact(items, self.wanted):
                    deviations.add(self.key, Deviation.NEAREST, row_number, row)
                items = _cast(items, self.wanted)
            texts = [json_text(item) for item in self._as_wanted(items).ravel().tolist()]
            return np.array(texts, dtype=self.dtype).reshape(items.shape)
        if _inexact(items, self.dtype):
            deviations.add(self.key, Deviation.NEAREST, row_number, row)
        return _cast(items, self.dtype)

    def json(self, rows: ParsedRows, start: int, deviations: Deviations) -> pa.Array:
        """Return a text column of JSON, null for a row without a value; see `block`.

        A scalar is an array of one element, whatever the number of dimensions of the others.
        """
        texts = [
            None if is_blank(row) else self._json(row, start + i, deviations)
            for i, row in enumerate(rows)
        ]
        return pa.array(texts, pa.string())

    def _json(self, row: Row | list[Any], row_number: int, deviations: Deviations) -> str:
        if isinstance(row, str | list | tuple):
            return json_text(row)
        if row.dtype.kind == "U" != self.dtype.kind:  # which JSON has in place of the type
            return json_text(row.tolist() if row.ndim else [row.tolist()])
        if row.dtype.kind == "S" == self.dtype.kind:
            deviations.add(self.key, Deviation.AS_TEXT, row_number, row)
        given, row = row, self._typed(row, row_number, deviations)
        if row.dtype.names is not None:
            if any(row.dtype[name].base.kind == "S" and row.size for name in row.dtype.names):
                deviations.add(self.key, Deviation.AS_TEXT, row_number, given)
            return json_text({name: row[name].tolist() for name in row.dtype.names})  # type: ignore[index]
        if isinstance(row, NestedRow):
            return json_text(row.with_elements(self._as_wanted(row.elements)).tolist())
        return json_text(self._as_wanted(np.atleast_1d(row)).tolist())

    def _as_wanted(self, row: np.ndarray) -> np.ndarray:
        is_number = row.dtype.kind in "iufc" and self.wanted.kind in "iuf"
        return _cast(row, self.wanted) if is_number and all_fit(row, self.wanted) else row

    def _note_inexact(self, rows: np.ndarray, start: int, deviations: Deviations) -> None:
        if not _inexact(rows, self.dtype):
            return
        for i, row in enumerate(rows):
            if _inexact(np.atleast_1d(row), self.dtype):
                deviations.add(self.key, Deviation.NEAREST, start + i, row)


def _inexact(values: np.ndarray, dtype: np.dtype) -> bool:
    """Return True if a type does not hold all numbers of an array exactly."""
    numbers = values.dtype.kind in "iuf" and dtype.kind in "biufc"
    return numbers and not all_fit(np.atleast_1d(values), dtype)


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return an array in another type, with the nearest value where there is no exact one."""
    if values.dtype.kind == "c" and dtype.kind in "biuf":  # imaginary parts are 0 then
        values = values.real
    with np.errstate(all="ignore"):
        return values.astype(dtype, copy=False)
