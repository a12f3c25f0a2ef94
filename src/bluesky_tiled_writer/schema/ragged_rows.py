"""Rows of varying lengths, as a ragged node takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Content: TypeAlias = pa.Table | np.ndarray | list[Any]
"""The rows of a node as they are read back: a table, a block, or a list of ragged rows."""


@dataclass(frozen=True)
class RaggedRows:
    """Rows of one data type and of differing lengths.

    Parameters
    ----------
    rows : sequence of numpy.ndarray
        One array an event; all have `len(shape)` dimensions.
    dtype : numpy.dtype
        Their common type.
    shape : tuple of (int or None)
        The shape of a row; None where it varies.
    """

    rows: Sequence[np.ndarray]
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
    fixed = rows.shape[last_ragged + 1 :]
    levels: list[np.ndarray | int] = []
    items: Sequence[np.ndarray] = rows.rows
    for size in rows.shape[: last_ragged + 1]:
        if size is None:
            lengths = np.fromiter((len(item) for item in items), np.int64, len(items))
            levels.append(np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))
        else:
            levels.append(size)
        if len(levels) <= last_ragged:
            items = [part for item in items for part in item]
    empty = np.empty((0, *(size or 0 for size in fixed)), rows.dtype)
    values = np.concatenate([empty, *items]).astype(rows.dtype, copy=False)
    # numpy has several types for a C size (long, long long); they are equal to numpy, so that
    # `astype` keeps them, but not to others.
    return levels, values.view(np.dtype(rows.dtype.str))
