"""What Tiled holds of a run, read as the server sends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

import httpx
import numpy as np
import pyarrow as pa
from tiled.client.base import BaseClient
from tiled.client.utils import handle_error
from tiled.structures.core import StructureFamily
from tiled.utils import APACHE_ARROW_FILE_MIME_TYPE

from bluesky_tiled_writer.errors import RequestRefused, ServerUnreachable

_READ_CELLS = 4_000_000
"""Cells of a table that are read by one request."""


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

    @cached_property
    def names(self) -> set[str]:
        """Names of its streams."""
        with reading():
            return set(self._client)

    @classmethod
    def find(cls, root: BaseClient, uid: str) -> RunInTiled | None:
        """The run of this uid in a container; None if it has none."""
        with reading():
            try:
                client = root[uid]
            except KeyError:
                return None
        return cls(client)

    def stream(self, name: str) -> StreamInTiled | None:
        """One of its streams; None if there is none of this name."""
        if name not in self.names:
            return None
        with reading():
            client = self._client[name]
            return StreamInTiled(getattr(client, "base", client))


class StreamInTiled:
    """A stream in Tiled.

    Parameters
    ----------
    container : tiled.client.container.Container
        Its plain container, with a node for each part of it.
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
        """The values of a column of the table or, if there is none, of a node; one a row."""
        if (table := self._tables.get(column)) is not None:
            if column not in self._read:
                self._read |= _read_columns(table, self._with(table, column))
            return self._read.pop(column)
        if (client := self._nodes.get(node)) is None:
            return None
        with reading():
            values = client.read()
        rows: Any = values if isinstance(values, np.ndarray) else values.tolist()
        return cast("Sequence[Any]", rows)

    def _with(self, table: Any, column: str) -> list[str]:
        """A column, and with it as many of those after it as take one request."""
        width = max(1, _READ_CELLS // max(1, len(self.seq_nums))) if column != "seq_num" else 1
        names = list(table.columns)
        return names[names.index(column) :][:width] if width < len(names) else names

    def shape(self, node: str) -> tuple[int | None, ...] | None:
        """The shape of an array; empty if it is something else, None if there is none."""
        if (client := self._nodes.get(node)) is None:
            return None
        return tuple(client.shape) if _family(client) == StructureFamily.array else ()


def _family(node: Any) -> Any:
    return node.item["attributes"]["structure_family"]


def _is_ours(node: Any) -> bool:
    name = node.item["id"]
    return bool(name == "internal" or name.startswith("internal_"))


def _read_columns(table: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """As Arrow: the client's way, through pandas and dask, makes text of lists."""
    with reading():
        response = table.context.http_client.post(
            table.item["links"]["full"],
            json=list(names),
            headers={"Accept": APACHE_ARROW_FILE_MIME_TYPE},
        )
        handle_error(response)
        content = response.read()
    read = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    return {name: read[name].to_pylist() for name in names}


@contextmanager
def reading() -> Iterator[None]:
    """Turn what Tiled's client raises into errors of ours."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise RequestRefused(
            f"Tiled answered {status} to {error.request.method} {error.request.url.path}.",
            hint="Check the address, and give an API key that may read and write there."
            if status in (401, 403, 404)
            else "",
            status=status,
        ) from error
    except httpx.HTTPError as error:
        raise ServerUnreachable(
            f"No answer from Tiled: {type(error).__name__} {error}.",
            hint="Is the server up, and its address right?",
        ) from error
