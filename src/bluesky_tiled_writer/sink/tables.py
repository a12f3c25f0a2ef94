"""Table nodes: rows are appended, and can be told apart only by what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tiled.mimetypes import APACHE_ARROW_FILE_MIME_TYPE
from tiled.serialization.table import serialize_arrow
from tiled.structures.core import StructureFamily
from tiled.structures.table import TableStructure

from bluesky_tiled_writer.errors import RequestRefused
from bluesky_tiled_writer.run import AppendRows
from bluesky_tiled_writer.schema import column_groups, join_columns, read_arrow_file

from .node import StoredNode, data_source, structure_of

SQL_TABLE_MIME_TYPE = "application/x-tiled-sql-table"

REQUEST_BYTES = 32 * 2**20
"""Bytes of rows in one request, at most."""


class TableNode(StoredNode):
    """A table node.

    An append that takes effect twice leaves its rows twice. So after one whose outcome was
    uncertain, the columns that tell rows apart are read back and compared with the rows to send.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._request_bytes = REQUEST_BYTES
        # Rows found in Tiled that are still to be compared, in the columns that tell them apart.
        self._found: pa.Table | None = None

    def append(self, step: AppendRows) -> None:
        """Append the rows of a step that the node does not hold yet."""
        table = step.table.slice(min(self.first_missing(step.start), len(step.table)))
        self.resolve_uncertainty(table.schema)
        if not self.exists:
            self._create(table.schema)
        if self._found is not None:
            table = self._skip_found(self._found, table)
        for part in self._parts(table):
            self._send(part)

    def _create(self, schema: pa.Schema) -> None:
        self._found = None
        structure = asdict(TableStructure.from_schema(schema))
        source = data_source(StructureFamily.table, structure, SQL_TABLE_MIME_TYPE)
        try:
            self.create(source, schema)
        except RequestRefused as error:
            suspects = ["u8"] if pa.uint64() in schema.types else []
            if any(map(pa.types.is_list, schema.types)):
                suspects.append("lists")
            self.learn(error, *suspects)
            raise

    def _parts(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield the rows in pieces that the server does not refuse for their size."""
        while len(table):
            rows = max(1, int(len(table) * self._request_bytes / max(1, table.nbytes)))
            before = self.rows
            yield table.slice(0, rows)
            table = table.slice(self.rows - before)  # the piece may have been too large

    def _send(self, table: pa.Table) -> None:
        """Write rows; none, and smaller pieces from now on, if these are too many."""
        content = bytes(serialize_arrow(APACHE_ARROW_FILE_MIME_TYPE, table, {}))
        try:
            written = self._write(
                "PATCH",
                "table/partition",
                len(table),
                content,
                APACHE_ARROW_FILE_MIME_TYPE,
                {"partition": 0},
            )
        except RequestRefused as error:
            if _has_nul(table):
                self.learn(error, "NUL")
            raise
        if not written:
            self._request_bytes = max(1, min(self._request_bytes, table.nbytes) // 2)

    # -- what the server holds ------------------------------------------------------------------

    def _matches(self, item: Mapping[str, Any], wanted: pa.Schema) -> bool:
        if item["attributes"]["structure_family"] != StructureFamily.table:
            return False
        found = TableStructure(**structure_of(item)).arrow_schema_decoded
        return bool(found.equals(wanted))

    def _take_over(self, item: Mapping[str, Any]) -> None:
        found = self.read(telling_columns(structure_of(item)["columns"]))
        if len(found) < self.rows:
            raise self.start_over("has lost rows")
        self._found = found.slice(self.rows)

    def _skip_found(self, found: pa.Table, table: pa.Table) -> pa.Table:
        """Return the rows that Tiled lacks, if those that it was found to hold are the same.

        Raises
        ------
        OutOfStep
            If Tiled holds other rows.
        """
        both = min(len(found), len(table))
        if not _same(found.slice(0, both), table.slice(0, both)):
            raise self.start_over("holds rows twice, or other ones")
        self.rows += both
        left = found.slice(both)
        self._found = left if len(left) else None
        return table.slice(both)

    def _count(self) -> int:
        if (item := self._requests.item(self.path)) is None:
            return -1
        columns = structure_of(item)["columns"]
        return len(self.read(telling_columns(columns)[:1]))

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the table, or some of its columns; no columns if it is gone."""
        if columns is None:
            item = self._requests.item(self.path)
            columns = structure_of(item)["columns"] if item else []
        parts = [self._read(names) for names in column_groups(columns, self.rows)]
        return join_columns(parts).select(columns)

    def _read(self, columns: Sequence[str]) -> pa.Table:
        answer = self._requests.send(
            "POST",
            "table/full",
            self.path,
            json_body=columns,
            headers={"Accept": APACHE_ARROW_FILE_MIME_TYPE},
        )
        return read_arrow_file(answer.read())


def telling_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that tell rows apart; only these are read back."""
    if "seq_num" in columns and "time" in columns:
        return ["seq_num", "time"]
    stamps = [name for name in columns if name.startswith("ts_")]
    return (stamps or list(columns))[:2]


def _same(found: pa.Table, sent: pa.Table) -> bool:
    return all(_equal(found[name], sent[name]) for name in found.column_names)


def _equal(found: pa.ChunkedArray, sent: pa.ChunkedArray) -> bool:
    """Compare columns; a null equals NaN, since the server reads tables through pandas."""
    if pa.types.is_floating(sent.type) or pa.types.is_integer(sent.type):
        ours, theirs = (
            pc.cast(column, sent.type, safe=False).to_numpy() for column in (sent, found)
        )
        return bool(np.array_equal(ours, theirs, equal_nan=True))
    return bool(found.to_pylist() == sent.to_pylist())


def _has_nul(table: pa.Table) -> bool:
    return any(
        pa.types.is_string(column.type) and pc.any(pc.match_substring(column, "\0")).as_py()
        for column in table.columns
    )
