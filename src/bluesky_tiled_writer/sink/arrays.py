"""Arrays and ragged arrays, a row an event."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import httpx
import numpy as np
from tiled.structures.array import ArrayStructure, BuiltinDtype, StructDtype
from tiled.structures.core import StructureFamily

from bluesky_tiled_writer.errors import OutOfStep, RequestRefused
from bluesky_tiled_writer.run import ExtendArray, ExtendRagged
from bluesky_tiled_writer.schema import RaggedRows, in_columns, ragged_name

from .node import StoredNode, data_source, structure_of

CHUNK_BYTES = 16 * 2**20
"""Largest chunk of an array node, in bytes of its data type."""

SMALL_CHUNK = 2**20
MANY_CHUNKS = 16
"""An array of more chunks than this, and smaller ones than that, is slow to read."""

MOST_REWRITTEN = 64 * 2**20
"""Bytes of an array that is written anew in larger chunks, at most: they go through memory."""


class ArrayNode(StoredNode):
    """An array node. A block is written at an offset, so that writing it twice does no harm."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._request_bytes = 4 * CHUNK_BYTES
        self._chunk_rows = 0
        self._row_bytes = 1
        self._rewriting: np.ndarray | None = None
        self._emptied = False

    def append(self, step: ExtendArray) -> None:
        """Append the rows of a step that the node does not hold yet."""
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

        The server takes the chunks of the first write for all that follow, and rounds an array
        up to whole chunks: so the first write has a whole number of them.
        """
        first = block[: max(1, min(CHUNK_BYTES, self._request_bytes) // self._row_bytes)]
        structure = ArrayStructure(
            data_type=_data_type(block.dtype),
            shape=first.shape,
            chunks=tuple((size,) for size in first.shape),
            dims=self.node.dims,
        )
        body = data_source(StructureFamily.array, asdict(structure))
        self._chunk_rows = len(first)
        if self.create(body, block) is not None and not self._send("PUT", first):
            self.delete()
            self._create(block)

    def _parts(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """A block in pieces that no server refuses for their size."""
        while len(block):
            before = self.rows
            yield block[: max(1, self._request_bytes // self._row_bytes)]
            block = block[self.rows - before :]

    def _send(self, method: str, part: np.ndarray, params: Mapping[str, Any] | None = None) -> bool:
        """Write rows; False if they are too many for one request."""
        if params is not None:
            params = {**params, "shape": ",".join(map(str, part.shape))}
        try:
            with self.noting_uncertainty():
                self._requests.send(
                    method,
                    "array/full",
                    self.path,
                    content=np.ascontiguousarray(part).tobytes(),
                    headers={"Content-Type": "application/octet-stream"},
                    params=params,
                )
        except RequestRefused as error:
            if error.status == httpx.codes.REQUEST_ENTITY_TOO_LARGE and len(part) > 1:
                self._request_bytes = part.nbytes // 2
                return False
            raise
        self.rows += len(part)
        return True

    def rechunk(self) -> None:
        """Write the array anew if it got many small chunks, which each take a request to read.

        The server fixes the chunks by the first rows, of which there were few if they came slowly.
        """
        if self._rewriting is None:
            if not self.exists or self.rows <= MANY_CHUNKS * self._chunk_rows:
                return
            small = self._chunk_rows * self._row_bytes < SMALL_CHUNK
            if not small or self.rows * self._row_bytes > MOST_REWRITTEN:
                return
            self._rewriting = self.read(0, self.rows)
            self._emptied = False
        if not self._emptied:
            try:
                self.delete()
            except RequestRefused as error:
                if error.uncertain:
                    raise
                self._rewriting = None  # who may not delete leaves it as it is
                return
            self._emptied = True
        self.append(ExtendArray(self.node, 0, self._rewriting))
        self._rewriting = None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows of the array, in few requests, whatever its chunks are."""
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
                headers={"Accept": "application/octet-stream"},
                params={"slice": f"{first}:{last}"},
            )
            parts.append(np.frombuffer(answer.read(), dtype).reshape(-1, *row_shape))
        return np.concatenate(parts)

    def _matches(self, item: Mapping[str, Any], wanted: np.ndarray) -> bool:
        if item["attributes"]["structure_family"] != StructureFamily.array:
            return False
        structure = structure_of(item)
        there = ArrayStructure.from_json(structure).data_type
        same_type = bool(there.to_numpy_dtype() == wanted.dtype)
        return same_type and tuple(structure["shape"][1:]) == wanted.shape[1:]

    def _take_over(self, item: Mapping[str, Any]) -> None:
        structure = structure_of(item)
        rows, first_chunk = structure["shape"][0], structure["chunks"][0][0]
        self._chunk_rows = first_chunk
        if rows < self.rows:
            raise self.start_over("has lost rows")
        # The rows that a node was created with may not have been written. Every later write came
        # after that of the first rows, and made the shape grow when it was done.
        if not self.rows and rows > first_chunk:
            self.rows = rows

    def _count(self) -> int:
        item = self._requests.item(self.path)
        return structure_of(item)["shape"][0] if item else -1


class RaggedNode(StoredNode):
    """A ragged node: appended to at its end, or refused."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._request_rows = 2**62

    def append(self, step: ExtendRagged) -> None:
        """Append the rows of a step that the node does not hold yet."""
        self.resolve_uncertainty(step.rows)
        rows = step.rows.since(self.first_missing(step.start))
        if len(rows) and not self.exists:
            rows = self._create(rows, step)
        while len(rows):
            part = rows.first(self._request_rows)
            params = {"shape": str(len(part)), "offset": str(self.rows), "extend": True}
            before = self.rows
            try:
                self._send("PATCH", part, params)
            except RequestRefused as error:
                if error.status == httpx.codes.CONFLICT:
                    # The rows are there, but the server stopped before it counted them.
                    raise self.start_over("was left unfinished by the server") from error
                raise
            rows = rows.since(self.rows - before)

    def _create(self, rows: RaggedRows, step: ExtendRagged) -> RaggedRows:
        """Create the node with the first rows; what is left to send comes back."""
        from tiled.structures.ragged import RaggedStructure

        rows = rows.first(self._request_rows)
        ndim_fixed = rows.shape.index(None)
        structure = RaggedStructure(
            data_type=_data_type(rows.dtype),
            shape=(len(rows), *rows.shape),
            size=sum(row.size for row in rows.rows),
            chunks=(
                (len(rows),),
                *((size,) for size in rows.shape[:ndim_fixed] if size is not None),
                *(None for _ in rows.shape[ndim_fixed:]),
            ),
            dims=self.node.dims,
        )
        try:
            answer = self.create(data_source(StructureFamily.ragged, asdict(structure)), rows)
        except RequestRefused as error:
            self.learn(error, ragged_name(rows.dtype))
            raise
        if answer is not None and not self._send("PUT", rows):
            self.delete()
            return self._create(rows, step)
        return step.rows.since(self.first_missing(step.start))

    def _send(self, method: str, rows: RaggedRows, params: Mapping[str, Any] | None = None) -> bool:
        """Write rows; False if they are too many for one request."""
        try:
            with self.noting_uncertainty():
                self._requests.send(
                    method,
                    "ragged/full",
                    self.path,
                    content=_ragged_buffers(rows),
                    headers={"Content-Type": "application/zip"},
                    params=params,
                )
        except RequestRefused as error:
            if error.status == httpx.codes.REQUEST_ENTITY_TOO_LARGE and len(rows) > 1:
                self._request_rows = len(rows) // 2
                return False
            raise
        self.rows += len(rows)
        return True

    def _matches(self, item: Mapping[str, Any], wanted: RaggedRows) -> bool:
        if item["attributes"]["structure_family"] != StructureFamily.ragged:
            return False
        structure = structure_of(item)
        data_type = asdict(_data_type(wanted.dtype))
        if not self.rows and len(structure["chunks"][0]) <= 1:
            return False  # it may have been created, but not written: it is made anew
        same_type = all(structure["data_type"][name] == data_type[name] for name in data_type)
        return same_type and tuple(structure["shape"][1:]) == tuple(wanted.shape)

    def _take_over(self, item: Mapping[str, Any]) -> None:
        rows = structure_of(item)["shape"][0]
        if rows < self.rows:
            raise self.start_over("has lost rows")
        self.rows = rows

    def read(self) -> list[np.ndarray]:
        """All of its rows."""
        from tiled.serialization.ragged import from_zipped_buffers
        from tiled.structures.ragged import RaggedStructure

        structure = RaggedStructure.from_json(structure_of(self._item()))
        accept = {"Accept": "application/zip"}
        answer = self._requests.send("GET", "ragged/full", self.path, headers=accept)
        rows = from_zipped_buffers(answer.read(), structure)
        return [np.asarray(row) for row in rows.tolist()]

    def _count(self) -> int:
        try:
            return len(self.read())
        except (OutOfStep, ValueError, TypeError):  # fewer rows than it says that it has
            return -1
        except RequestRefused as error:
            if not error.about_content:
                raise
            return -1  # the server fails on them itself


def _data_type(dtype: np.dtype) -> BuiltinDtype | StructDtype:
    if dtype.fields is not None:
        return StructDtype.from_numpy_dtype(dtype)
    return BuiltinDtype.from_numpy_dtype(dtype)


def _ragged_buffers(rows: RaggedRows) -> bytes:
    """Rows in the format that Tiled takes for ragged arrays."""
    import awkward
    import ragged
    from tiled.serialization.ragged import to_zipped_buffers

    levels, values = in_columns(rows)
    layout: Any = awkward.contents.NumpyArray(values)
    for level in reversed(levels):
        if isinstance(level, int):
            layout = awkward.contents.RegularArray(layout, level)
        else:
            offsets = awkward.index.Index64(level)
            layout = awkward.contents.ListOffsetArray(offsets, layout)
    return bytes(to_zipped_buffers("application/zip", ragged.array(layout), {}))
