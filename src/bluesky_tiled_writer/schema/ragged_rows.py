"""Rows of varying lengths, as a ragged node takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Content: TypeAlias = pa.Table | np.ndarray | list[Any]
"""The rows of a node as they are read back: a table, a block, or a list of ragged rows."""


@dataclass(frozen=True)
class NestedRow:
    """A row whose lengths vary within the row itself, so that no numpy array can hold it.

    Parameters
    ----------
    elements : numpy.ndarray
        All elements in order, in one dimension.
    lengths : tuple of numpy.ndarray
        For each dimension, from the outermost inwards, the lengths of all lists in it. The first
        has one length, and each of the others as many as the one before counts items.
    """

    elements: np.ndarray
    lengths: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return int(self.lengths[0][0])

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.lengths)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The size of each dimension; None where it varies."""
        return tuple(
            int(lengths[0]) if len(lengths) and (lengths == lengths[0]).all() else None
            for lengths in self.lengths
        )

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.elements.size

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements."""
        return self.elements.dtype

    def with_elements(self, elements: np.ndarray) -> NestedRow:
        """Return a row of this structure with other elements."""
        return replace(self, elements=elements)

    def tolist(self) -> list[Any]:
        """Return the row as nested lists."""
        items = self.elements.tolist()
        for lengths in reversed(self.lengths):
            ends = np.cumsum(lengths)
            items = [items[end - n : end] for end, n in zip(ends, lengths, strict=True)]
        return items[0]  # type: ignore[no-any-return]


Row: TypeAlias = np.ndarray | NestedRow
"""A row of a ragged node."""


def in_shape(row: Row, shape: tuple[int | None, ...]) -> Row:
    """Return a row with as many dimensions as the rows of its node.

    A scalar becomes an array of one element. What has no elements may have fewer dimensions than
    other rows, since an empty list does not say what it is a list of.
    """
    if row.ndim == 0:
        return row.reshape((1,) * len(shape))  # type: ignore[union-attr]
    if row.size or not shape:
        return row
    if isinstance(row, NestedRow):
        missing = len(shape) - row.ndim
        return replace(row, lengths=row.lengths + (np.zeros(0, np.int64),) * missing)
    sizes = [*row.shape, *(0 for _ in shape[row.ndim :])]
    empty = sizes.index(0)
    fixed = [size or 0 for size in shape[empty + 1 :]]
    return np.empty((*sizes[: empty + 1], *fixed), row.dtype)


@dataclass(frozen=True)
class RaggedRows:
    """Rows of one data type and of differing lengths.

    Parameters
    ----------
    rows : sequence of numpy.ndarray or NestedRow
        One row an event; all have `len(shape)` dimensions.
    dtype : numpy.dtype
        Their common type.
    shape : tuple of (int or None)
        The shape of a row; None where it varies.
    """

    rows: Sequence[Row]
    dtype: np.dtype
    shape: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def since(self, count: int) -> RaggedRows:
        """Return these rows without the first `count`."""
        return RaggedRows(self.rows[count:], self.dtype, self.shape)

    def first(self, count: int) -> RaggedRows:
        """Return the first `count` of these rows."""
        return RaggedRows(self.rows[:count], self.dtype, self.shape)


def in_columns(rows: RaggedRows) -> tuple[list[np.ndarray | int], np.ndarray]:
    """Split nested rows into offsets and flat values, from the outermost dimension inwards.

    Parameters
    ----------
    rows : RaggedRows
        Rows whose shape has at least one None.

    Returns
    -------
    tuple of (list, numpy.ndarray)
        For each dimension of a row up to the innermost None: the offsets (int64, one more than
        there are items) where its length varies, else its length. And the values, an array of
        shape (total, *trailing fixed dimensions).
    """
    last_ragged = max(axis for axis, size in enumerate(rows.shape) if size is None)
    fixed = tuple(size or 0 for size in rows.shape[last_ragged + 1 :])
    levels: list[np.ndarray | int] = []
    for axis, size in enumerate(rows.shape[: last_ragged + 1]):
        if size is None:
            lengths = [_lengths(row, axis) for row in rows.rows]
            levels.append(np.concatenate(([0], *lengths)).cumsum().astype(np.int64))
        else:
            levels.append(size)
    parts = [row.elements if isinstance(row, NestedRow) else row for row in rows.rows]
    # Without a size to infer: where there are no elements, any number of items would do.
    counts = [part.size // (math.prod(fixed) or 1) for part in parts]
    parts = [
        part.reshape(count, *fixed) for part, count in zip(parts, counts, strict=True) if part.size
    ]
    values = np.concatenate([np.empty((0, *fixed), rows.dtype), *parts])
    # numpy has several types for a C size (long, long long); they are equal to numpy, so that
    # `astype` keeps them, but not to others.
    return levels, values.astype(rows.dtype, copy=False).view(np.dtype(rows.dtype.str))


def _lengths(row: Row, axis: int) -> Sequence[int] | np.ndarray:
    """Return the lengths of all lists of one dimension of a row."""
    if isinstance(row, NestedRow):
        return row.lengths[axis]
    return [row.shape[axis]] * math.prod(row.shape[:axis])
