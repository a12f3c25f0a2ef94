"""The numeric type that holds every value of a key, chosen from the set of its values.

The declared type stands as long as all values fit it. A value that does not fit makes the type
wider; how wide depends on the values only, never on their order or on how they were batched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
UINT64_MAX = 2**64 - 1
FLOAT_EXACT = 2**53
"""Integers up to this magnitude are exact as float64."""

Number = bool | int | float | complex


@dataclass
class TypeRequirements:
    """Requirements of all values of a key so far on the type that holds them.

    Flags change from False to True only, so that the order of values does not matter.

    Attributes
    ----------
    wider : bool
        A value does not fit the declared type.
    negative, above_int64 : bool
        A value is below 0, or above the largest int64.
    floating : bool
        A value is no integer of 64 bit, signed or not.
    complex : bool
        A value has an imaginary part.
    """

    wider: bool = False
    negative: bool = False
    above_int64: bool = False
    floating: bool = False
    complex: bool = False

    def add(self, value: Number, declared: np.dtype) -> None:
        """Take account of one value."""
        if not fits(value, declared):
            self.wider = True
        if isinstance(value, complex):
            self.complex |= value.imag != 0
            value = value.real
        if isinstance(value, float):
            if not value.is_integer():
                self.floating = True
                return
            value = int(value)
        if value < 0:
            self.negative = True
        if value > INT64_MAX:
            self.above_int64 = True
        if not INT64_MIN <= value <= UINT64_MAX:
            self.floating = True

    def add_array(self, values: np.ndarray, declared: np.dtype) -> None:
        """Take account of an array of numbers, of any shape."""
        if values.size == 0:
            return
        if not all_fit(values, declared):
            self.wider = True
        if values.dtype.kind == "c":
            self.complex |= bool((values.imag != 0).any())
            values = values.real
        if values.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                whole = bool((np.isfinite(values) & (values == np.trunc(values))).all())
            if not whole:
                self.floating = True
                return
        low, high = values.min().item(), values.max().item()
        self.negative |= low < 0
        self.above_int64 |= high > INT64_MAX
        self.floating |= low < INT64_MIN or high > UINT64_MAX

    def resolve(self, declared: np.dtype) -> np.dtype:
        """Return the declared type if all values fit it, else the type of 64 bit or more to use.

        That is int64, uint64, float64 or complex128, the first that holds all values as far as
        any does: integers above int64 and negative ones together, or integers among fractions,
        lose digits beyond 2**53.
        """
        if not self.wider:
            return declared
        if self.complex or declared.kind == "c":
            return np.dtype("c16")
        if self.floating or declared.kind == "f" or (self.above_int64 and self.negative):
            return np.dtype("f8")
        return np.dtype("u8") if self.above_int64 else np.dtype("i8")


def fits(value: Number, dtype: np.dtype) -> bool:
    """Return True if the type holds a number exactly."""
    kind = dtype.kind
    if isinstance(value, complex):
        if kind == "c":
            return fits(value.real, _part(dtype)) and fits(value.imag, _part(dtype))
        return value.imag == 0 and fits(value.real, dtype)
    if kind == "c":
        return fits(value, _part(dtype))
    if kind == "f":
        return _fits_float(value, dtype)
    if isinstance(value, float):
        if not value.is_integer():
            return False
        value = int(value)
    if kind == "b":
        return value in (0, 1)
    info = np.iinfo(dtype)
    return bool(info.min <= value <= info.max)


def _part(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"f{dtype.itemsize // 2}")


def _fits_float(value: bool | int | float, dtype: np.dtype) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return True
    if dtype.itemsize >= 8:
        try:
            return isinstance(value, float) or int(float(value)) == value
        except OverflowError:
            return False
    with np.errstate(over="ignore"):
        try:
            narrow = dtype.type(value)
        except OverflowError:
            return False
    return bool(np.isfinite(narrow)) and (
        int(narrow) == value if isinstance(value, int) else float(narrow) == value
    )


def all_fit(values: np.ndarray, dtype: np.dtype) -> bool:
    """Return True if the type holds all numbers of an array exactly."""
    kind = values.dtype.kind
    same_kind = kind == dtype.kind and values.dtype.itemsize <= dtype.itemsize
    if same_kind or kind == "b" or values.size == 0:
        return True
    if kind == "c":
        if dtype.kind == "c":
            part = _part(dtype)
            return all_fit(values.real, part) and all_fit(values.imag, part)
        return not bool((values.imag != 0).any()) and all_fit(values.real, dtype)
    if dtype.kind == "c":
        return all_fit(values, _part(dtype))
    if dtype.kind == "b":
        return bool(((values == 0) | (values == 1)).all())
    if dtype.kind == "f":
        return _fit_floats(values, dtype)
    info = np.iinfo(dtype)
    if kind == "f":
        with np.errstate(all="ignore"):
            # The maximum is no float, but the power of two above it is.
            inside = (values >= float(info.min)) & (values < float(info.max) + 1)
            whole = np.isfinite(values) & (values == np.trunc(values))
            return bool((inside & whole).all())
    return bool(int(values.min()) >= info.min and int(values.max()) <= info.max)


def _fit_floats(values: np.ndarray, dtype: np.dtype) -> bool:
    if values.dtype.kind == "f":
        with np.errstate(all="ignore"):
            narrow = values.astype(dtype)
            same = (narrow == values) | (np.isnan(values) & np.isnan(narrow))
        return bool(same.all())
    exact = 2 ** {2: 11, 4: 24}.get(dtype.itemsize, 53)
    if values.max() <= exact and values.min() >= -exact:
        return True
    with np.errstate(all="ignore"):
        narrow = values.astype(dtype)
        # What is beyond the integers becomes any of them, or the same one, when it is cast back.
        beyond = (narrow >= float(np.iinfo(values.dtype).max) + 1) | ~np.isfinite(narrow)
        if bool(beyond.any()):
            return False
        return bool((narrow.astype(values.dtype) == values).all())
