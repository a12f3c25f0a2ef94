"""Values without what wraps them, and values as text."""

from __future__ import annotations

import json
import math
from collections import UserString
from decimal import Decimal
from enum import Enum
from numbers import Complex, Real
from pathlib import PurePath
from typing import Any

import numpy as np

from .json_values import fields_of, safe_repr, to_json
from .ragged_rows import NestedRow


def plain_scalar(value: Any) -> Any:
    """Unwrap a scalar: numpy scalars, 0-d arrays, enums, paths and subclasses of str become plain.

    A masked scalar becomes None. Other values are returned as they are, as are times of numpy,
    which would lose their unit.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        if np.ma.is_masked(value):
            return None
        value = np.ma.getdata(value)[()]
    if isinstance(value, np.generic) and value.dtype.kind not in "Mm":
        value = value.item()
    if isinstance(value, str | UserString | PurePath):
        return str(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return value


def plain_number(value: Any) -> tuple[bool | int | float | complex | None, bool]:
    """Return a number as Python has it: the nearest float for other types of numbers.

    Returns
    -------
    tuple of (number or None, bool)
        None for what is no number; and False if the number is not exactly the value. A decimal
        number is exact if it has no more digits than a float.
    """
    if isinstance(value, bool | int | float | complex):
        return value, True
    try:
        if isinstance(value, Decimal):
            return _plain_decimal(value)
        if isinstance(value, Real | np.floating):
            number = float(value)
            if math.isfinite(number) and abs(number) < 2**64 and value == (whole := round(value)):
                return int(whole), True
            return number, bool(number == value or math.isnan(number))
        if isinstance(value, Complex | np.complexfloating):
            pair = complex(value)
            return pair, bool(pair == value or pair != pair)
    except (ArithmeticError, TypeError, ValueError):
        pass
    return None, True


def _plain_decimal(value: Decimal) -> tuple[int | float, bool]:
    if value.is_nan():
        return math.nan, True
    if value.is_finite() and abs(value) < 2**64 and value == int(value):
        return int(value), True
    number = float(value)
    return number, value == Decimal(repr(number))


_OTHER_NUMBERS = (Decimal, Complex, np.floating, np.complexfloating)
"""Types of numbers; those of Python are among them."""


def json_text(value: Any) -> str:
    """Return a value as JSON text, with NaN as Python's json writes and reads it; text as it is."""
    if isinstance(value, bytes):
        value = to_json(value)[0]
    if isinstance(value, str):
        return value
    if isinstance(value, _OTHER_NUMBERS) and not isinstance(value, int | float):
        return str(value)
    try:
        return json.dumps(value, default=_json_fallback)
    except (TypeError, ValueError):  # keys that are not text, or a value that contains itself
        return repr(value)


def json_verbatim(value: Any) -> str:
    """Return any value as JSON, in ASCII, so that no database refuses it; else its repr as JSON."""
    if isinstance(value, np.ma.MaskedArray | NestedRow):
        value = value.tolist()
    try:
        return json.dumps(plain_scalar(value), default=_json_fallback)
    except Exception:  # objects may raise anything; mappings may have keys that are no text
        return json.dumps(safe_repr(value))


def json_mask(value: np.ma.MaskedArray) -> str:
    """Return where an array is masked, as JSON: ranges of its elements, counted in one dimension.

    The values are stored, so this is all that is lost of them, and it is short for an image.
    """
    edges = np.flatnonzero(np.diff(np.ma.getmaskarray(value).ravel(), prepend=False, append=False))
    return json.dumps({"masked": edges.reshape(-1, 2).tolist()})


def _json_fallback(value: Any) -> Any:
    if (fields := fields_of(value)) is not None:
        return fields
    if isinstance(value, _OTHER_NUMBERS):
        number, exact = plain_number(value)
        return number if exact and not isinstance(number, complex) else str(value)
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else to_json(value)[0]
