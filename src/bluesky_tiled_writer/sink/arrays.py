"""Array nodes, a row an event."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from tiled.structures.array import ArrayStructure, BuiltinDtype, StructDtype
from tiled.structures.core import StructureFamily

from bluesky_tiled_writer.errors import RequestRefused
from bluesky_tiled_writer.run import ExtendArray

from .items import data_source, structure_of
from .node import StoredNode

OCTET_STREAM = "application/octet-stream"

CHUNK_BYTES = 16 * 2**20
"""Largest chunk of an array node, in bytes."""


class ArrayNode(StoredNode):
    """An array node. Blocks are written at an offset: writing one twice does no harm."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._request_bytes = min(4 * CHUNK_BYTES, self._limits.request_size.most)
        self._row_bytes = 1

    def append(self, step: ExtendArray) -> None:
        """Append the rows of a step that the node does not hold yet."""
        self.require_form((step.block.dtype, step.block.shape[1:]), step.start)
        self._row_bytes = max(1, step.block[:1].nbytes)
        self.resolve_uncertainty(step.block)
        block = step.block[self.first_missing(step.start) :]
        if len(block) and not self.exists:
            self._create(block)
            block = step.block[self.first_missing(step.start) :]
        for part in self._parts(block):
            self._send("PATCH", part, {"offset": str(self.rows), "extend": True})

    def _create(self, block: np.ndarray) -> None:
        """Create the node with the first rows of a block.

        The server cuts all later rows into chunks as large as those of the first write, and counts
        whole chunks: so the first write is one chunk, and full.
        """
        first = block[: max(1, min(CHUNK_BYTES, self._request_bytes) // self._row_bytes)]
        structure = ArrayStructure(
            data_type=data_type(block.dtype),
            shape=first.shape,
            chunks=tuple((size,) for size in first.shape),
            dims=self.node.dims,
        )
        body = data_source(StructureFamily.array, asdict(structure))
        if self.create(body, block) is None or self._send("PUT", first):
            return
        try:
            self.delete()
        except RequestRefused as error:
            if not error.lacks_scope:
                raise
            return  # its chunks are larger than need be, and are written in pieces
        self._create(block)

    def _parts(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the rows in pieces that the server does not refuse for their size."""
        while len(block):
            before = self.rows
            yield block[: max(1, self._request_bytes // self._row_bytes)]
            block = block[self.rows - before :]  # the piece may have been too large

    def _send(self, method: str, part: np.ndarray, params: Mapping[str, Any] | None = None) -> bool:
        """Write rows; False, and smaller pieces from now on, if these are too many."""
        if params is not None:
            params = {**params, "shape": ",".join(map(str, part.shape))}
        content = np.ascontiguousarray(part).tobytes()
        if self._write(method, "array/full", len(part), content, OCTET_STREAM, params):
            return True
        self._request_bytes = part.nbytes // 2
        return False

    # -- what the server holds ------------------------------------------------------------------

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows `start` to `stop`, in few requests however small the chunks are."""
        structure = ArrayStructure.from_json(structure_of(self._item()))
        dtype, row_shape = structure.data_type.to_numpy_dtype(), structure.shape[1:]
        at_once = max(1, 2 * CHUNK_BYTES // max(1, dtype.itemsize * math.prod(row_shape)))
        parts = [np.empty((0, *row_shape), dtype)]
        for first in range(start, stop, at_once):
            last = min(first + at_once, stop)
            answer = self._requests.send(
                "GET",
                "array/full",
                self.path,
                headers={"Accept": OCTET_STREAM},
                params={"slice": f"{first}:{last}"},
            )
            parts.append(np.frombuffer(answer.read(), dtype).reshape(-1, *row_shape))
        return np.concatenate(parts)

    def _matches(self, item: Mapping[str, Any], wanted: np.ndarray) -> bool:
        if item["attributes"]["structure_family"] != StructureFamily.array:
            return False
        structure = structure_of(item)
        found = ArrayStructure.from_json(structure).data_type
        same_type = bool(found.to_numpy_dtype() == wanted.dtype)
        return same_type and tuple(structure["shape"][1:]) == wanted.shape[1:]

    def _take_over(self, item: Mapping[str, Any]) -> None:
        structure = structure_of(item)
        rows, first_chunk = structure["shape"][0], structure["chunks"][0][0]
        if rows < self.rows:
            raise self.start_over("has lost rows")
        # The node is created with the shape of its first rows, which may not have been written.
        # Later writes came after that of the first rows, and each made the shape grow when done.
        if not self.rows and rows > first_chunk:
            self.rows = rows

    def _count(self) -> int:
        item = self._requests.item(self.path)
        return structure_of(item)["shape"][0] if item else -1


def data_type(dtype: np.dtype) -> BuiltinDtype | StructDtype:
    """Return a numpy data type as Tiled describes it."""
    if dtype.fields is not None:
        return StructDtype.from_numpy_dtype(dtype)
    return BuiltinDtype.from_numpy_dtype(dtype)
