"""Scalar values of one key, into an Arrow column of a type that holds them all.

The type is the declared one as long as every value fits it, see `numeric`. The fast path lets
Arrow convert a whole list and refuse what it cannot hold; values are looked at one by one only
in a batch where it refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .data_key import TEXT, column_type_exists
from .json_values import to_json
from .notes import Deviation, Deviations
from .widening import FLOAT_EXACT, Number, TypeRequirements, all_fit, fits

_NONE = type(None)
# The exact types that Arrow converts without changing a value in silence: it would take bytes
# for text and numbers for booleans.
_FAST: dict[str, frozenset[type]] = {
    "U": frozenset({str, np.str_, _NONE}),
    "b": frozenset({bool, np.bool_, _NONE}),
    "i": frozenset({int, np.int64, np.int32, np.int16, np.int8, _NONE}),
    "u": frozenset({int, np.uint64, np.uint32, np.uint16, np.uint8, _NONE}),
    "f": frozenset({float, int, np.float64, _NONE}),
}
_NUMBERS = (bool, int, float, complex)


class ScalarEncoder:
    """The type of a column: what was declared, and what its values have asked for since.

    Parameters
    ----------
    key : str
        Name of the data key, for the notes.
    declared : numpy.dtype
        DeclaredKey type; `schema.TEXT` for text.
    """

    def __init__(self, key: str, declared: np.dtype) -> None:
        self.key = key
        self.declared = declared
        self.needs = TypeRequirements()
        self._has_null = False
        self._has_large = False

    @property
    def dtype(self) -> np.dtype:
        """The type that holds all the values so far."""
        if self.declared.kind == "U":
            return TEXT
        return self.needs.resolve(self.declared)

    @property
    def arrow_type(self) -> pa.DataType:
        """The same, as Arrow calls it."""
        return arrow_type(self.dtype)

    @property
    def fits_column(self) -> bool:
        """Whether the values can be a column that Tiled reads back exactly.

        It reads through pandas, where an integer column with an empty cell becomes floats: with
        an integer beyond 2**53 in it, it would come back changed, or not at all.
        """
        dtype = self.dtype
        unreadable = self._has_null and self._has_large and dtype.kind in "iu"
        return column_type_exists(dtype) and not unreadable

    def encode(self, values: Sequence[Any], start: int, deviations: Deviations) -> pa.Array | None:
        """Convert the values of consecutive rows, widening the type if they need it.

        Parameters
        ----------
        values : sequence or numpy.ndarray
            One value a row; None for a row without.
        start : int
            Ordinal of the first row.
        deviations : Deviations
            Takes what could not be stored as it came.

        Returns
        -------
        pyarrow.Array or None
            Of type `arrow_type` as it is after the call; None if the values ask for a type that
            no column has.
        """
        column = self._convert_fast(values)
        if column is None:
            column = self._convert(values, start, deviations)
        if column is not None:
            self._look_at(column)
        return column

    def _convert_fast(self, values: Sequence[Any]) -> pa.Array | None:
        dtype = self.dtype
        if isinstance(values, np.ndarray):
            if values.ndim == 1 and values.dtype.kind in "biuf" and dtype.kind in "biuf":
                return pa.array(values.astype(dtype)) if all_fit(values, dtype) else None
            values = values.tolist()
        # They come in long runs of one type; a set of the types of all takes twice as long.
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
            texts = [
                as_text(value, self.key, start + i, deviations) for i, value in enumerate(values)
            ]
            return pa.array(texts, pa.string())
        numbers = self.numbers(values, start, deviations)
        for number in numbers:
            if number is not None:
                self.needs.add(number, self.declared)
        if not column_type_exists(self.dtype):
            return None
        return exact_or_nearest(numbers, self.dtype, self.key, start, deviations)

    def numbers(
        self, values: Sequence[Any], start: int, deviations: Deviations
    ) -> list[Number | None]:
        """Reduce values to numbers; what is no number is None, and noted."""
        numbers: list[Number | None] = []
        for i, value in enumerate(values):
            number = plain_scalar(value)
            if number is not None and not isinstance(number, _NUMBERS):
                deviations.add(self.key, Deviation.LEFT_OUT, start + i, value)
                number = None
            numbers.append(number)
        return numbers

    def _look_at(self, column: pa.Array) -> None:
        """Keep in mind what decides between columns and types later on."""
        self._has_null |= column.null_count > 0  # of any type: it may become integers later
        if not pa.types.is_integer(column.type) or column.null_count == len(column):
            return
        if not (self.needs.negative and (self._has_large or column.type.bit_width < 64)):
            extremes = pc.min_max(column)
            low, high = extremes["min"].as_py(), extremes["max"].as_py()
            self.needs.negative |= low < 0
            self._has_large |= low < -FLOAT_EXACT or high > FLOAT_EXACT


def arrow_type(dtype: np.dtype) -> pa.DataType:
    """The Arrow type of a column with these values; native byte order."""
    if dtype.kind == "U":
        return pa.string()
    return pa.from_numpy_dtype(dtype.newbyteorder("="))


def plain_scalar(value: Any) -> Any:
    """Strip what wraps a scalar: numpy scalars, 0-d arrays, enums, subclasses of str and int."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.generic) and value.dtype.kind not in "Mm":  # those lose their unit
        value = value.item()
    if isinstance(value, str):
        return str(value)
    return value


def as_text(value: Any, key: str, row_number: int, deviations: Deviations) -> str | None:
    """The text to store for a value of a text column, with a note unless it is the value."""
    plain = plain_scalar(value)
    if plain is None:
        return None
    if isinstance(plain, str):
        try:
            plain.encode()
        except UnicodeEncodeError:  # a lone surrogate: no database takes it
            deviations.add(key, Deviation.LEFT_OUT, row_number, value)
            return None
        return plain
    deviations.add(key, Deviation.AS_TEXT, row_number, value)
    return json_text(plain)


def json_text(value: Any) -> str:
    """A value as JSON text (NaN as Python's json writes and reads it); text as it is."""
    if isinstance(value, bytes):
        value = to_json(value)[0]
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, default=_json_fallback)
    except (TypeError, ValueError):  # keys that are no text, or a circle
        return repr(value)


def _json_fallback(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else to_json(value)[0]


def exact_or_nearest(
    numbers: Sequence[Number | None], dtype: np.dtype, key: str, start: int, deviations: Deviations
) -> pa.Array:
    """Convert numbers to a type that fits all of them but for precision."""
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
