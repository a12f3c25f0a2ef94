"""Values as numpy makes arrays of them, where it changes none in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .scalars import json_text, plain_scalar
from .widening import FLOAT_EXACT


def regular_block(values: Sequence[Any]) -> np.ndarray | None:
    """All the values as one block, where that changes none of them."""
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


def elements(row: np.ndarray) -> np.ndarray:
    """An array of Python objects as an array of the type they have in common."""
    flat = [plain_scalar(item) for item in row.ravel()]
    if all(isinstance(item, bool | int | float) for item in flat):
        # As Python integers these may be exact where float64 is not.
        exact = np.array(flat, dtype=object)
        for dtype in ("i8", "u8", "f8"):
            try:
                typed = exact.astype(dtype)
            except (OverflowError, ValueError):
                continue
            if dtype == "f8" or bool((typed.astype(object) == exact).all()):
                return typed.reshape(row.shape)
    if all(item is None or isinstance(item, bool | int | float) for item in flat):
        missing = [np.nan if item is None else item for item in flat]
        return np.array(missing, dtype="f8").reshape(row.shape)
    if all(isinstance(item, bytes) for item in flat):
        return np.array(flat, dtype=bytes).reshape(row.shape)
    texts = [item if isinstance(item, str) else json_text(item) for item in flat]
    return np.array(texts, dtype=str).reshape(row.shape)


def is_faithful(block: np.ndarray, values: Any) -> bool:
    """Whether numpy made this array without changing a value in silence."""
    kind = block.dtype.kind
    if kind in "biuc":
        return True
    if kind == "f":
        # Large integers among floats, or beyond 64 bit, were rounded.
        with np.errstate(invalid="ignore"):
            return not bool((np.abs(block) >= FLOAT_EXACT).any()) or all(
                isinstance(item, float) for item in _leaves(values)
            )
    if kind == "U":
        return all(isinstance(item, str) and not item.endswith("\0") for item in _leaves(values))
    return kind == "S" and not ends_in_nul(values)


def _leaves(values: Any) -> Any:
    if isinstance(values, list | tuple):
        for item in values:
            yield from _leaves(item)
    else:
        yield values


def ends_in_nul(value: Any) -> bool:
    """Whether numpy would cut a trailing NUL off a text."""
    for item in _leaves(value):
        if isinstance(item, str) and item.endswith("\0"):
            return True
        if isinstance(item, bytes) and item.endswith(b"\0"):
            return True
    return False


def matches(shape: tuple[int, ...], pattern: tuple[int | None, ...]) -> bool:
    """Whether a shape is as a pattern says, where None stands for any size."""
    return all(
        wanted is None or wanted == size for size, wanted in zip(shape, pattern, strict=True)
    )


def depth_of(value: Any) -> int:
    """How deep lists are nested, by their first items."""
    depth = 0
    while isinstance(value, list | tuple) and value:
        value, depth = value[0], depth + 1
    return depth


def tuples_at(value: Any, depth: int) -> Any:
    """Nested lists with the lists at this depth as tuples, which numpy takes for records."""
    if depth == 0:
        return tuple(value)
    return [tuples_at(item, depth - 1) for item in value]
