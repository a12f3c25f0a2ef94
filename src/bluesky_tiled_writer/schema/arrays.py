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

from .array_type import ArrayShape, ArrayType
from .data_key import DeclaredKey, StorageForm, column_type_exists
from .limits import ServerLimits
from .notes import Deviation, Deviations
from .packing import LEFT_OUT, Packer, ParsedRows
from .plain_values import json_text, plain_scalar
from .ragged_rows import RaggedRows
from .to_numpy import depth_of, elements, ends_in_nul, is_faithful, regular_block, tuples_at
from .widening import TypeRequirements


class ArrayEncoder:
    """Encodes the arrays of one key, in a type, a shape and a storage form that hold them all.

    Parameters
    ----------
    declared : DeclaredKey
        The key as the descriptor declares it.
    limits : ServerLimits
        Types that the server cannot hold.
    max_list : int
        Arrays of at most this many elements go to list columns; 0 for none, -1 for all.
    requirements : TypeRequirements, optional
        Requirements of earlier values of the key.
    """

    def __init__(
        self,
        declared: DeclaredKey,
        limits: ServerLimits,
        *,
        max_list: int = 0,
        requirements: TypeRequirements | None = None,
    ) -> None:
        self.key = declared.key
        self.declared = declared.dtype
        self._limits = limits
        self._type = ArrayType(declared.dtype, requirements or TypeRequirements())
        self._shape = ArrayShape(declared.shape)
        size = 0 if self._shape.is_ragged else math.prod(n or 0 for n in declared.shape or (0,))
        self._may_list = declared.is_array and (max_list < 0 or 0 < size <= max_list)

    # -- what holds all values so far -----------------------------------------------------------

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Shape of a row; None for a size that varies, or if no shape is known yet."""
        return self._shape.row

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return self._type.dtype

    @property
    def ragged_dtype(self) -> np.dtype:
        """The type of the elements of a ragged node: in native byte order, and no half floats.

        Tiled keeps ragged nodes in an SQL database, which has no half floats.
        """
        native = self.dtype.newbyteorder("=")
        return np.dtype("f4") if native == np.dtype("f2") else native

    @property
    def storage_form(self) -> StorageForm:
        """The form in which the values are stored."""
        if self._shape.is_irregular:
            return StorageForm.JSON
        dtype = self.dtype
        listable = column_type_exists(dtype) and dtype.kind != "U"
        if (
            self._may_list
            and listable
            and self._limits.has_lists
            and self._limits.has_column(dtype)
        ):
            return StorageForm.LIST
        if not self._shape.is_ragged:
            return StorageForm.ARRAY
        capable = dtype.kind in "biuf" and self._limits.has_ragged(self.ragged_dtype)
        return StorageForm.RAGGED if capable else StorageForm.JSON

    @property
    def known(self) -> bool:
        """True once the shape is known, so that a node can be made."""
        return self.shape is not None

    @property
    def list_type(self) -> pa.DataType:
        """The Arrow type of a list column."""
        return self._packer(self.dtype).list_type

    def settle(self) -> None:
        """Decide on rows of no elements for a key that never had a value, nor a shape."""
        self._shape.settle()

    # -- values to rows -------------------------------------------------------------------------

    def absorb(self, values: Sequence[Any], start: int, deviations: Deviations) -> ParsedRows:
        """Parse the values of consecutive rows, and widen type and shape if they need it.

        Parameters
        ----------
        values : sequence or numpy.ndarray
            One value a row: arrays or nested lists; None where a row has none.
        start : int
            Number of the first row.
        deviations : Deviations
            Records the values that are not stored as they came.

        Returns
        -------
        numpy.ndarray or list
            The parsed rows, for `pack`.
        """
        block = regular_block(values)
        if block is not None and self._accepts(block):
            self._type.account(block)
            self._shape.account(block.shape[1:])
            return block
        return [self._row(value, start + i, deviations) for i, value in enumerate(values)]

    def _accepts(self, block: np.ndarray) -> bool:
        """Return True if a block can be stored without a look at each of its rows."""
        if self.shape is not None and block.ndim != len(self.shape) + 1:
            return False
        return self._type.accepts(block)

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
        """Return one value as an array, as a list if it is irregular, None if it does not fit."""
        if self.declared is not None and self.declared.fields is not None:
            return self._record(value, self.declared)
        if isinstance(value, list | tuple):
            try:
                row = np.array(value)
            except (ValueError, OverflowError):
                self._shape.is_irregular = True
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
            row, exact = elements(row)
            if not exact:
                deviations.add(self.key, Deviation.NEAREST, row_number, value)
        return self._fit(row, value, row_number, deviations)

    def _fit(
        self, row: np.ndarray, value: Any, row_number: int, deviations: Deviations
    ) -> np.ndarray | None:
        """Return an array in the kind of type that the key has, None if it does not fit."""
        if row.size == 0:  # no elements, so no type to speak of
            self._shape.account(row.shape)
            return row
        if row.ndim == 0 and self.shape:  # a scalar among arrays
            return None
        kind = row.dtype.kind
        undeclared = "" if kind in "biufc" else "U"
        wanted = undeclared if self.declared is None else self.declared.kind
        if wanted == "U" and kind != "U":
            deviations.add(self.key, Deviation.AS_TEXT, row_number, value)
            row = np.array([json_text(item) for item in row.ravel().tolist()]).reshape(row.shape)
        elif wanted and wanted in "biufc":
            if kind not in "biufc":
                return None
        elif wanted and kind != wanted:
            try:
                row = row.astype("S" if wanted == "S" else self.declared)
            except (TypeError, ValueError):
                return None
        if row.dtype.kind in "US" and ends_in_nul(value):
            deviations.add(self.key, Deviation.NEAREST, row_number, value)
        self._type.account(row)
        self._shape.account(row.shape)
        return row

    def _record(self, value: Any, declared: np.dtype) -> np.ndarray | None:
        """Return a value of a structured type: records are tuples to numpy, lists in JSON."""
        try:
            if isinstance(value, np.ndarray | np.void):
                row = np.asarray(value).astype(declared)
            else:
                depth = len(self.shape) if self.shape is not None else depth_of(value) - 1
                row = np.array(tuples_at(value, depth), dtype=declared)
        except (TypeError, ValueError):
            return None
        self._shape.account(row.shape)
        return row

    # -- rows to what is sent -------------------------------------------------------------------

    def pack(
        self, rows: ParsedRows, start: int, deviations: Deviations
    ) -> np.ndarray | RaggedRows | pa.Array:
        """Bring parsed rows into the storage form of the key.

        Parameters
        ----------
        rows : numpy.ndarray or list
            Rows as `absorb` has parsed them.
        start : int
            Number of the first row.
        deviations : Deviations
            Records the values that are not stored as they came.

        Returns
        -------
        numpy.ndarray, RaggedRows or pyarrow.Array
            A block of shape (rows, *shape), the rows of a ragged node, or a column.
        """
        form = self.storage_form
        if form is StorageForm.ARRAY:
            return self._packer(self.dtype).block(rows, start, deviations)
        if form is StorageForm.RAGGED:
            return self._packer(self.ragged_dtype).ragged(rows, start, deviations)
        if form is StorageForm.LIST:
            return self._packer(self.dtype).lists(rows, start, deviations)
        return self._packer(self.dtype).json(rows)

    def _packer(self, dtype: np.dtype) -> Packer:
        return Packer(self.key, dtype, self._type.wanted, self.shape or (), self._shape.fill)
