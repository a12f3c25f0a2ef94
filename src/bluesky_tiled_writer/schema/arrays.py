"""Array values of one key, into blocks, ragged rows, lists or JSON, whichever holds them all.

As with scalars the outcome depends on the descriptor and on the set of values, not on batches:
a type or a shape that does not fit makes the key's node wider, or ragged, or text.
"""

from __future__ import annotations

import json
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
from .ragged_rows import NestedRow, RaggedRows, Row
from .records import RecordType, single_column
from .to_numpy import ends_in_nul, regular_block, row_of
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
        has_fields = declared.dtype is not None and declared.dtype.fields is not None
        self._records = RecordType(declared.dtype) if has_fields and declared.dtype else None
        self._shape = ArrayShape(declared.shape)
        size = 0 if self._shape.is_ragged else math.prod(n or 0 for n in declared.shape or (0,))
        self._is_scalar = declared.shape == ()
        self._may_list = declared.is_array and (max_list < 0 or 0 < size <= max_list)

    # -- what holds all values so far -----------------------------------------------------------

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Shape of a row; None for a size that varies, or if no shape is known yet."""
        return self._shape.row

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return self._type.dtype if self._records is None else self._records.dtype

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
        return self.shape is not None or self._shape.is_irregular

    @property
    def list_type(self) -> pa.DataType:
        """The Arrow type of a list column."""
        return self._packer(self.dtype).list_type

    def account_scalars(self) -> None:
        """Take account of scalars that were stored as such."""
        self._shape.account(())

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
            self._shape.account(block.shape[1:], has_elements=block.size > 0)
            return block
        return [self._row(value, start + i, deviations) for i, value in enumerate(values)]

    def _accepts(self, block: np.ndarray) -> bool:
        """Return True if a block can be stored without a look at each of its rows."""
        if self.shape is not None and block.ndim != len(self.shape) + 1:
            return False
        if self._is_scalar and block.ndim > 1 and block[:1].size <= 1:
            return False
        return len(block) > 0 and self._type.accepts(block)

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
        """Return one value as a row, as it is if it is irregular, None if it does not fit."""
        if self._records is None and isinstance(value, dict):
            self._records = single_column(self.declared, value)
        if self._records is not None:
            return self._record(self._records, value, row_number, deviations)
        if isinstance(value, dict):
            return None
        given = value
        if isinstance(value, np.ma.MaskedArray):
            given = self._unmasked(value, row_number, deviations)
        row, exact = row_of(given)
        if row is None:
            if self._is_scalar:
                return None
            self._shape.mix()
            return value
        if not exact:
            deviations.add(self.key, Deviation.NEAREST, row_number, value)
        if self._is_scalar and isinstance(row, np.ndarray) and row.size == 1:
            row = row.reshape(())
        return self._fit(row, value, row_number, deviations)

    def _unmasked(
        self, value: np.ma.MaskedArray, row_number: int, deviations: Deviations
    ) -> np.ndarray:
        """Return an array with NaN for masked elements; with a note where the type has no NaN."""
        row, declared = np.ma.getdata(value), self.declared
        if not np.ma.is_masked(value):
            return row
        floats = declared is None or declared.kind in "fc"
        if row.dtype.kind in "fc" or (floats and row.dtype.kind in "iu"):
            typed = row.astype(np.result_type(row, np.float64)) if row.dtype.kind in "iu" else row
            return np.where(np.ma.getmaskarray(value), typed.dtype.type(np.nan), typed)
        deviations.add(self.key, Deviation.MASKED, row_number, value)
        return row

    def _fit(self, row: Row, value: Any, row_number: int, deviations: Deviations) -> Row | None:
        """Return a row in the kind of type that the key has, None if it does not fit."""
        if row.size == 0:  # no elements, so no type to speak of
            self._shape.account(row.shape, has_elements=False)
            return row
        items = row.elements if isinstance(row, NestedRow) else row
        fitted = self._fit_elements(items, self.declared, value, row_number, deviations)
        if fitted is None:
            return None
        if fitted.dtype.kind in "US" and ends_in_nul(value):
            deviations.add(self.key, Deviation.NEAREST, row_number, value)
        self._type.account(fitted)
        self._shape.account(row.shape)
        return row.with_elements(fitted) if isinstance(row, NestedRow) else fitted

    def _fit_elements(
        self,
        items: np.ndarray,
        declared: np.dtype | None,
        value: Any,
        row_number: int,
        deviations: Deviations,
    ) -> np.ndarray | None:
        kind = items.dtype.kind
        undeclared = "" if kind in "biufc" else "U"
        wanted = undeclared if declared is None else declared.kind
        if wanted in ("U", "S"):  # text is declared as bytes, too
            if kind in "US":
                return items
            deviations.add(self.key, Deviation.AS_TEXT, row_number, value)
            texts = [json_text(item) for item in items.ravel().tolist()]
            return np.array(texts).reshape(items.shape)
        if wanted and wanted in "biufc":
            return items if kind in "biufc" else None
        if wanted and kind != wanted:
            try:
                return items.astype(declared)
            except (TypeError, ValueError):
                return None
        return items

    def _record(
        self, records: RecordType, value: Any, row_number: int, deviations: Deviations
    ) -> np.ndarray | None:
        """Return a value of a structured type as an array of records."""

        def fit(items: np.ndarray, declared: np.dtype) -> np.ndarray | None:
            return self._fit_elements(items, declared, value, row_number, noted)

        noted = Deviations()
        row = records.parse(value, fit)
        if row is None:
            return None
        deviations.update(noted)
        self._shape.account(row.shape, has_elements=row.size > 0)
        return row

    @property
    def reads_json(self) -> bool:
        """True if rows that are stored as JSON can be read as what they were."""
        return self.dtype.kind in "biufcUS" or self._records is not None

    def row_of_cell(self, cell: Any) -> Any:
        """Return the row in a cell of the table, a list or JSON; None for an empty cell.

        Text that is not JSON, as which odd objects are stored, is returned as it is.
        """
        try:
            value = json.loads(cell) if isinstance(cell, str) else cell
        except ValueError:
            return cell
        if value is None:
            return None
        if self._records is not None:
            return self._records.parse(value, lambda items, _: items)
        row, _ = row_of(value)
        return value if row is None else row

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
        return self._packer(self.dtype).json(rows, start, deviations)

    def _packer(self, dtype: np.dtype) -> Packer:
        wanted = self._type.wanted if self._records is None else self._records.declared
        return Packer(self.key, dtype, wanted, self.shape or (), self._shape.fill)
