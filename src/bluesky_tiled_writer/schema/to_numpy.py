"""Nested lists into numpy arrays, without the changes that numpy makes in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .plain_values import json_text, plain_scalar
from .widening import FLOAT_EXACT, Number, fits


def regular_block(values: Sequence[Any]) -> np.ndarray | None:
    """Return all values as one array, None if that would change one or they differ in shape.

    Parameters
    ----------
    values : sequence or numpy.ndarray
        One value a row: arrays or nested lists.
    """
    if isinstance(values, np.ndarray):
        return values if values.dtype.kind != "O" else None
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
    typed, exact = _typed(flat)
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


def matches(shape: tuple[int, ...], pattern: tuple[int | None, ...]) -> bool:
    """Return True if a shape has the sizes of a pattern, in which None stands for any size."""
    return all(
        wanted is None or wanted == size for size, wanted in zip(shape, pattern, strict=True)
    )


def depth_of(value: Any) -> int:
    """Return how deep lists are nested, to judge by their first items."""
    depth = 0
    while isinstance(value, list | tuple) and value:
        value, depth = value[0], depth + 1
    return depth


def tuples_at(value: Any, depth: int) -> Any:
    """Return nested lists with those at this depth as tuples, which numpy takes for records."""
    if depth == 0:
        return tuple(value)
    return [tuples_at(item, depth - 1) for item in value]
