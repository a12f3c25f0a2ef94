"""A run in Tiled, read as the server sends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import pyarrow as pa
from tiled.client.base import BaseClient
from tiled.client.utils import handle_error
from tiled.structures.core import StructureFamily
from tiled.utils import APACHE_ARROW_FILE_MIME_TYPE

from bluesky_tiled_writer.errors import mapped_errors
from bluesky_tiled_writer.schema import column_groups, read_arrow_file


class RunInTiled:
    """A run in Tiled.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The client of the run.
    """

    def __init__(self, client: BaseClient) -> None:
        self._client: Any = client
        self.metadata: Mapping[str, Any] = dict(client.metadata)

    @classmethod
    def find(cls, root: BaseClient, uid: str) -> RunInTiled | None:
        """Return the run of this uid in a container; None if it has none.

        Raises
        ------
        StorageError
            If Tiled cannot be read.
        """
        with mapped_errors(f"the request for run {uid!r}"):
            try:
                client = root[uid]
            except KeyError:
                return None
            return cls(client)

    @cached_property
    def names(self) -> set[str]:
        """Names of its streams."""
        with mapped_errors("the request for the streams of a run"):
            return set(self._client)

    def stream(self, name: str) -> StreamInTiled | None:
        """Return one of its streams; None if there is none of this name."""
        if name not in self.names:
            return None
        with mapped_errors(f"the request for stream {name!r}"):
            client = self._client[name]
            return StreamInTiled(getattr(client, "base", client))


class StreamInTiled:
    """A stream in Tiled.

    Parameters
    ----------
    container : tiled.client.container.Container
        Its plain container, with a node for each part of it.

    Attributes
    ----------
    seq_nums : sequence
        Sequence numbers of its rows; empty if it has none.
    """

    def __init__(self, container: Any) -> None:
        self._nodes = {name: container[name] for name in container}
        self._tables = {
            column: node
            for node in self._nodes.values()
            if _family(node) == StructureFamily.table and _is_ours(node)
            for column in node.columns
        }
        self._read: dict[str, list[Any]] = {}
        self.seq_nums: Sequence[Any] = self.column("seq_num", "") or []

    def column(self, column: str, node: str) -> Sequence[Any] | None:
        """Return the values of a column of the table or else of a node, one a row.

        Parameters
        ----------
        column : str
            Name in the table.
        node : str
            Name of the node that has the values if the table has no such column.

        Returns
        -------
        sequence or None
            None if there is neither.

        Raises
        ------
        StorageError
            If Tiled cannot be read.
        """
        if (table := self._tables.get(column)) is not None:
            if column not in self._read:
                read = read_columns(table, self._group(table, column))
                self._read |= {name: read[name].to_pylist() for name in read.column_names}
            return self._read.pop(column)
        if (client := self._nodes.get(node)) is None:
            return None
        with mapped_errors(f"the request for node {node!r}"):
            values = client.read()
        rows: Any = values if isinstance(values, np.ndarray) else values.tolist()
        return cast("Sequence[Any]", rows)

    def _group(self, table: Any, column: str) -> list[str]:
        """Return the columns to read together with one."""
        if column == "seq_num":  # read first: it tells the number of rows
            return [column]
        groups = column_groups(table.columns, len(self.seq_nums))
        return next(group for group in groups if column in group)

    def shape(self, node: str) -> tuple[int | None, ...] | None:
        """Return the shape of an array node; () for another node, None if there is none."""
        if (client := self._nodes.get(node)) is None:
            return None
        return tuple(client.shape) if _family(client) == StructureFamily.array else ()


def _family(node: Any) -> Any:
    return node.item["attributes"]["structure_family"]


def _is_ours(node: Any) -> bool:
    name = node.item["id"]
    return bool(name == "internal" or name.startswith("internal_"))


def read_columns(table: Any, names: Sequence[str]) -> pa.Table:
    """Read columns of a table by one request.

    Parameters
    ----------
    table : tiled.client.dataframe.DataFrameClient
        The table.
    names : sequence of str
        Names of columns.

    Raises
    ------
    StorageError
        If Tiled cannot be read.
    """
    with mapped_errors(f"the request for columns of {table.item['id']!r}"):
        response = table.context.http_client.post(
            table.item["links"]["full"],
            json=list(names),
            headers={"Accept": APACHE_ARROW_FILE_MIME_TYPE},
        )
        handle_error(response)
        content = response.read()
    return read_arrow_file(content)
