"""One column of a stream's data: its place, its name, and how its values are encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .arrays import ArrayType, Rows
from .batch import Source
from .limits import Limits
from .misfits import Misfit, Misfits
from .ordinals import Ranges
from .ragged_rows import RaggedRows
from .scalars import ScalarType, exact_or_nearest
from .schema import Declared, Place, column_type_exists
from .steps import Content

Parsed: TypeAlias = pa.Array | Rows
"""What `absorb` makes of values: a column of the table, or rows yet to be packed."""

Chunk: TypeAlias = pa.Array | np.ndarray | RaggedRows
"""Values as they are sent."""


class Field:
    """What becomes of the values of one data key, or of its timestamps.

    Parameters
    ----------
    source : Source
        The part of an event that the values come from.
    declared : Declared
        What the descriptor says of them.
    name : str
        Name of the column, and of the node unless `node` says otherwise.
    node : str
        Name of the node of its own, if the values need one.
    limits : Limits
        What the server cannot hold.
    is_column : bool
        Whether SQL takes the name as that of a column.
    max_list : int
        Arrays of at most this many elements go to list columns; -1 for all, 0 for none.
    born : int
        Rows that the stream had stored before it knew of this field.
    """

    def __init__(
        self,
        source: Source,
        declared: Declared,
        *,
        name: str,
        node: str,
        limits: Limits,
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
        self._missing = Ranges()
        self._missing.extend(range(born))
        self._born = born
        self._limits = limits
        self._array: ArrayType | None = None
        self._scalar: ScalarType | None = None
        dtype = declared.dtype
        if declared.is_array or dtype is None or not is_column or not column_type_exists(dtype):
            self._array = ArrayType(declared, limits, max_list=max_list if is_column else 0)
        else:
            self._scalar = ScalarType(self.key, dtype)

    @property
    def place(self) -> Place:
        """Where the values go, given all that was seen so far."""
        return Place.COLUMN if self._array is None else self._array.place

    @property
    def known(self) -> bool:
        """Whether there is anything yet to make a column or a node from."""
        return self._array is None or self._array.known

    @property
    def form(self) -> Any:
        """What identifies the stored form: nodes of another form have to be rebuilt."""
        place = self.place
        if place is Place.COLUMN:
            assert self._scalar is not None
            return self._scalar.arrow_type
        assert self._array is not None
        if place is Place.JSON:
            return pa.string()
        if place is Place.LIST:
            return self._array.list_type_of()
        dtype = self._array.dtype if place is Place.ARRAY else self._array.ragged_dtype
        return (place, dtype.str if dtype.fields is None else dtype.descr, self._array.shape)

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """Shape of a row of the node; None where it varies."""
        assert self._array is not None
        return self._array.shape or ()

    @property
    def node_dtype(self) -> np.dtype:
        """Data type of the node."""
        assert self._array is not None
        return self._array.dtype

    def settle(self) -> None:
        """Decide on a place for a key that never had a value."""
        if self._array is not None:
            self._array.settle()

    def absorb(self, values: Sequence[Any], start: int, misfits: Misfits) -> Parsed:
        """Parse the values of consecutive rows and let type and place follow them."""
        if self._array is None:
            column = self._absorb_scalars(values, start, misfits)
            if column is not None:
                return column
        assert self._array is not None
        return self._array.absorb(values, start, misfits)

    def _absorb_scalars(
        self, values: Sequence[Any], start: int, misfits: Misfits
    ) -> pa.Array | None:
        assert self._scalar is not None
        noted = Misfits()
        if not self._limits.has_column(self._scalar.dtype):
            self._leave_table()
            return None
        try:
            column = self._scalar.encode(values, start, noted)
        except (pa.ArrowException, TypeError):
            column = None  # the values have asked for a type that is no column: complex numbers
            if column_type_exists(self._scalar.dtype):
                raise
        stays = (
            column is not None
            and self._scalar.readable_as_column
            and self._limits.has_column(self._scalar.dtype)
        )
        if not stays:
            self._leave_table()
            return None
        assert column is not None
        if not self._limits.has_nul and pa.types.is_string(column.type):
            column = _without_nul(column, self.key, start, noted)
        misfits.update(noted)
        return column

    def _leave_table(self) -> None:
        """From now on the values have an array node of their own."""
        assert self._scalar is not None
        self._array = ArrayType(self.declared, self._limits, needs=self._scalar.needs)

    def pack(self, parsed: Parsed, start: int, misfits: Misfits) -> Chunk:
        """Bring parsed values into the form in which they are sent."""
        if isinstance(parsed, pa.Array):
            return parsed
        assert self._array is not None
        place = self._array.place
        if place is Place.ARRAY:
            return self._array.pack_block(parsed, start, misfits)
        if place is Place.RAGGED:
            return self._array.pack_ragged(parsed, start, misfits)
        if place is Place.LIST:
            return self._array.pack_lists(parsed)
        return self._array.pack_json(parsed)

    def remember_missing(self, parsed: Parsed, start: int) -> None:
        """Keep in mind which rows of the node hold fill values."""
        if isinstance(parsed, list):
            self._missing.extend(start + i for i, row in enumerate(parsed) if row is None)

    def absent(self, count: int, misfits: Misfits) -> Chunk:
        """The first `count` rows of a key that had no place until now."""
        nothing: list[Any] = [None] * count
        self.absorb(nothing[: self._born], 0, misfits)  # the others were noted when they came
        return self.pack(self.absorb(nothing, 0, Misfits()), 0, misfits)

    def again(self, content: Content, misfits: Misfits) -> Chunk:
        """Encode anew what a node holds, from row 0 on, after type or place have changed."""
        if isinstance(content, pa.Table):
            column = content[self.name].combine_chunks()
            if self._array is None:
                return self._recast(column, misfits)
            if self._scalar is not None:  # it was a column of scalars
                parsed = self.absorb(column.to_pylist(), 0, misfits)
                self.remember_missing(parsed, 0)
                return self.pack(parsed, 0, misfits)
            lists: list[Any] = [
                None if row is None else np.array(row) for row in column.to_pylist()
            ]
            return self.pack(lists, 0, misfits)
        rows: list[Any] = list(content)
        for ordinal in self._missing:
            if ordinal < len(rows):
                rows[ordinal] = None
        return self.pack(rows, 0, misfits)

    def _recast(self, column: pa.Array, misfits: Misfits) -> pa.Array:
        assert self._scalar is not None
        wanted = self._scalar.arrow_type
        # What was read went through pandas: empty cells made floats of integers.
        if column.null_count == len(column) or not pa.types.is_floating(wanted):
            return column.cast(wanted)
        return exact_or_nearest(column.to_pylist(), self._scalar.dtype, self.key, 0, misfits)


def _without_nul(column: pa.Array, key: str, start: int, misfits: Misfits) -> pa.Array:
    """Empty the cells whose text has a NUL, which the database refuses."""
    has_nul = pc.match_substring(column, "\0").fill_null(False)
    if not pc.any(has_nul).as_py():
        return column
    for index in np.flatnonzero(has_nul.to_numpy(zero_copy_only=False)):
        misfits.add(key, Misfit.NULLED, start + int(index), column[int(index)].as_py())
    return pc.if_else(has_nul, pa.scalar(None, column.type), column)
