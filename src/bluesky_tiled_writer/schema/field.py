"""One data key of a stream: its names, the form in which it is stored, and its encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .arrays import ArrayEncoder
from .data_key import DeclaredKey, Source, StorageForm, column_type_exists
from .limits import ServerLimits
from .notes import Deviation, Deviations
from .packing import LEFT_OUT, ParsedRows, is_blank
from .plain_values import plain_scalar
from .ragged_rows import Content, RaggedRows
from .row_numbers import RowRanges
from .scalars import ScalarEncoder, exact_or_nearest
from .to_numpy import only_element

Parsed: TypeAlias = pa.Array | ParsedRows
"""Values as `absorb` parses them: a column of the table, or rows yet to be packed."""

Chunk: TypeAlias = pa.Array | np.ndarray | RaggedRows
"""Values as they are sent."""


_Encoders: TypeAlias = tuple[ScalarEncoder | None, ArrayEncoder | None]


@dataclass
class _Fixed:
    """The form in which values are stored, with the encoders that had it; kept if it is `now`."""

    in_column: bool = False
    encoders: _Encoders | None = None
    now: bool = False


class Field:
    """The values of one data key, or its timestamps, and how they are stored.

    A batch takes two steps, since the values of a batch may change the form in which all of them
    are stored: `absorb` parses them and widens the form as needed, `pack` brings them into it.

    Parameters
    ----------
    source : Source
        The part of an event that the values come from.
    declared : DeclaredKey
        The key as the descriptor declares it.
    name : str
        Name of the column.
    node : str
        Name of the node of its own, if the values need one.
    limits : ServerLimits
        Types that the server cannot hold.
    is_column : bool
        True if SQL accepts `name` as that of a column.
    max_list : int
        Arrays of at most this many elements go to list columns; -1 for all, 0 for none.
    born : int
        Rows that the stream had stored before it knew of this field.
    key : str, optional
        The data key in the documents, if the field is declared under another name.

    Attributes
    ----------
    label : str
        The name of the field in notes, which differs for values and timestamps of a key.
    stored_in : str or None
        Name of the node that holds the values so far; set by the stream.
    leaves_out : bool
        True if values were left out since the form is fixed.
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
        key: str | None = None,
    ) -> None:
        self.source = source
        self.label = declared.key
        self.key = self.label if key is None else key
        self.declared = declared
        self.name = name
        self.node = node
        self.stored_in: str | None = None
        self.leaves_out = False
        self._fixed = _Fixed()
        self._limits = limits
        self._blank = RowRanges()  # rows of the node that hold fill values
        self._missing = RowRanges()  # those of them that had no value
        self._left_out = RowRanges()  # rows without a value since it did not fit
        self._single = RowRanges()  # rows of the node whose value was a scalar
        self._blank.extend(range(born))
        self._missing.extend(range(born))
        self._array: ArrayEncoder | None = None
        self._scalar: ScalarEncoder | None = None
        dtype = declared.dtype
        if declared.is_array or dtype is None or not is_column or not column_type_exists(dtype):
            self._array = ArrayEncoder(declared, limits, max_list=max_list if is_column else 0)
        else:
            may_be_arrays = source is Source.DATA  # every table has its columns for the others
            self._scalar = ScalarEncoder(self.label, dtype, may_be_arrays=may_be_arrays)

    # -- the form -------------------------------------------------------------------------------

    @property
    def storage_form(self) -> StorageForm:
        """The form that holds all values so far."""
        return StorageForm.COLUMN if self._in_column else self._encoder.storage_form

    @property
    def _in_column(self) -> bool:
        if self._fixed.now:
            return self._fixed.in_column
        scalar = self._scalar
        return scalar is not None and scalar.fits_column and self._limits.has_column(scalar.dtype)

    @property
    def _encoder(self) -> ArrayEncoder:
        """The encoder of arrays, also of scalars that no column can hold."""
        if self._array is None:
            assert self._scalar is not None
            self._array = ArrayEncoder(
                self.declared, self._limits, requirements=self._scalar.requirements
            )
        return self._array

    @property
    def known(self) -> bool:
        """True once enough is known of the values to make a column or a node for them."""
        return self._scalar is not None or self._encoder.known

    @property
    def signature(self) -> Any:
        """A value that is equal as long as the node that holds the values need not be rebuilt."""
        if self._scalar is not None and self._in_column:
            return self._scalar.arrow_type
        encoder, form = self._encoder, self.storage_form
        if form is StorageForm.JSON:
            return (form, _in_json(encoder.dtype))
        if form is StorageForm.LIST:
            return encoder.list_type
        dtype = encoder.dtype if form is StorageForm.ARRAY else encoder.ragged_dtype
        return (form, _described(dtype), encoder.shape)

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """Shape of a row of the node; None for a size that varies."""
        return self._encoder.shape or ()

    @property
    def node_dtype(self) -> np.dtype:
        """Data type of the array node."""
        return self._encoder.dtype

    def settle(self) -> None:
        """Decide on a form for a key that never had a value."""
        if self._scalar is None:
            self._encoder.settle()

    def remember_form(self) -> None:
        """Remember the form in which the values are stored now, for `fix_form`."""
        self._fixed = _Fixed(self._in_column, self._copy_encoders())

    def fix_form(self) -> None:
        """Keep the form in which the values are stored, whatever comes: it cannot be changed.

        What does not fit it is left out from now on.
        """
        if not self._fixed.now and self._fixed.encoders is not None:
            self._scalar, self._array = self._fixed.encoders
            self._fixed.now = True

    def _copy_encoders(self) -> _Encoders:
        encoders: _Encoders = (self._scalar, self._array)
        return copy.deepcopy(encoders, {id(self._limits): self._limits})

    # -- a batch --------------------------------------------------------------------------------

    def absorb(self, values: Sequence[Any], start: int, deviations: Deviations) -> Parsed:
        """Parse the values of consecutive rows, and widen the form if they need it.

        Parameters
        ----------
        values : sequence or numpy.ndarray
            One value a row; None where a row has none.
        start : int
            Number of the first row.
        deviations : Deviations
            Records the values that are not stored as they came.

        Returns
        -------
        pyarrow.Array, numpy.ndarray or list
            The parsed values, for `pack`.
        """
        if isinstance(values, np.ma.MaskedArray):
            values = list(values)
        if self._fixed.now:
            return self._absorb_what_fits(values, start, deviations)
        return self._absorb(values, start, deviations)

    def _absorb_what_fits(
        self, values: Sequence[Any], start: int, deviations: Deviations
    ) -> Parsed:
        """Parse the values that fit the form as it is, and leave out the others."""
        noted = Deviations()
        if (parsed := self._attempt(values, start, noted)) is not None:
            deviations.update(noted)
            return parsed
        self.leaves_out = True
        fitting: list[Any] = []
        for row_number, value in enumerate(values, start):
            if self._attempt([value], row_number, Deviations()) is None:
                deviations.add(self.label, Deviation.LEFT_OUT, row_number, value)
                value = LEFT_OUT
            fitting.append(value)
        plain = [None if value is LEFT_OUT else value for value in fitting]
        parsed = self._absorb(plain, start, deviations)
        if isinstance(parsed, list):
            parsed = [
                LEFT_OUT if value is LEFT_OUT else row
                for value, row in zip(fitting, parsed, strict=True)
            ]
        return parsed

    def _attempt(self, values: Sequence[Any], start: int, noted: Deviations) -> Parsed | None:
        """Parse values; None, and nothing has changed, if the form would have to."""
        form, before = self.signature, self._copy_encoders()
        parsed = self._absorb(values, start, noted)
        if self.signature == form and isinstance(parsed, pa.Array) == self._fixed.in_column:
            return parsed
        self._scalar, self._array = before
        return None

    def _absorb(self, values: Sequence[Any], start: int, deviations: Deviations) -> Parsed:
        if self._scalar is not None and not self._scalar.has_arrays:
            noted = Deviations()
            column = self._scalar.encode(values, start, noted)
            if column is not None and self._in_column:
                if not self._limits.has_nul and pa.types.is_string(column.type):
                    column = _without_nul(column, self.label, start, noted)
                if noted.has(self.label, Deviation.LEFT_OUT):
                    self._left_out.extend(_left_out(values, column, start))
                deviations.update(noted)
                return column
            if self._scalar.has_values:
                self._encoder.account_scalars()
        return self._encoder.absorb(values, start, deviations)

    def pack(self, parsed: Parsed, start: int, deviations: Deviations) -> Chunk:
        """Bring parsed values into the form in which they are sent."""
        if isinstance(parsed, pa.Array):
            return parsed
        return self._encoder.pack(parsed, start, deviations)

    def absent(self, count: int) -> Chunk:
        """Return `count` rows without a value, for the rows before a key was stored at all."""
        noted = Deviations()
        return self.pack(self.absorb([None] * count, 0, noted), 0, noted)

    def remember_blank(self, parsed: Parsed, start: int) -> None:
        """Remember which of the parsed rows hold fill values, once they are stored."""
        if isinstance(parsed, list):
            rows = list(enumerate(parsed, start))
            self._blank.extend(i for i, row in rows if is_blank(row))
            self._missing.extend(i for i, row in rows if row is None)
            self._left_out.extend(i for i, row in rows if row is LEFT_OUT)
            self._single.extend(i for i, row in rows if getattr(row, "ndim", None) == 0)
        elif isinstance(parsed, np.ndarray) and parsed.ndim == 1:
            self._single.extend(range(start, start + len(parsed)))

    @property
    def missing(self) -> list[range]:
        """The rows of the node that hold fill values because they had no value."""
        in_node = self.storage_form in (StorageForm.ARRAY, StorageForm.RAGGED)
        return self._missing.ranges if in_node and self.source is Source.DATA else []

    # -- a rebuild ------------------------------------------------------------------------------

    def again(self, content: Content, deviations: Deviations) -> Chunk:
        """Encode the values of a node anew, after their form has changed.

        Parameters
        ----------
        content : pyarrow.Table, numpy.ndarray or list
            All rows of the node that held the values until now.
        deviations : Deviations
            Records the values that the new form does not hold exactly.
        """
        if self._scalar is not None:
            return self._scalars_again(self._scalar, content, deviations)
        if isinstance(content, pa.Table):
            column = content[self.name].combine_chunks()
            if self.storage_form is StorageForm.JSON and not self._encoder.reads_json:
                return column.cast(pa.string())
            rows = [self._encoder.row_of_cell(cell) for cell in column.to_pylist()]
        else:
            rows = self._without_fill(content)
        for row_number in self._single:
            if row_number < len(rows) and not is_blank(rows[row_number]):
                rows[row_number] = np.asarray(rows[row_number]).reshape(())
        return self.pack(rows, 0, deviations)

    def texts(self, content: Content) -> dict[int, str]:
        """Return the texts that a node holds, of which none is empty, by row number."""
        cells = content[self.name].to_pylist() if isinstance(content, pa.Table) else list(content)
        return {row_number: str(text) for row_number, text in enumerate(cells) if text}

    def _without_fill(self, rows: np.ndarray | list[Any]) -> list[Any]:
        """Return the rows of a node, with None for those that hold fill values."""
        values = list(rows)
        for row_number in self._blank:
            if row_number < len(values):
                values[row_number] = None
        return values

    def _scalars_again(
        self, scalar: ScalarEncoder, content: Content, deviations: Deviations
    ) -> Chunk:
        in_column = self._in_column
        if isinstance(content, pa.Table):
            column = content[self.name].combine_chunks()
            if in_column:
                return self._recast(scalar, column, deviations)
            values = column.to_pylist()
            if pa.types.is_string(column.type) and scalar.declared.kind != "U":
                values = [self._encoder.row_of_cell(cell) for cell in values]
        else:
            values = self._without_fill(content)
        if in_column:
            if scalar.declared.kind == "U":
                return scalar.texts(values, 0, deviations)
            plain = [plain_scalar(value) for value in values]
            return exact_or_nearest(plain, scalar.dtype, self.label, 0, deviations)
        parsed = self._encoder.absorb(values, 0, deviations)
        if isinstance(parsed, list):  # their values are noted already
            for row_number in self._left_out:
                if row_number < len(parsed):
                    parsed[row_number] = LEFT_OUT
        self.remember_blank(parsed, 0)
        return self.pack(parsed, 0, deviations)

    def _recast(self, scalar: ScalarEncoder, column: pa.Array, deviations: Deviations) -> pa.Array:
        # What was read went through pandas: empty cells made floats of integers.
        if column.null_count == len(column) or not pa.types.is_floating(scalar.arrow_type):
            return column.cast(scalar.arrow_type)
        return exact_or_nearest(column.to_pylist(), scalar.dtype, self.label, 0, deviations)


def _in_json(dtype: np.dtype) -> Any:
    """Return what of a type shows in JSON, where bytes are text of any length."""
    if dtype.names is not None:
        return [(name, _in_json(dtype[name].base)) for name in dtype.names]
    return "text" if dtype.kind in "US" else _described(dtype)


def _described(dtype: np.dtype) -> Any:
    return dtype.str if dtype.fields is None else dtype.descr


def _left_out(values: Sequence[Any], column: pa.Array, start: int) -> list[int]:
    """Return the numbers of the rows that have a value, but an empty cell."""
    filled = column.is_valid().to_pylist()
    return [
        start + i
        for i, value in enumerate(values)
        if not filled[i] and only_element(plain_scalar(value)) is not None
    ]


def _without_nul(column: pa.Array, key: str, start: int, deviations: Deviations) -> pa.Array:
    """Empty the cells whose text has a NUL, which the database refuses."""
    has_nul = pc.match_substring(column, "\0").fill_null(False)
    if not pc.any(has_nul).as_py():
        return column
    for index in np.flatnonzero(has_nul.to_numpy(zero_copy_only=False)):
        deviations.add(key, Deviation.LEFT_OUT, start + int(index), column[int(index)].as_py())
    return pc.if_else(has_nul, pa.scalar(None, column.type), column)
