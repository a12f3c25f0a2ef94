"""One column of a stream's data: its place, its name, and how its values are encoded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bluesky_tiled_writer.schema.data_key import Source
from bluesky_tiled_writer.schema.ragged_rows import Content

from .arrays import ArrayEncoder, ParsedRows, is_blank
from .data_key import DeclaredKey, StorageForm, column_type_exists
from .limits import ServerLimits
from .notes import Deviation, Deviations
from .ragged_rows import RaggedRows
from .row_numbers import RowRanges
from .scalars import ScalarEncoder, exact_or_nearest, plain_scalar

Parsed: TypeAlias = pa.Array | ParsedRows
"""What `absorb` makes of values: a column of the table, or rows yet to be packed."""

Chunk: TypeAlias = pa.Array | np.ndarray | RaggedRows
"""Values as they are sent."""


class Field:
    """What becomes of the values of one data key, or of its timestamps.

    Parameters
    ----------
    source : Source
        The part of an event that the values come from.
    declared : DeclaredKey
        What the descriptor says of them.
    name : str
        Name of the column, and of the node unless `node` says otherwise.
    node : str
        Name of the node of its own, if the values need one.
    limits : ServerLimits
        What the server cannot hold.
    is_column : bool
        Whether SQL takes the name as that of a column.
    max_list : int
        Arrays of at most this many elements go to list columns; -1 for all, 0 for none.
    born : int
        ParsedRows that the stream had stored before it knew of this field.
    """

    def __init__(
        self,
        source: Source,
        declared: DeclaredKey,
        *,
        name: str,
        node: str,
        limits: ServerLimits,
        is_column: bool = True,
        max_list: int = 0,
        born: int = 0,
    ) -> None:
        self.source = source
        self.key = declared.key
        self.declared = declared
        self.name = name
        self.node = node
        self.stored_in: str | None = None
        self._blank = RowRanges()
        self._missing = RowRanges()
        self._blank.extend(range(born))
        self._missing.extend(range(born))
        self._limits = limits
        self._array: ArrayEncoder | None = None
        self._scalar: ScalarEncoder | None = None
        dtype = declared.dtype
        if declared.is_array or dtype is None or not is_column or not column_type_exists(dtype):
            self._array = ArrayEncoder(declared, limits, max_list=max_list if is_column else 0)
        else:
            self._scalar = ScalarEncoder(self.key, dtype)

    @property
    def storage_form(self) -> StorageForm:
        """Where the values go, given all that was seen so far."""
        if self._scalar is not None and self._scalar_in_column:
            return StorageForm.COLUMN
        return self._as_array.storage_form

    @property
    def _scalar_in_column(self) -> bool:
        scalar = self._scalar
        return scalar is not None and scalar.fits_column and self._limits.has_column(scalar.dtype)

    @property
    def _as_array(self) -> ArrayEncoder:
        """The values in a node of their own, for scalars that no column can hold."""
        if self._array is None:
            assert self._scalar is not None
            self._array = ArrayEncoder(self.declared, self._limits, needs=self._scalar.needs)
        return self._array

    @property
    def known(self) -> bool:
        """Whether there is anything yet to make a column or a node from."""
        return self._scalar is not None or self._as_array.known

    @property
    def signature(self) -> Any:
        """What identifies the stored form: nodes of another form have to be rebuilt."""
        form = self.storage_form
        if form is StorageForm.COLUMN:
            assert self._scalar is not None
            return self._scalar.arrow_type
        if form is StorageForm.JSON:
            return pa.string()
        array = self._as_array
        if form is StorageForm.LIST:
            return array.list_type_of()
        dtype = array.dtype if form is StorageForm.ARRAY else array.ragged_dtype
        return (form, dtype.str if dtype.fields is None else dtype.descr, array.shape)

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """Shape of a row of the node; None where it varies."""
        return self._as_array.shape or ()

    @property
    def node_dtype(self) -> np.dtype:
        """Data type of the node."""
        return self._as_array.dtype

    def settle(self) -> None:
        """Decide on a place for a key that never had a value."""
        if self._scalar is None:
            self._as_array.settle()

    def absorb(self, values: Sequence[Any], start: int, deviations: Deviations) -> Parsed:
        """Parse the values of consecutive rows and let type and place follow them."""
        if self._scalar is not None:
            noted = Deviations()
            column = self._scalar.encode(values, start, noted)
            if column is not None and self._scalar_in_column:
                if not self._limits.has_nul and pa.types.is_string(column.type):
                    column = _without_nul(column, self.key, start, noted)
                deviations.update(noted)
                return column
        return self._as_array.absorb(values, start, deviations)

    def pack(self, parsed: Parsed, start: int, deviations: Deviations) -> Chunk:
        """Bring parsed values into the form in which they are sent."""
        if isinstance(parsed, pa.Array):
            return parsed
        array = self._as_array
        form = array.storage_form
        if form is StorageForm.ARRAY:
            return array.pack_block(parsed, start, deviations)
        if form is StorageForm.RAGGED:
            return array.pack_ragged(parsed, start, deviations)
        if form is StorageForm.LIST:
            return array.pack_lists(parsed)
        return array.pack_json(parsed)

    def remember_blank(self, parsed: Parsed, start: int) -> None:
        """Keep in mind which rows of the node hold fill values."""
        if isinstance(parsed, list):
            self._blank.extend(start + i for i, row in enumerate(parsed) if is_blank(row))
            self._missing.extend(start + i for i, row in enumerate(parsed) if row is None)

    def note_missing(self, deviations: Deviations) -> None:
        """Note the rows of the node that hold fill values because there was no value."""
        if self.source is Source.DATA and self.storage_form in (
            StorageForm.ARRAY,
            StorageForm.RAGGED,
        ):
            for row_number in self._missing:
                deviations.add(self.key, Deviation.MISSING, row_number)

    def absent(self, count: int) -> Chunk:
        """The first `count` rows of a key that had no place until now."""
        noted = Deviations()
        return self.pack(self.absorb([None] * count, 0, noted), 0, noted)

    def again(self, content: Content, deviations: Deviations) -> Chunk:
        """Encode anew what a node holds, from row 0 on, after type or place have changed."""
        if self._scalar is not None:
            return self._scalars_again(content, deviations)
        if isinstance(content, pa.Table):
            column = content[self.name].combine_chunks()
            if self.storage_form is StorageForm.JSON and not pa.types.is_list(column.type):
                return column.cast(pa.string())
            rows = [_row_of_cell(cell) for cell in column.to_pylist()]
            return self.pack(rows, 0, deviations)
        rows = list(content)
        for row_number in self._blank:
            if row_number < len(rows):
                rows[row_number] = None
        return self.pack(rows, 0, deviations)

    def _scalars_again(self, content: Content, deviations: Deviations) -> Chunk:
        in_column = self._scalar_in_column
        if isinstance(content, pa.Table):
            column = content[self.name].combine_chunks()
            if in_column:
                return self._recast(column, deviations)
            values = column.to_pylist()
        else:
            values = list(content)
            for row_number in self._blank:
                if row_number < len(values):
                    values[row_number] = None
        if in_column:
            assert self._scalar is not None
            plain = [plain_scalar(value) for value in values]
            return exact_or_nearest(plain, self._scalar.dtype, self.key, 0, deviations)
        parsed = self._as_array.absorb(values, 0, deviations)
        self.remember_blank(parsed, 0)
        return self.pack(parsed, 0, deviations)

    def _recast(self, column: pa.Array, deviations: Deviations) -> pa.Array:
        assert self._scalar is not None
        wanted = self._scalar.arrow_type
        # What was read went through pandas: empty cells made floats of integers.
        if column.null_count == len(column) or not pa.types.is_floating(wanted):
            return column.cast(wanted)
        return exact_or_nearest(column.to_pylist(), self._scalar.dtype, self.key, 0, deviations)


def _row_of_cell(cell: Any) -> Any:
    """A row of an array that was a cell of the table: a list, or JSON."""
    if cell is None:
        return None
    return np.array(json.loads(cell) if isinstance(cell, str) else cell)


def _without_nul(column: pa.Array, key: str, start: int, deviations: Deviations) -> pa.Array:
    """Empty the cells whose text has a NUL, which the database refuses."""
    has_nul = pc.match_substring(column, "\0").fill_null(False)
    if not pc.any(has_nul).as_py():
        return column
    for index in np.flatnonzero(has_nul.to_numpy(zero_copy_only=False)):
        deviations.add(key, Deviation.LEFT_OUT, start + int(index), column[int(index)].as_py())
    return pc.if_else(has_nul, pa.scalar(None, column.type), column)
