"""The numeric type that holds every value of a key exactly, whatever their order.

The declared type stands as long as all the values fit it. A value that does not fit makes the
type wider; how wide depends on the set of the values only, never on how they were batched.
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
    """What the values of a key have asked for so far, beyond the declared type.

    All flags only ever go from False to True, so that the order of values does not matter.
    """

    wider: bool = False
    negative: bool = False
    above_int64: bool = False
    floating: bool = False
    complex: bool = False

    def add(self, value: Number, declared: np.dtype) -> None:
        """Account for one value."""
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
        """Account for an array of numbers, shape any."""
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
        """Choose the type: the declared one, or else the narrowest of the wide ones that fits."""
        if not self.wider:
            return declared
        if self.complex or declared.kind == "c":
            return np.dtype("c16")
        if self.floating or declared.kind == "f" or (self.above_int64 and self.negative):
            return np.dtype("f8")
        return np.dtype("u8") if self.above_int64 else np.dtype("i8")


def fits(value: Number, dtype: np.dtype) -> bool:
    """Whether a number is exactly representable."""
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
    """Whether all the numbers of an array are exactly representable."""
    same_kind = values.dtype.kind == dtype.kind and values.dtype.itemsize <= dtype.itemsize
    if same_kind or values.dtype.kind == "b" or values.size == 0:
        return True
    if values.dtype.kind in "iu" and dtype.kind in "fc":
        part = dtype.itemsize // (2 if dtype.kind == "c" else 1)
        exact = 2 ** {2: 11, 4: 24}.get(part, 53)
        return bool(values.max() <= exact and values.min() >= -exact) or _round_trips(values, dtype)
    if values.dtype.kind in "iu" and dtype.kind in "iu":
        info = np.iinfo(dtype)
        return bool(int(values.min()) >= info.min and int(values.max()) <= info.max)
    if dtype.kind == "b":
        return bool(((values == 0) | (values == 1)).all())
    return _round_trips(values, dtype)


def _round_trips(values: np.ndarray, dtype: np.dtype) -> bool:
    with np.errstate(all="ignore"):
        if dtype.kind in "iu":
            if values.dtype.kind == "c":
                if (values.imag != 0).any():
                    return False
                values = values.real
            info = np.iinfo(dtype)
            # Compare with powers of two: the maximum itself is not a float.
            inside = (values >= float(info.min)) & (values < float(info.max) + 1)
            if not bool(inside.all()):
                return False
            return bool((values == np.trunc(values)).all())
        if values.dtype.kind == "c" and dtype.kind != "c":
            return not bool((values.imag != 0).any()) and _round_trips(values.real, dtype)
        narrow = values.astype(dtype)
        if values.dtype.kind in "iu":
            limit = float(np.iinfo(values.dtype).max) + 1
            real = narrow.real if dtype.kind == "c" else narrow
            if bool((real >= limit).any()):
                return False
            return bool((real.astype(values.dtype) == values).all())
        both_nan = np.isnan(values) & np.isnan(narrow)
        return bool((both_nan | (narrow.astype(values.dtype) == values)).all())
