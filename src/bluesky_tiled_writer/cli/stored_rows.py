"""The rows of a stream in Tiled: where the values of each key are, read a page at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from bluesky_tiled_writer.errors import mapped_errors


@dataclass
class KeyColumns:
    """Where the values of keys are, their timestamps, and what could not be stored as it came."""

    values: dict[str, Any]
    stamps: dict[str, Any]
    verbatim: dict[str, Any]


class ArrayRows:
    """The rows of an array or of a ragged array, read a page at a time.

    Parameters
    ----------
    node : tiled.client.array.ArrayClient or tiled.client.ragged.RaggedClient
        The client of the node.

    Attributes
    ----------
    row_bytes : int
        Bytes that a row takes, about.
    declared : dict
        A data key for it, if no descriptor has one.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        shape = tuple(node.shape)
        self._length = int(shape[0]) if shape else 0
        dtype = getattr(node, "dtype", None)
        sizes = [size or 1 for size in shape[1:]]
        self.row_bytes = int(np.prod(sizes, initial=1)) * getattr(dtype, "itemsize", 8)
        self.declared = {
            "source": "",
            "dtype": "array",
            "shape": [*shape[1:]],
            **(
                {} if dtype is None else {"dtype_numpy": dtype.descr if dtype.fields else dtype.str}
            ),
        }

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> Any:
        """Return some rows, None for those that the node does not have."""
        end = min(stop, self._length)
        if end <= start:
            return [None] * (stop - start)
        with mapped_errors(f"the request for node {self._node.item['id']!r}"):
            part = None if (start, end) == (0, self._length) else slice(start, end)
            values = self._node.read(part) if part else self._node.read()
        rows = values if isinstance(values, np.ndarray) else values.tolist()
        return rows if end == stop else [*rows, *[None] * (stop - end)]


def rows_of(source: Any, start: int, stop: int) -> Any:
    """Return some rows of a column or of a node."""
    if isinstance(source, ArrayRows):
        return source.read(start, stop)
    return source.slice(start, stop - start).to_pylist()


def page_column(source: Any, kept: Any, start: int, stop: int, *, may_be_json: bool) -> Any:
    """Return some values of a key as they came.

    Parameters
    ----------
    source, kept : Any
        Where its values are, and those that could not be stored as they came, if any.
    start, stop : int
        The rows.
    may_be_json : bool
        True if text among them stands for what is no text: arrays that a server has no node for.
    """
    rows = rows_of(source, start, stop)
    if may_be_json and isinstance(rows, list) and any(isinstance(row, str) for row in rows):
        rows = list(map(_of_json, rows))
    if kept is None:
        return rows
    return [
        _as_it_came(value, text)
        for value, text in zip(rows, rows_of(kept, start, stop), strict=True)
    ]


def _of_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def declaration(source: Any) -> dict[str, Any]:
    """Declare a key that is stored, and that no descriptor declares."""
    if isinstance(source, ArrayRows):
        return source.declared
    kind, dtype = source.type, "string"
    if pa.types.is_boolean(kind):
        dtype = "boolean"
    elif pa.types.is_integer(kind):
        dtype = "integer"
    elif pa.types.is_floating(kind):
        dtype = "number"
    return {"source": "", "dtype": dtype, "shape": []}


def _as_it_came(value: Any, text: Any) -> Any:
    """Return the value of an event, of which a text keeps what could not be stored."""
    if not isinstance(text, str) or not text:
        return value
    kept = json.loads(text)
    if isinstance(kept, dict) and kept.keys() == {"masked"} and isinstance(value, np.ndarray):
        mask = np.zeros(value.size, bool)
        for start, stop in kept["masked"]:
            mask[start:stop] = True
        return np.ma.MaskedArray(value, mask.reshape(value.shape))
    return kept
