"""Copies of the values of events, which a device may change afterwards, and their size."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from bluesky_tiled_writer.schema import fields_of

NUMBERS = "biufc"
"""Kinds of numpy types whose values take about the same memory each."""

PLAIN = frozenset(
    {float, int, bool, complex, type(None), *(np.dtype(code).type for code in "?bhilqBHILQefdgFDG")}
)
"""Types whose values cannot change, and take about the same memory each."""

_NESTED = (list, tuple, np.ndarray, dict)


def own_values(values: Sequence[Any]) -> tuple[list[Any], int]:
    """Copy the values of an event.

    Returns
    -------
    tuple of (list, int)
        The values, and about how many bytes they take beyond those of numbers.
    """
    own = []
    nbytes = 0
    for value in values:
        if (kind := type(value)) in PLAIN:
            own.append(value)
        elif kind is ndarray and not value.dtype.hasobject:  # the most frequent case
            own.append(value.copy())
            nbytes += value.nbytes
        else:
            own.append(own_value(value))
            nbytes += sized_bytes(value)
    return own, nbytes


def own_column(values: Any) -> tuple[Sequence[Any], int]:
    """Copy a column of a page; returns what `own_values` does.

    Raises
    ------
    TypeError
        If it is no sequence of values.
    """
    if isinstance(values, str | bytes | Mapping):
        raise TypeError(f"the column {values!r}")
    if isinstance(values, np.ma.MaskedArray):  # joined with others, it would lose its mask
        values = list(values)
    if isinstance(values, np.ndarray) and values.ndim:
        numbers = values.ndim == 1 and values.dtype.kind in NUMBERS
        return own_value(values), 0 if numbers else values.nbytes
    column = list(values)
    if PLAIN.issuperset(map(type, column)):
        return column, 0
    return own_values(column)


def own_value(value: Any) -> Any:
    """Copy a value as deep as it consists of lists, dictionaries and arrays.

    All items of a list are taken to be of the kind of its first.
    """
    if isinstance(value, np.ndarray):
        return _own_array(value)
    if isinstance(value, list | tuple):
        nested = bool(value) and isinstance(value[0], _NESTED)
        return list(map(own_value, value)) if nested else list(value)
    if isinstance(value, dict):
        return {key: own_value(item) for key, item in value.items()}
    if isinstance(value, set | bytearray | np.void):
        return copy.copy(value)
    try:
        fields = None if isinstance(value, str | bytes) else fields_of(value)
    except Exception:  # any object may look like one
        return value
    return value if fields is None else own_value(fields)


def _own_array(value: np.ndarray) -> np.ndarray:
    if value.dtype.hasobject:
        try:
            return copy.deepcopy(value)
        except Exception:  # an object that cannot be copied
            pass
    return value.copy()


def sized_bytes(value: Any) -> int:
    """About how many bytes a value takes beyond those of a number; lists by their first item."""
    if isinstance(value, np.ndarray | np.void):
        return value.nbytes
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if isinstance(value, dict):
        return sum(sized_bytes(item) or 8 for item in value.values())
    if isinstance(value, list | tuple) and value:
        return len(value) * (sized_bytes(value[0]) or 8)
    return 0
