"""The contents of a Tiled server as plain values that can be compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
import numpy as np
import pyarrow as pa
from tiled.client.composite import CompositeClient
from tiled.client.container import DEFAULT_STRUCTURE_CLIENT_DISPATCH, Container
from tiled.utils import OneShotCachedMap

Value = TypeVar("Value")


def snapshot(node: Any) -> dict[str, Any]:
    """Return everything below a container: structure, metadata, and values with their types."""
    children = getattr(node, "base", node)
    result: dict[str, Any] = {
        "metadata": plain(dict(node.metadata)),
        "specs": [(spec.name, spec.version) for spec in node.specs],
        "children": {},
    }
    for name in sorted(children):
        child = children[name]
        family = child.item["attributes"]["structure_family"]
        if family == "container":
            result["children"][name] = snapshot(child)
        else:
            result["children"][name] = {
                "family": str(family),
                "metadata": plain(dict(child.metadata)),
                **DATA[family](child),
            }
    return result


def table_of(node: Any) -> dict[str, Any]:
    """Return columns with their Arrow types and values; empty cells and NaN are None."""
    table = read_arrow(node)
    schema = node.structure().arrow_schema_decoded
    return {
        "columns": {
            name: (str(schema.field(name).type), plain(table[name].to_pylist()))
            for name in sorted(schema.names)
        }
    }


def columns_of(client: Container, uid: str, stream: str = "primary") -> dict[str, list[Any]]:
    """Return the columns of a stream's table, without times and time stamps."""
    table = read_arrow(stream_of(client, uid, stream)["internal"])
    names = [name for name in table.column_names if name != "time" and not name.startswith("ts_")]
    return table.select(names).to_pydict()


def read_arrow(node: Any) -> pa.Table:
    """Return the table as the server sends it, before pandas and dask see it."""
    response = node.context.http_client.get(
        node.item["links"]["full"], headers={"Accept": "application/vnd.apache.arrow.file"}
    )
    response.raise_for_status()
    table = pa.ipc.open_file(pa.BufferReader(response.read())).read_all()
    # The server reads through pandas, where integers with an empty cell are floats.
    schema = node.structure().arrow_schema_decoded
    return table.select(schema.names).cast(schema)


def unless_busy(read: Callable[[], Value]) -> Value | None:
    """Return what is read; None for a 5xx: SQLite locks readers out while rows are written."""
    try:
        return read()
    except httpx.HTTPStatusError as error:
        if error.response.is_server_error:
            return None
        raise


def array_of(node: Any) -> dict[str, Any]:
    values = node.read()
    return {
        "dtype": str(values.dtype),
        "shape": tuple(node.shape),
        "dims": node.dims,
        "values": plain(values.tolist()),
    }


def ragged_of(node: Any) -> dict[str, Any]:
    return {
        "dtype": str(node.dtype),
        "shape": tuple(node.shape),
        "dims": node.dims,
        "values": plain(node.read().tolist()),
    }


DATA = {"table": table_of, "array": array_of, "ragged": ragged_of}


def plain(value: Any) -> Any:
    """Return a value that can be compared: NaN, which is not equal to itself, is None."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def stream_of(client: Container, uid: str, stream: str = "primary") -> Container:
    """Return the plain container of a stream."""
    node = client[uid][stream]
    return node.base if isinstance(node, CompositeClient) else node


def clients_without(package: str) -> OneShotCachedMap:
    """Return the client classes that Tiled finds, less those of a package."""
    clients = DEFAULT_STRUCTURE_CLIENT_DISPATCH["numpy"]
    found = {name: clients[name] for name in clients}
    kept = {name: c for name, c in found.items() if c.__module__.split(".")[0] != package}
    return OneShotCachedMap({name: lambda client=c: client for name, c in kept.items()})
