"""Nested lists into numpy arrays, without the changes that numpy makes in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .plain_values import json_text, plain_number, plain_scalar
from .ragged_rows import NestedRow, Row
from .widening import FLOAT_EXACT, Number, fits


def regular_block(values: Sequence[Any]) -> np.ndarray | None:
    """Return all values as one array, None if that would change one or they differ in shape.

    Parameters
    ----------
    values : sequence or numpy.ndarray
        One value a row: arrays or nested lists.
    """
    if isinstance(values, np.ndarray):
        usable = values.dtype.kind != "O" and not isinstance(values, np.ma.MaskedArray)
        return values if usable else None
    kinds = set(map(type, values))
    if kinds == {np.ndarray}:
        first = values[0]
        if all(v.dtype == first.dtype and v.shape == first.shape for v in values):
            return np.stack(values) if first.dtype.kind != "O" else None
        return None
    if not kinds or not kinds <= {list, tuple, int, float, bool, str}:
        return None
    try:
        block = np.array(values)
    except (ValueError, OverflowError):
        return None
    return block if is_faithful(block, values) else None


def is_list(value: Any) -> bool:
    """Return True if a value has elements."""
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def row_of(value: Any) -> tuple[Row | None, bool]:
    """Return a value as an array, exactly as far as any type holds all of its elements.

    Parameters
    ----------
    value : Any
        An array, nested lists or a scalar.

    Returns
    -------
    tuple of (numpy.ndarray or NestedRow or None, bool)
        None if elements are nested at different depths; and False if its type does not hold all
        numbers exactly.
    """
    if isinstance(value, NestedRow):
        return value, True
    if isinstance(value, list | tuple):
        try:
            row = np.array(value)
        except (ValueError, OverflowError):
            return nested_row(value)
        if not is_faithful(row, value):
            row = np.array(value, dtype=object)
    else:
        row = np.asarray(value)
    if row.dtype.kind != "O":
        return row, True
    if any(map(is_list, row.flat)):
        return nested_row(row.tolist())
    return elements(row)


def nested_row(value: Any) -> tuple[Row | None, bool]:
    """Return nested lists of differing lengths as a row; for what it returns see `row_of`."""
    lengths: list[np.ndarray] = []
    items = [value]
    while items and is_list(items[0]):
        if not all(map(is_list, items)):
            return None, True
        lengths.append(np.array([len(item) for item in items], np.int64))
        items = [part for item in items for part in item]
    if any(map(is_list, items)):
        return None, True
    objects = np.empty(len(items), dtype=object)
    objects[:] = items
    typed, exact = elements(objects)
    row = NestedRow(typed, tuple(lengths))
    shape = row.shape
    if None in shape:
        return row, exact
    return typed.reshape(shape), exact  # type: ignore[arg-type]


def ragged_row(value: list[Any], dtype: np.dtype) -> Row:
    """Return a row of a ragged node, which is nested lists when it is read, in its type."""
    row, _ = row_of(value)
    if row is None:
        raise ValueError(f"{value!r} is no row of a ragged node")
    if isinstance(row, NestedRow):
        return row.with_elements(row.elements.astype(dtype, copy=False))
    return row.astype(dtype, copy=False)


def is_numeric_array(value: Any) -> bool:
    """Return True for an array of numbers, unless it is one of a single element."""
    if not is_list(value):
        return False
    row, _ = row_of(value)
    if row is None or (row.size == 1 and isinstance(row, np.ndarray)):
        return False
    return row.size == 0 or row.dtype.kind in "biufc"


def only_element(value: Any) -> Any:
    """Return the element of an array of one, as a plain scalar; other values as they are."""
    if isinstance(value, np.ma.MaskedArray) and value.size == 1:
        return plain_scalar(value.reshape(()))
    if is_list(value):
        row, _ = row_of(value)
        if isinstance(row, np.ndarray) and row.size == 1:
            return plain_scalar(row.reshape(()))
    return value


def elements(row: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return an array of Python objects in the type that they have in common.

    Numbers become the first of bool, int64, uint64, float64 and complex128 that holds them, with
    NaN for None; bytes become bytes, and all else text.

    Returns
    -------
    tuple of (numpy.ndarray, bool)
        The array, of the same shape; and False if its type does not hold all numbers exactly.
    """
    flat = [plain_scalar(item) for item in row.ravel()]
    numbers = [plain_number(item) for item in flat]
    if any(
        number is None and item is not None for item, (number, _) in zip(flat, numbers, strict=True)
    ):
        typed, exact = _typed(flat)
    else:
        typed, exact = _typed([number for number, _ in numbers])
        exact = exact and all(is_exact for _, is_exact in numbers)
    return typed.reshape(row.shape), exact


def _typed(items: list[Any]) -> tuple[np.ndarray, bool]:
    if all(isinstance(item, bool) for item in items):
        return np.array(items, dtype="?"), True
    if all(isinstance(item, int | float) for item in items):
        # As Python integers these may be exact where float64 is not.
        python = np.array(items, dtype=object)
        for name in ("i8", "u8"):
            try:
                integers = python.astype(name)
            except (OverflowError, ValueError):
                continue
            if bool((integers.astype(object) == python).all()):
                return integers, True
    if all(item is None or isinstance(item, int | float | complex) for item in items):
        numbers = [np.nan if item is None else item for item in items]
        dtype = np.dtype("c16" if any(isinstance(n, complex) for n in numbers) else "f8")
        exact = all(fits(number, dtype) for number in numbers)
        return np.array([_nearest(number) for number in numbers], dtype), exact
    if all(isinstance(item, bytes) for item in items):
        return np.array(items, dtype=bytes), True
    texts = [item if isinstance(item, str) else json_text(item) for item in items]
    return np.array(texts, dtype=str), True


def _nearest(number: Number) -> float | complex:
    try:
        return number if isinstance(number, complex) else float(number)
    except OverflowError:  # an integer beyond the range of float64
        return np.inf if number > 0 else -np.inf  # type: ignore[operator]


def is_faithful(block: np.ndarray, values: Any) -> bool:
    """Return True if numpy made this array of the values without changing one of them."""
    kind = block.dtype.kind
    if kind in "biu":
        return True
    if kind in "fc":
        # Large integers among floats, or beyond 64 bit, were rounded.
        with np.errstate(invalid="ignore"):
            return not bool((np.abs(block) >= FLOAT_EXACT).any()) or all(
                isinstance(item, float | complex) for item in _leaves(values)
            )
    if kind == "U":
        return all(isinstance(item, str) and not item.endswith("\0") for item in _leaves(values))
    if kind == "S":
        return all(isinstance(i, bytes) and not i.endswith(b"\0") for i in _leaves(values))
    return False


def _leaves(values: Any) -> Any:
    if isinstance(values, list | tuple):
        for item in values:
            yield from _leaves(item)
    else:
        yield values


def ends_in_nul(value: Any) -> bool:
    """Return True if a text or bytes in the value end in NUL, which numpy cuts off."""
    for item in _leaves(value):
        if isinstance(item, str) and item.endswith("\0"):
            return True
        if isinstance(item, bytes) and item.endswith(b"\0"):
            return True
    return False


def depth_of(value: Any) -> int:
    """Return how deep lists are nested, to judge by their first items."""
    depth = 0
    while isinstance(value, list | tuple) and value:
        value, depth = value[0], depth + 1
    return depth
