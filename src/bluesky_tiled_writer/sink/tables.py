"""Table nodes: rows are appended, and can be told apart only by what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tiled.structures.core import StructureFamily
from tiled.structures.table import TableStructure
from tiled.utils import APACHE_ARROW_FILE_MIME_TYPE

from bluesky_tiled_writer.errors import RequestRefused, Retry
from bluesky_tiled_writer.run import AppendRows
from bluesky_tiled_writer.schema import (
    ROW_NUMBER,
    column_groups,
    join_columns,
    read_arrow_file,
    supersedes,
    to_arrow_file,
)

from .items import data_source, structure_of
from .node import StoredNode

SQL_TABLE_MIME_TYPE = "application/x-tiled-sql-table"

KEEP_ORDER = ("duckdb", "sqlite")
"""Databases that return rows as they came, without being asked."""

REQUEST_BYTES = 32 * 2**20
"""Bytes of rows in one request, at most."""


class TableNode(StoredNode):
    """A table node.

    An append that takes effect twice leaves its rows twice. So after one whose outcome was
    uncertain, the columns that tell rows apart are read back and compared with the rows to send.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._request_bytes = min(REQUEST_BYTES, self._limits.request_size.most)
        self._order: tuple[str, ...] = ()  # the columns that Tiled sorts the rows by
        # Rows found in Tiled that are still to be compared, in the columns that tell them apart.
        self._found: pa.Table | None = None

    def append(self, step: AppendRows) -> None:
        """Append the rows of a step that the node does not hold yet."""
        self.require_form(step.table.schema, step.start)
        table = step.table.slice(min(self.first_missing(step.start), len(step.table)))
        self.resolve_uncertainty(table.schema)
        if not self.exists:
            self._create(table.schema, step.order)
        if supersedes(step.order, self._order):
            self.sort(step.order)
        if self._found is not None:
            table = self._skip_found(self._found, table)
        for part in self._parts(table):
            self._send(part)

    def _create(self, schema: pa.Schema, order: tuple[str, ...]) -> None:
        self._found = None
        structure = asdict(TableStructure.from_schema(schema))
        # A server that does not know the parameter can create the table, but never open it.
        parameters = order_parameters(order) if self._requests.sorts_rows else {}
        source = data_source(StructureFamily.table, structure, SQL_TABLE_MIME_TYPE, parameters)
        try:
            if (answer := self.create(source, schema)) is not None:
                self._order = order
                self._limits.database = database_of(answer.json())
                if not parameters and self._limits.database not in KEEP_ORDER:
                    self._limits.learn("order")
        except RequestRefused as error:
            suspects = ["u8"] if pa.uint64() in schema.types else []
            if any(map(pa.types.is_list, schema.types)):
                suspects.append("lists")
            self.learn(error, *suspects)
            raise

    def sort(self, order: tuple[str, ...]) -> None:
        """Ask Tiled to sort the rows by other columns, before rows come that need it."""
        item = self._item()["attributes"]
        if not self._requests.sorts_rows:
            if database_of(item) not in KEEP_ORDER:
                self._limits.learn("order")
            self._order = order
            return
        (source,) = item["data_sources"]
        parameters = {**source["parameters"], **order_parameters(order)}
        body = {"data_source": {**source, "parameters": parameters, "assets": []}}
        try:
            self._requests.send("PUT", "data_source", self.path, json_body=body)
        except RequestRefused as error:
            if error.retry is not Retry.NEVER and not error.lacks_scope:
                raise
            self._limits.learn("order")  # without the right to register, for example
        self._order = order

    def _parts(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield the rows in pieces that the server does not refuse for their size."""
        while len(table):
            rows = max(1, int(len(table) * self._request_bytes / max(1, table.nbytes)))
            before = self.rows
            yield table.slice(0, rows)
            table = table.slice(self.rows - before)  # the piece may have been too large

    def _send(self, table: pa.Table) -> None:
        """Write rows; none, and smaller pieces from now on, if these are too many."""
        content = to_arrow_file(table)
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
        self._order = order_of(item)
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
        if columns != self._form.names:
            return -1
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


def database_of(item: Mapping[str, Any]) -> str:
    """Return what Tiled keeps a new table in, as the answer to its creation says."""
    assets = [asset for source in item["data_sources"] for asset in source["assets"]]
    return next((urlsplit(asset["data_uri"]).scheme for asset in assets), "")


def order_parameters(order: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters of a data source that is to be sorted by some columns."""
    return {"order_by_args": [{"column": column, "direction": "asc"} for column in order]}


def order_of(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns that Tiled sorts the rows of a table by."""
    (source,) = item["attributes"]["data_sources"]
    return tuple(by["column"] for by in source["parameters"].get("order_by_args") or ())


def telling_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that tell rows apart; only these are read back."""
    if "seq_num" in columns and "time" in columns:
        return ["seq_num", "time"]
    numbers = [name for name in columns if name.startswith(ROW_NUMBER)]
    stamps = [name for name in columns if name.startswith("ts_") and name not in numbers]
    return ((numbers[-1:] + stamps) or list(columns))[:2]


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
