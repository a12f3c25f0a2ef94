"""Shapes, chunks and types of external data: pure functions of declarations."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from tiled.structures.array import BuiltinDtype, StructDtype


def pieces(total: int, size: int) -> tuple[int, ...]:
    """Return the chunks of a length: all of one size, but the last may be smaller."""
    if total <= 0:
        return (0,)
    whole, rest = divmod(total, size)
    return (size,) * whole + ((rest,) if rest else ())


def count(value: Any) -> int | None:
    """Return a number of things as an integer; None if it is no whole number.

    Numpy's integers and floats such as 1.0 will do, as devices and JSON have them.
    """
    if isinstance(value, float | np.floating):
        return int(value) if float(value).is_integer() else None
    try:
        return operator.index(value)
    except TypeError:
        return None


def counts(values: Any) -> tuple[int, ...]:
    """Return a shape as integers.

    Raises
    ------
    TypeError
        If it is not a sequence, or a size is no integer.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{values!r} is not a shape")
    sizes = tuple(map(count, values))
    if None in sizes:
        raise TypeError(f"{values!r} has a size that is no whole number")
    return cast("tuple[int, ...]", sizes)


def shape_of_datum(
    declared: tuple[int, ...], multiplier: int | None, *, stacked: bool
) -> tuple[int, ...]:
    """Return the shape of the data of one index.

    Parameters
    ----------
    declared : tuple of int
        Shape of the data key.
    multiplier : int, optional
        Frames in each datum, if the resource gives them (formerly ``frame_per_point``).
    stacked : bool
        True if datums are joined along a new dimension, so that a lone value needs none itself.
    """
    shape = () if stacked and declared == (1,) else declared
    if not multiplier or (shape and shape[0] == multiplier):
        return shape
    if shape and shape[0] == 1:
        return (multiplier, *shape[1:])
    return (multiplier, *shape)


def data_type(description: Any) -> BuiltinDtype | StructDtype:
    """Return the type of a `dtype_numpy`, a type string or a list of fields; float64 for None.

    Raises
    ------
    TypeError or ValueError
        If numpy has no such type, or Tiled does not serve it.
    """
    if isinstance(description, str) or description is None:
        return BuiltinDtype.from_numpy_dtype(np.dtype(description))
    return StructDtype.from_numpy_dtype(np.dtype(_fields(description)))


def _fields(description: Any) -> list[tuple[Any, ...]]:
    """Return fields as numpy needs them: JSON makes lists of its tuples, at every level."""
    fields = []
    for name, kind, *shape in description:
        fields.append(
            (name, kind if isinstance(kind, str) else _fields(kind), *map(_sub_shape, shape))
        )
    return fields


def _sub_shape(shape: Any) -> Any:
    return tuple(shape) if isinstance(shape, list) else shape
