"""Array values of one key, into blocks, ragged rows, lists or JSON, whichever holds them all.

As with scalars the outcome depends on the descriptor and on the set of values, not on batches:
a type or a shape that does not fit makes the key's node wider, or ragged, or text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .data_key import DeclaredKey, StorageForm, column_type_exists
from .limits import ServerLimits
from .notes import Deviation, Deviations
from .ragged_rows import RaggedRows
from .scalars import arrow_type, json_text, plain_scalar
from .to_numpy import (
    depth_of,
    elements,
    ends_in_nul,
    is_faithful,
    matches,
    regular_block,
    tuples_at,
)
from .widening import TypeRequirements, all_fit

LEFT_OUT = Deviation.LEFT_OUT
"""Stands for a row whose value did not fit."""

ParsedRows = np.ndarray | list[Any]
"""Parsed values: one block, or a list of one array a row, None or `LEFT_OUT` where there is none.

A row that is no regular array (nested lists of differing lengths) stays a list.
"""

_FLOAT64 = np.dtype("f8")


class ArrayEncoder:
    """The type, the shape and so the place of a key with array values.

    Parameters
    ----------
    declared : DeclaredKey
        What the descriptor says of the key.
    limits : ServerLimits
        What the server cannot hold.
    max_list : int
        Arrays of at most this many elements go to list columns; 0 for none, -1 for all.
    needs : TypeRequirements, optional
        What earlier values of the key have asked for.
    """

    def __init__(
        self,
        declared: DeclaredKey,
        limits: ServerLimits,
        *,
        max_list: int = 0,
        needs: TypeRequirements | None = None,
    ) -> None:
        self.key = declared.key
        self.declared = declared.dtype
        self.needs = needs or TypeRequirements()
        self.shape: tuple[int | None, ...] | None = declared.shape
        self._limits = limits
        self._fill_shape = declared.shape
        shape = declared.shape or ()
        self._ragged = None in shape or 0 in shape
        self._irregular = False
        self._width = 0
        self._saw_text = self._saw_number = self._saw_bool = False
        size = 0 if self._ragged else math.prod(size or 0 for size in shape or (0,))
        self._listed = declared.is_array and (max_list < 0 or 0 < size <= max_list)

    @property
    def dtype(self) -> np.dtype:
        """The type that holds all the values so far."""
        declared = self.declared
        if declared is None:
            if self._saw_text:
                return np.dtype(f"U{self._text_width()}")
            if self._saw_number or not self._saw_bool:
                return np.dtype("c16") if self.needs.complex else _FLOAT64
            return np.dtype("?")
        if declared.kind in "US":
            declared_width = declared.itemsize // (4 if declared.kind == "U" else 1)
            fits = 0 < self._width <= declared_width or (declared_width and not self._width)
            width = declared_width if fits else max(declared_width, self._text_width())
            return np.dtype(f"{declared.kind}{width}")
        if declared.kind in "biufc":
            return self.needs.resolve(declared)
        return declared

    def _text_width(self) -> int:
        """Powers of two, so that growing texts do not rebuild the node again and again."""
        return max(16, 1 << max(self._width - 1, 0).bit_length())

    @property
    def storage_form(self) -> StorageForm:
        """Where the values go, given all that was seen so far."""
        if self._irregular:
            return StorageForm.JSON
        dtype = self.dtype
        listable = column_type_exists(dtype) and dtype.kind != "U"
        if self._listed and listable and self._limits.has_lists and self._limits.has_column(dtype):
            return StorageForm.LIST
        if not self._ragged:
            return StorageForm.ARRAY
        capable = dtype.kind in "biuf" and self._limits.has_ragged(self.ragged_dtype)
        return StorageForm.RAGGED if capable else StorageForm.JSON

    @property
    def ragged_dtype(self) -> np.dtype:
        """The type in a ragged node: native, and no half floats, which SQL does not have."""
        native = self.dtype.newbyteorder("=")
        return np.dtype("f4") if native == np.dtype("f2") else native

    @property
    def known(self) -> bool:
        """Whether there is anything yet to make a node from."""
        return self.shape is not None

    def settle(self) -> None:
        """Decide on rows of no elements for a key that never had a value, nor a shape."""
        if self.shape is None:
            self.shape, self._ragged = (None,), True

    def absorb(self, values: Sequence[Any], start: int, deviations: Deviations) -> ParsedRows:
        """Parse the values of consecutive rows, and widen type and shape as they need it.

        Parameters
        ----------
        values : sequence or numpy.ndarray
            One value a row: arrays or nested lists; None for a row without.
        start : int
            Ordinal of the first row.
        deviations : Deviations
            Takes what could not be stored as it came.
        """
        block = regular_block(values)
        if block is not None and self._accepts(block):
            self._account(block, block.shape[1:])
            return block
        return [self._row(value, start + i, deviations) for i, value in enumerate(values)]

    def _accepts(self, block: np.ndarray) -> bool:
        """Whether a block needs no second look at its elements."""
        if self.shape is not None and block.ndim != len(self.shape) + 1:
            return False
        if self.declared is None:
            return block.dtype.kind in "biuf" or (block.dtype.kind == "U" and not self._saw_number)
        if self.declared.kind in "biufc":
            return block.dtype.kind in "biufc"
        return self.declared.kind == block.dtype.kind and self.declared.fields is None

    def _account(self, values: np.ndarray, shape: tuple[int, ...]) -> None:
        """Remember what an array (of values of this shape) asks for."""
        kind = values.dtype.kind
        if values.size == 0:
            pass
        elif kind in "biufc":
            self.needs.add_array(values, self.declared or _FLOAT64)
            self._saw_bool |= kind == "b"
            self._saw_number |= kind != "b"
        elif kind in "US":
            unit = 4 if kind == "U" else 1
            longest = values.dtype.itemsize // unit
            if longest > self._width:
                lengths = np.char.str_len(values)
                self._width = max(self._width, int(lengths.max()))
            self._saw_text |= kind == "U"
        self._account_shape(shape)

    def _account_shape(self, shape: tuple[int, ...]) -> None:
        if self.shape is None:
            self.shape = self._fill_shape = shape
            self._ragged = 0 in shape
        elif len(shape) != len(self.shape):
            self._irregular = True
        elif not matches(shape, self.shape):
            self._ragged = True
            self.shape = (None,) * len(shape)
        self._ragged |= 0 in shape
        if self._ragged and None not in self.shape:
            self.shape = (None,) * len(self.shape)

    def _row(self, value: Any, row_number: int, deviations: Deviations) -> Any:
        value = plain_scalar(value)
        if value is None:
            return None
        row = self._parse(value, row_number, deviations)
        if row is None:
            deviations.add(self.key, Deviation.LEFT_OUT, row_number, value)
            return LEFT_OUT
        return row

    def _parse(self, value: Any, row_number: int, deviations: Deviations) -> Any:
        """One value as an array; a list where it is irregular; None where it does not fit."""
        if self.declared is not None and self.declared.fields is not None:
            return self._record(value)
        if isinstance(value, list | tuple):
            try:
                row = np.array(value)
            except (ValueError, OverflowError):
                self._irregular = True
                return value
            if not is_faithful(row, value):
                row = np.array(value, dtype=object)
        elif isinstance(value, np.ndarray):
            row = value
        elif isinstance(value, dict):
            return None
        else:
            row = np.array(value)
        if row.dtype.kind == "O":
            row = elements(row)
        return self._fit(row, value, row_number, deviations)

    def _fit(self, row: np.ndarray, value: Any, row_number: int, deviations: Deviations) -> Any:
        if row.size == 0:  # no elements, so no type to speak of
            self._account_shape(row.shape)
            return row
        kind = row.dtype.kind
        scalar_for_array = row.ndim == 0 and self.shape is not None and len(self.shape) > 0
        if scalar_for_array:
            return None
        wants = self.declared.kind if self.declared is not None else None
        if wants is None and kind not in "biufc":
            wants = "U"
        if wants is not None and wants in "biufc" and kind not in "biufc":
            return None
        if wants == "U" and kind != "U":
            deviations.add(self.key, Deviation.AS_TEXT, row_number, value)
            row = np.array([json_text(item) for item in row.ravel().tolist()]).reshape(row.shape)
        elif wants is not None and wants not in "biufcU" and kind != wants:
            try:
                row = row.astype("S" if wants == "S" else self.declared)
            except (TypeError, ValueError):
                return None
        if row.dtype.kind in "US" and ends_in_nul(value):
            deviations.add(self.key, Deviation.NEAREST, row_number, value)
        self._account(row, row.shape)
        return row

    def _record(self, value: Any) -> Any:
        """A value of a structured type: records are tuples to numpy, lists in JSON."""
        assert self.declared is not None
        try:
            if isinstance(value, np.ndarray | np.void):
                row = np.asarray(value).astype(self.declared)
            else:
                depth = len(self.shape) if self.shape is not None else depth_of(value) - 1
                row = np.array(tuples_at(value, depth), dtype=self.declared)
        except (TypeError, ValueError):
            return None
        self._account_shape(row.shape)
        return row

    def pack_block(self, rows: ParsedRows, start: int, deviations: Deviations) -> np.ndarray:
        """ParsedRows as a block of shape (rows, *shape), for an array node."""
        dtype = self.dtype
        if isinstance(rows, list) or (dtype.kind == "U" and rows.dtype.kind != "U"):
            fill = self._fill(dtype)
            if not len(rows):
                return fill[None][:0]
            # Each for itself: stacked, int64 and uint64 would become floats.
            return np.stack(
                [
                    self._exactly(row, dtype, fill, start + i, deviations)
                    for i, row in enumerate(rows)
                ]
            )
        self._note_inexact(rows, dtype, start, deviations)
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(rows.astype(dtype, copy=False))

    def _exactly(
        self, row: Any, dtype: np.dtype, fill: np.ndarray, row_number: int, deviations: Deviations
    ) -> np.ndarray:
        """One row in the type of the node, with a note if that is not exact."""
        if is_blank(row):
            return fill
        if dtype.kind == "U" and row.dtype.kind != "U":
            texts = [json_text(item) for item in row.ravel().tolist()]
            row = np.array(texts, dtype=dtype).reshape(row.shape)
        typed: np.ndarray = np.asarray(row)
        self._note_inexact(typed[None], dtype, row_number, deviations)
        with np.errstate(all="ignore"):
            return typed.astype(dtype, copy=False)

    def pack_ragged(self, rows: ParsedRows, start: int, deviations: Deviations) -> RaggedRows:
        """ParsedRows for a ragged node."""
        assert self.shape is not None
        dtype = self.ragged_dtype
        fill = self._fill(dtype)
        packed = [
            self._exactly(row, dtype, fill, start + i, deviations) for i, row in enumerate(rows)
        ]
        return RaggedRows(packed, dtype, self.shape)

    def pack_lists(self, rows: ParsedRows) -> pa.Array:
        """ParsedRows for a list column; a missing row is null."""
        dtype = self.dtype
        list_type = arrow_type(dtype)
        for _ in self.shape or (1,):
            list_type = pa.list_(list_type)
        with np.errstate(all="ignore"):
            lists = [None if is_blank(row) else row.astype(dtype).tolist() for row in rows]
        return pa.array(lists, list_type)

    def pack_json(self, rows: ParsedRows) -> pa.Array:
        """ParsedRows as JSON text; a missing row is null.

        Numbers are written in the declared type where they fit it, so that a row's text does not
        depend on what other rows hold.
        """
        wanted = self.declared or _FLOAT64
        texts = []
        for row in rows:
            if isinstance(row, np.ndarray):
                if row.dtype.kind in "iuf" and wanted.kind in "iuf" and all_fit(row, wanted):
                    row = row.astype(wanted)
                row = row.tolist()
            texts.append(None if is_blank(row) else json_text(row))
        return pa.array(texts, pa.string())

    def list_type_of(self) -> pa.DataType:
        """The Arrow type of the list column."""
        return self.pack_lists([]).type

    def _fill(self, dtype: np.dtype) -> np.ndarray:
        shape = self._fill_shape
        if shape is None:
            shape = (0,) * len(self.shape or (0,))
        shape = tuple(size or 0 for size in shape)
        value: Any = {"f": np.nan, "c": np.nan, "M": "NaT", "m": "NaT"}.get(dtype.kind)
        return np.zeros(shape, dtype) if value is None else np.full(shape, value, dtype)

    def _note_inexact(
        self, rows: np.ndarray, dtype: np.dtype, start: int, deviations: Deviations
    ) -> None:
        if rows.dtype.kind not in "iuf" or dtype.kind not in "biufc" or all_fit(rows, dtype):
            return
        for i, row in enumerate(rows):
            if not all_fit(np.atleast_1d(row), dtype):
                deviations.add(self.key, Deviation.NEAREST, start + i, row)


def is_blank(row: Any) -> bool:
    """Whether a parsed row has no value."""
    return row is None or row is LEFT_OUT
