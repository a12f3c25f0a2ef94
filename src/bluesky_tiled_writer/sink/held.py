"""How many rows Tiled holds of a run, whoever stored them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiled.structures.core import StructureFamily

from bluesky_tiled_writer.run import Node
from bluesky_tiled_writer.schema import ServerLimits

from .node import structure_of
from .requests import Requests
from .tables import TableNode, telling_columns


def rows_held(requests: Requests, run: str) -> Iterator[tuple[Node, int]]:
    """Each node that Tiled keeps the data of, and how many rows it holds.

    A row that a table holds twice counts once.
    """
    for stream in requests.children((run,)):
        for item in requests.children((run, stream["id"])):
            sources = item["attributes"].get("data_sources") or []
            if any(source["management"] == "writable" for source in sources):
                node = Node(run, stream["id"], item["id"])
                yield node, _rows(requests, node, item)


def _rows(requests: Requests, node: Node, item: dict[str, Any]) -> int:
    structure = structure_of(item)
    if item["attributes"]["structure_family"] != StructureFamily.table:
        return int(structure["shape"][0])
    telling = telling_columns(structure["columns"])
    table = TableNode(requests, node, ServerLimits()).read(telling)
    return int(table.group_by(telling).aggregate([]).num_rows)
