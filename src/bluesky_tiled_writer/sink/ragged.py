"""Ragged nodes, a row of any length an event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import httpx
from tiled.structures.core import StructureFamily

from bluesky_tiled_writer.errors import OutOfStep, RequestRefused, StorageUnsupported
from bluesky_tiled_writer.run import ExtendRagged
from bluesky_tiled_writer.schema import RaggedRows, Row, in_columns, ragged_name, ragged_row

from .arrays import data_type
from .items import data_source, structure_of
from .node import StoredNode

ZIP = "application/zip"


class RaggedNode(StoredNode):
    """A ragged node. The server appends rows at its end only, and refuses any other offset."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._request_rows = 2**62

    def append(self, step: ExtendRagged) -> None:
        """Append the rows of a step that the node does not hold yet."""
        self.require_form((step.rows.dtype, tuple(step.rows.shape)), step.start)
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
        """Create the node with the first rows; return those that are left to send."""
        from tiled.structures.ragged import RaggedStructure

        rows = rows.first(self._request_rows)
        ndim_fixed = rows.shape.index(None)
        structure = RaggedStructure(
            data_type=data_type(rows.dtype),
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
            # Servers before there were ragged nodes do not know the family; that is not by chance.
            unknown = error.status == httpx.codes.UNPROCESSABLE_ENTITY
            if unknown and "structure_family" in str(error) and self._limits.learn("ragged"):
                raise StorageUnsupported(str(error), status=error.status) from error
            self.learn(error, ragged_name(rows.dtype))
            raise
        if answer is not None and not self._send("PUT", rows):
            self.delete()
            return self._create(rows, step)
        return step.rows.since(self.first_missing(step.start))

    def _send(self, method: str, rows: RaggedRows, params: Mapping[str, Any] | None = None) -> bool:
        """Write rows; False, and fewer at once from now on, if these are too many."""
        if self._write(method, "ragged/full", len(rows), _buffers(rows), ZIP, params):
            return True
        self._request_rows = len(rows) // 2
        return False

    # -- what the server holds ------------------------------------------------------------------

    def read(self) -> list[Row]:
        """Read all rows."""
        from tiled.serialization.ragged import from_zipped_buffers
        from tiled.structures.ragged import RaggedStructure

        structure = RaggedStructure.from_json(structure_of(self._item()))
        answer = self._requests.send("GET", "ragged/full", self.path, headers={"Accept": ZIP})
        rows = from_zipped_buffers(answer.read(), structure)
        dtype = structure.data_type.to_numpy_dtype()
        return [ragged_row(row, dtype) for row in rows.tolist()]

    def _matches(self, item: Mapping[str, Any], wanted: RaggedRows) -> bool:
        if item["attributes"]["structure_family"] != StructureFamily.ragged:
            return False
        structure = structure_of(item)
        expected = asdict(data_type(wanted.dtype))
        if not self.rows and len(structure["chunks"][0]) <= 1:
            return False  # it may have been created without being written: create it anew
        same_type = all(structure["data_type"][name] == expected[name] for name in expected)
        return same_type and tuple(structure["shape"][1:]) == tuple(wanted.shape)

    def _take_over(self, item: Mapping[str, Any]) -> None:
        rows = structure_of(item)["shape"][0]
        if rows < self.rows:
            raise self.start_over("has lost rows")
        self.rows = rows

    def _count(self) -> int:
        try:
            return len(self.read())
        except (OutOfStep, ValueError, TypeError):  # it has fewer rows than it says
            return -1
        except RequestRefused as error:
            if not error.about_content:
                raise
            return -1  # the server itself fails to read them


def _buffers(rows: RaggedRows) -> bytes:
    """Return rows in the format in which Tiled takes ragged arrays."""
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
    return bytes(to_zipped_buffers(ZIP, ragged.array(layout), {}))
