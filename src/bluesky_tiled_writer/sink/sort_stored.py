"""Give the tables of runs that are stored already an order: earlier writers asked for none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiled.client.base import BaseClient
from tiled.structures.core import StructureFamily

from bluesky_tiled_writer.errors import StorageError
from bluesky_tiled_writer.run import Node
from bluesky_tiled_writer.schema import BY_SEQ_NUM, BY_TIME_AND_SEQ_NUM, ServerLimits

from .connection import Connection
from .items import has_structure, structure_of
from .requests import Requests
from .tables import KEEP_ORDER, TableNode, database_of, order_of


@dataclass(frozen=True)
class SortedTable:
    """The outcome of sorting one table of a run.

    Parameters
    ----------
    path : str
        The table: run, stream and node.
    order : tuple of str
        The columns that Tiled sorts its rows by from now on; empty if no columns tell the order.
    changed : bool
        True if it did not do so before.
    in_order : bool
        True if its rows come in order now.
    """

    path: str
    order: tuple[str, ...]
    changed: bool
    in_order: bool = True


def sort_stored(client: BaseClient, run: str) -> Iterator[SortedTable]:
    """Ask Tiled to sort the tables of a run that have no order yet, and yield each of them.

    The rows are sorted by `seq_num`; if that repeats, because the run was rewound, by `time`. That
    is the order of measurement unless the clock stepped back. A database that returns rows as they
    came needs no order.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The container of the run.
    run : str
        Uid of the run.

    Raises
    ------
    StorageError
        If there is no such run, or the login lacks the scope `register`.
    """
    requests = Requests(Connection.of(client))
    if requests.item((run,)) is None:
        raise StorageError(f"Tiled has no run {run!r}.")
    for stream, item in requests.nodes(run):
        is_table = item["attributes"]["structure_family"] == StructureFamily.table
        if is_table and has_structure(item):
            yield _sort(requests, Node(run, stream, item["id"]), item)


def _sort(requests: Requests, node: Node, item: Mapping[str, Any]) -> SortedTable:
    path = "/".join(node.path)
    if (found := order_of(item)) or database_of(item["attributes"]) in KEEP_ORDER:
        return SortedTable(path, found, changed=False)
    limits = ServerLimits()
    table = TableNode(requests, node, limits)
    order = _order(table, structure_of(item)["columns"])
    if order:
        table.sort(order)
        if not limits.has_order:
            raise StorageError(
                f"The order of {path} could not be changed.",
                hint="That takes Tiled 0.2.11, and an API key with the scopes write:metadata and"
                " register.",
            )
    return SortedTable(path, order, changed=bool(order), in_order=bool(order))


def _order(table: TableNode, columns: list[str]) -> tuple[str, ...]:
    for order in (BY_SEQ_NUM, BY_TIME_AND_SEQ_NUM):
        if {*order} <= {*columns}:
            rows = table.read(order)
            if rows.group_by(list(order)).aggregate([]).num_rows == len(rows):
                return order
    return ()
