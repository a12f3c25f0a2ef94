"""Scalar values of one key, into an Arrow column of a type that holds them all.

The type is the declared one as long as every value fits it, see `widening`. Arrow converts a whole
batch at once and refuses what it cannot hold exactly; only the values of a batch that it refused
are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .data_key import TEXT, column_type_exists
from .notes import Deviation, Deviations
from .plain_values import json_text, plain_number, plain_scalar
from .to_numpy import is_numeric_array, only_element
from .widening import FLOAT_EXACT, INT64_MAX, Number, TypeRequirements, all_fit, fits

_NONE = type(None)
# The types whose values Arrow converts or refuses, but never changes in silence. Of others it
# does: it takes bytes for text, and numbers for booleans.
_FAST: dict[str, frozenset[type]] = {
    "U": frozenset({str, np.str_, _NONE}),
    "b": frozenset({bool, np.bool_, _NONE}),
    "i": frozenset({int, np.int64, np.int32, np.int16, np.int8, _NONE}),
    "u": frozenset({int, np.uint64, np.uint32, np.uint16, np.uint8, _NONE}),
    "f": frozenset({float, int, np.float64, _NONE}),
}


class ScalarEncoder:
    """Encodes the scalars of one key into a column, whose type is widened as they need it.

    Parameters
    ----------
    key : str
        Name of the data key, for the notes.
    declared : numpy.dtype
        The declared type; `TEXT` for text.
    may_be_arrays : bool
        True if arrays in place of numbers are to be stored; else they do not fit.

    Attributes
    ----------
    requirements : TypeRequirements
        Requirements of the values on the type of the column.
    has_values : bool
        True if there was a scalar, or an array of one, which is taken for its element.
    has_arrays : bool
        True if there was another array of numbers in place of a number: no column holds it.
    """

    def __init__(self, key: str, declared: np.dtype, *, may_be_arrays: bool = True) -> None:
        self.key = key
        self._may_be_arrays = may_be_arrays
        self.declared = declared
        self.requirements = TypeRequirements()
        self.has_values = self.has_arrays = False
        self._has_null = False
        self._has_large = False
        self._has_text = False
        self._has_bytes = False

    @property
    def dtype(self) -> np.dtype:
        """The type that holds all values that have come so far."""
        if self.declared.kind == "U":
            return TEXT
        return self.requirements.resolve(self.declared)

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type of the column."""
        return arrow_type(self.dtype)

    @property
    def fits_column(self) -> bool:
        """True if Tiled can read the values back exactly from a column.

        Bytes can only be stored as they are in an array, and so they are unless there is text, too.
        It reads through pandas, where an integer column with an empty cell becomes floats: one
        with an integer beyond 2**53 would come back changed, or not at all.
        """
        dtype = self.dtype
        if dtype.kind == "U":
            return self._has_text or not self._has_bytes
        unreadable = self.has_arrays or (self._has_null and self._has_large and dtype.kind in "iu")
        return column_type_exists(dtype) and not unreadable

    def encode(self, values: Sequence[Any], start: int, deviations: Deviations) -> pa.Array | None:
        """Convert the values of consecutive rows, and widen the type if they need it.

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
        pyarrow.Array or None
            Of the type `arrow_type` as it is after the call; None if no column can have the type
            that the values need, or if some of them are arrays of numbers.
        """
        column = self._convert_fast(values)
        if column is not None and self.declared.kind == "U":
            self._has_text |= column.null_count < len(column)
        if column is None:
            column = self._convert(values, start, deviations)
        if column is not None:
            self._account(column)
        return column

    def _convert_fast(self, values: Sequence[Any]) -> pa.Array | None:
        dtype = self.dtype
        if isinstance(values, np.ndarray):
            if values.ndim == 1 and values.dtype.kind in "biuf" and dtype.kind in "biuf":
                return pa.array(values.astype(dtype)) if all_fit(values, dtype) else None
            values = values.tolist()
        # Types come in long runs: a set of the types of all values takes twice as long.
        types = {kind for kind, _ in groupby(values, type)}
        if dtype.kind not in _FAST or not types <= _FAST[dtype.kind]:
            return None
        try:
            if dtype.kind == "f" and dtype.itemsize < 8:
                wide = pa.array(values, pa.float64())
                narrow = wide.cast(arrow_type(dtype), safe=False)
                return narrow if narrow.cast(pa.float64()).equals(wide) else None
            return pa.array(values, arrow_type(dtype))
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            return None

    def _convert(
        self, values: Sequence[Any], start: int, deviations: Deviations
    ) -> pa.Array | None:
        if self.declared.kind == "U":
            return self.texts(values, start, deviations)
        if self._may_be_arrays and any(map(is_numeric_array, values)):
            self.has_arrays = True
            return None
        numbers = self._numbers(values, start, deviations)
        for number in numbers:
            if number is not None:
                self.requirements.add(number, self.declared)
        if not column_type_exists(self.dtype):
            return None
        return exact_or_nearest(numbers, self.dtype, self.key, start, deviations)

    def _numbers(
        self, values: Sequence[Any], start: int, deviations: Deviations
    ) -> list[Number | None]:
        """Return the values as plain numbers; None, with a note, for one that is no number."""
        numbers: list[Number | None] = []
        for i, value in enumerate(values):
            plain = only_element(plain_scalar(value))
            number, exact = plain_number(plain)
            if number is None and plain is not None:
                deviations.add(self.key, Deviation.LEFT_OUT, start + i, value)
            elif not exact:
                deviations.add(self.key, Deviation.NEAREST, start + i, value)
            numbers.append(number)
        return numbers

    def texts(self, values: Sequence[Any], start: int, deviations: Deviations) -> pa.Array:
        """Convert values to a column of text; see `encode` for the parameters."""
        values = [only_element(plain_scalar(value)) for value in values]
        for value in values:
            # Arrays of bytes do not keep a NUL at the end.
            if isinstance(value, bytes) and not value.endswith(b"\0"):
                self._has_bytes = True
            elif value is not None:
                self._has_text = True
        texts = [as_text(value, self.key, start + i, deviations) for i, value in enumerate(values)]
        return pa.array(texts, pa.string())

    def _account(self, column: pa.Array) -> None:
        """Take account of what the conversion of a whole column has not looked at."""
        self.has_values |= column.null_count < len(column)
        self._has_null |= column.null_count > 0  # of any type: it may become integers later
        if not pa.types.is_integer(column.type) or column.null_count == len(column):
            return
        wanted = self.requirements
        above = wanted.above_int64 or column.type != pa.uint64()
        if not (wanted.negative and above and (self._has_large or column.type.bit_width < 64)):
            extremes = pc.min_max(column)
            low, high = extremes["min"].as_py(), extremes["max"].as_py()
            wanted.negative |= low < 0
            wanted.above_int64 |= high > INT64_MAX
            self._has_large |= low < -FLOAT_EXACT or high > FLOAT_EXACT


def arrow_type(dtype: np.dtype) -> pa.DataType:
    """Return the Arrow type of a column with elements of this type, in native byte order."""
    if dtype.kind == "U":
        return pa.string()
    return pa.from_numpy_dtype(dtype.newbyteorder("="))


def as_text(value: Any, key: str, row_number: int, deviations: Deviations) -> str | None:
    """Return the text to store for a value, with a note unless it is the value itself."""
    plain = plain_scalar(value)
    if plain is None:
        return None
    if isinstance(plain, str):
        try:
            plain.encode()
        except UnicodeEncodeError:  # a lone surrogate, which no database accepts
            deviations.add(key, Deviation.LEFT_OUT, row_number, value)
            return None
        return plain
    deviations.add(key, Deviation.AS_TEXT, row_number, value)
    return json_text(plain)


def exact_or_nearest(
    numbers: Sequence[Number | None], dtype: np.dtype, key: str, start: int, deviations: Deviations
) -> pa.Array:
    """Convert numbers to a column of a type that lacks precision for some of them at most.

    Parameters
    ----------
    numbers : sequence
        One number a row; None where a row has none.
    dtype : numpy.dtype
        The type.
    key : str
        Name of the data key, for the notes.
    start : int
        Number of the first row.
    deviations : Deviations
        Records the numbers that the type does not hold exactly.
    """
    convert = {"b": bool, "i": int, "u": int}.get(dtype.kind, float)
    converted: list[Any] = []
    for i, number in enumerate(numbers):
        if number is None:
            converted.append(None)
            continue
        if not fits(number, dtype):
            deviations.add(key, Deviation.NEAREST, start + i, number)
        try:
            converted.append(convert(number.real if isinstance(number, complex) else number))
        except OverflowError:  # an integer beyond the range of float64
            converted.append(float("inf") if number > 0 else float("-inf"))  # type: ignore[operator]
    return pa.array(converted, arrow_type(dtype))
