"""The readers' side: the client of a stream, which also finds its events by `internal/events`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from tiled.client.utils import client_for_item

OUR_SPEC = "TiledWriterEventStream"
_EVENTS = "internal/events"
_PART = re.compile(r"internal_\d+")


class JoinedTables:
    """The events of a stream that has more columns than one table takes.

    Parameters
    ----------
    tables : sequence of tiled.client.dataframe.DataFrameClient
        Each has all rows and some of the columns.
    """

    def __init__(self, tables: Sequence[Any]) -> None:
        self._tables = tables

    @property
    def columns(self) -> list[str]:
        """Names of all columns, table by table."""
        return [column for table in self._tables for column in table.columns]

    def read(self, columns: Iterable[str] | None = None) -> Any:
        """Read the events.

        Parameters
        ----------
        columns : iterable of str, optional
            The columns to read; all by default.

        Returns
        -------
        pandas.DataFrame
            One row an event.
        """
        import pandas as pd

        wanted = self.columns if columns is None else list(columns)
        frames = [
            table.read([column for column in wanted if column in table.columns])
            for table in self._tables
            if not set(wanted).isdisjoint(table.columns)
        ]
        return pd.concat(frames, axis=1)[wanted]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._tables)} tables, {len(self.columns)} columns>"


class _EventsByPath:
    """Mixin that resolves `internal/events`, by which tutorials read the events of a stream."""

    base: Mapping[str, Any]

    def __getitem__(self, key: Any, *args: Any, **kwargs: Any) -> Any:
        path = "/".join(key) if isinstance(key, tuple) else key
        if path == _EVENTS:
            return self._events()
        if _PART.fullmatch(path):  # the validator of bluesky-tiled-plugins asks for these
            return self.base[path]
        if path.startswith(_EVENTS + "/"):
            key = path.removeprefix(_EVENTS + "/")
        return super().__getitem__(key, *args, **kwargs)  # type: ignore[misc]

    def _events(self) -> Any:
        names = list(self.base)
        if "internal" in names:
            return self.base["internal"]
        parts = [name for name in names if _PART.fullmatch(name)]
        if not parts:
            raise KeyError(f"{_EVENTS}: this stream has no events")
        return JoinedTables([self.base[name] for name in parts])


@cache
def _with_events(client_class: type) -> type:
    # It keeps the name of the other class, and so the repr that people know.
    return type(client_class.__name__, (_EventsByPath, client_class), {})


def open_stream(
    context: Any, *, item: Mapping[str, Any], structure_clients: Any, **kwargs: Any
) -> Any:
    """Open a stream that this package wrote (entry point `tiled.special_client`).

    Parameters
    ----------
    context, item, structure_clients, **kwargs : Any
        As Tiled gives them to any client.

    Returns
    -------
    tiled.client.container.Container
        The client that the stream would have without our spec, which also finds `internal/events`:
        that of bluesky-tiled-plugins if it is installed, else Tiled's `CompositeClient`.
    """
    attributes = item["attributes"]
    others = [spec for spec in attributes["specs"] if spec["name"] != OUR_SPEC]
    other_item = {**item, "attributes": {**attributes, "specs": others}}
    client_class: Any = type(client_for_item(context, structure_clients, other_item))
    kwargs.update(item=item, structure_clients=structure_clients)
    return _with_events(client_class)(context, **kwargs)
