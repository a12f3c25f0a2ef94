"""Rows that Tiled holds of a run which it had before, counted node by node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiled.structures.core import StructureFamily

from bluesky_tiled_writer.run import Node
from bluesky_tiled_writer.schema import ServerLimits

from .items import structure_of
from .requests import Requests
from .tables import TableNode, telling_columns


def rows_held(requests: Requests, run: str) -> Iterator[tuple[Node, int]]:
    """Yield each node of a run whose data Tiled keeps, and how many different rows it holds."""
    for stream, item in requests.nodes(run):
        sources = item["attributes"].get("data_sources") or []
        if any(source["management"] == "writable" for source in sources):
            node = Node(run, stream, item["id"])
            yield node, _rows(requests, node, item)


def _rows(requests: Requests, node: Node, item: dict[str, Any]) -> int:
    structure = structure_of(item)
    if item["attributes"]["structure_family"] != StructureFamily.table:
        return int(structure["shape"][0])
    telling = telling_columns(structure["columns"])
    table = TableNode(requests, node, ServerLimits()).read(telling)
    return int(table.group_by(telling).aggregate([]).num_rows)
