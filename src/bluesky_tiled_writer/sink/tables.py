"""Tables: rows are appended, and can be told apart only by what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tiled.mimetypes import APACHE_ARROW_FILE_MIME_TYPE
from tiled.serialization.table import serialize_arrow
from tiled.structures.core import StructureFamily
from tiled.structures.table import TableStructure

from bluesky_tiled_writer.errors import RequestRefused
from bluesky_tiled_writer.run import AppendRows

from .lead import Lead
from .node import StoredNode, data_source, is_gone, structure_of

SQL_TABLE_MIME_TYPE = "application/x-tiled-sql-table"

READ_BYTES = 64 * 2**20
"""How much of a table is read at once when it has to be rebuilt."""

REQUEST_BYTES = 32 * 2**20
"""Bytes of rows in one request, at most."""


class TableNode(StoredNode):
    """A table node.

    An append that was carried out twice leaves rows twice. So when its outcome was in doubt, the
    columns that tell rows apart are read back, and compared with the rows that are to be sent.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._request_bytes = REQUEST_BYTES
        # Of rows that Tiled was found to hold and that are yet to be compared: some columns.
        self._found: pa.Table | None = None

    def append(self, step: AppendRows) -> None:
        """Append the rows of a step that the node does not hold yet."""
        table = step.table.slice(min(self.first_missing(step.start), len(step.table)))
        self.resolve_uncertainty(table.schema)
        lead = None if self.exists else self._begin(table.schema)
        if self._found is not None:
            kept = self._skip_found(table)
            if kept is None:
                raise self.start_over("holds rows twice, or other ones")
            table = kept
        for part in self._parts(table):
            early = lead is not None and lead.wait()
            try:
                self._send(part, early=early)
            finally:
                if lead is not None:
                    lead.settle()

    def _begin(self, schema: pa.Schema) -> Lead | None:
        """Create the node; on a server that is far away the first rows follow before its answer."""
        lag = self._requests.distance.lag
        if lag is None or not self.untouched or self.uncertain_since:
            self._create(schema)
            return None

        def create() -> None:
            if self._create(schema) is None:  # the rows may be in a table that is not ours
                raise self.disputed()

        return Lead(create, lag)

    def _create(self, schema: pa.Schema) -> httpx.Response | None:
        self._found = None
        structure = asdict(TableStructure.from_schema(schema))
        source = data_source(StructureFamily.table, structure, SQL_TABLE_MIME_TYPE)
        try:
            return self.create(source, schema)
        except RequestRefused as error:
            doubtful = ["u8"] if pa.uint64() in schema.types else []
            if any(map(pa.types.is_list, schema.types)):
                doubtful.append("lists")
            self.learn(error, *doubtful)
            raise

    def _parts(self, table: pa.Table) -> Iterator[pa.Table]:
        """Rows in pieces that no server refuses for their size."""
        while len(table):
            rows = max(1, int(len(table) * self._request_bytes / max(1, table.nbytes)))
            before = self.rows
            yield table.slice(0, rows)
            table = table.slice(self.rows - before)  # which may be none

    def _send(self, table: pa.Table, *, early: bool) -> None:
        """Write rows, or none if they are too many for one request, or come too early."""
        content = bytes(serialize_arrow(APACHE_ARROW_FILE_MIME_TYPE, table, {}))
        try:
            with self.noting_uncertainty(early=early):
                self._requests.send(
                    "PATCH",
                    "table/partition",
                    self.path,
                    content=content,
                    headers={"Content-Type": APACHE_ARROW_FILE_MIME_TYPE},
                    params={"partition": 0},
                )
        except RequestRefused as error:
            if early and is_gone(error):
                return
            if error.status == httpx.codes.REQUEST_ENTITY_TOO_LARGE and len(table) > 1:
                self._request_bytes = max(1, min(self._request_bytes, table.nbytes) // 2)
                return
            if _has_nul(table):
                self.learn(error, "NUL")
            raise
        self.rows += len(table)
        self._refusals = 0

    # -- what is there --------------------------------------------------------------------------

    def _matches(self, item: Mapping[str, Any], wanted: pa.Schema) -> bool:
        if item["attributes"]["structure_family"] != StructureFamily.table:
            return False
        there = TableStructure(**structure_of(item)).arrow_schema_decoded
        return bool(there.equals(wanted))

    def _take_over(self, item: Mapping[str, Any]) -> None:
        columns = structure_of(item)["columns"]
        found = self.read(telling_columns(columns))
        if len(found) < self.rows:
            raise self.start_over("has lost rows")
        self._found = found.slice(self.rows)

    def _skip_found(self, table: pa.Table) -> pa.Table | None:
        """Leave out the rows that Tiled was found to hold; None if it holds other ones."""
        assert self._found is not None
        both = min(len(self._found), len(table))
        if not _same(self._found.slice(0, both), table.slice(0, both)):
            return None
        self.rows += both
        self._found = self._found.slice(both)
        if not len(self._found):
            self._found = None
        return table.slice(both)

    def _count(self) -> int:
        item = self._requests.item(self.path)
        columns = structure_of(item)["columns"] if item else []
        return len(self.read(telling_columns(columns)[:1])) if item else -1

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read it as Arrow: the client's way, through pandas and dask, makes text of lists."""
        if columns is None:
            item = self._requests.item(self.path)
            columns = structure_of(item)["columns"] if item else []
        width = max(1, READ_BYTES // max(1, self.rows * 16))
        table = None
        for start in range(0, len(columns), width):
            names = list(columns[start : start + width])
            answer = self._requests.send(
                "POST",
                "table/full",
                self.path,
                json_body=names,
                headers={"Accept": APACHE_ARROW_FILE_MIME_TYPE},
            )
            part = pa.ipc.open_file(pa.BufferReader(answer.read())).read_all()
            for name in names:
                column = part[name]
                table = (
                    pa.table({name: column}) if table is None else table.append_column(name, column)
                )
        return pa.table({}) if table is None else table


def telling_columns(columns: Sequence[str]) -> list[str]:
    """The columns that tell rows apart: none but these are read back."""
    if "seq_num" in columns and "time" in columns:
        return ["seq_num", "time"]
    stamps = [name for name in columns if name.startswith("ts_")]
    return (stamps or list(columns))[:2]


def _same(found: pa.Table, sent: pa.Table) -> bool:
    return all(_equal(found[name], sent[name]) for name in found.column_names)


def _equal(found: pa.ChunkedArray, sent: pa.ChunkedArray) -> bool:
    """Whether columns hold the same; what was read went through pandas, which knows no null."""
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
