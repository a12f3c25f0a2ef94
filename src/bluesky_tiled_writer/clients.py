"""The client of a stream: what other clients offer, and `internal/events`."""

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
    """The events of a stream that has too many columns for one table.

    Parameters
    ----------
    tables : sequence of tiled.client.dataframe.DataFrameClient
        The tables, each with some of the columns and all of the rows.
    """

    def __init__(self, tables: Sequence[Any]) -> None:
        self._tables = tables

    @property
    def columns(self) -> list[str]:
        """Names of the columns of all tables."""
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
    """Resolves `internal/events`, the path under which tutorials read the event table."""

    base: Mapping[str, Any]

    def __getitem__(self, key: Any, *args: Any, **kwargs: Any) -> Any:
        path = "/".join(key) if isinstance(key, tuple) else key
        if path == _EVENTS:
            return self._events()
        if _PART.fullmatch(path):  # as the validator of bluesky-tiled-plugins asks for it
            return self.base[path]
        if path.startswith(_EVENTS + "/"):
            key = path.removeprefix(_EVENTS + "/")
        return super().__getitem__(key, *args, **kwargs)  # type: ignore[misc]

    def _events(self) -> Any:
        names = [name for name in self.base if name.startswith("internal")]
        if "internal" in names:
            return self.base["internal"]
        if not names:
            raise KeyError(f"{_EVENTS}: this stream has no events")
        return JoinedTables([self.base[name] for name in names])


@cache
def _with_events(client_class: type) -> type:
    # The name of the other class, so that its repr stays what people know.
    return type(client_class.__name__, (_EventsByPath, client_class), {})


def open_stream(
    context: Any, *, item: Mapping[str, Any], structure_clients: Any, **kwargs: Any
) -> Any:
    """Open a stream that this package wrote (entry point `tiled.special_client`).

    The result behaves as the client that the other specs of the stream would have had: that of
    bluesky-tiled-plugins where it is installed, else Tiled's `CompositeClient`.
    """
    attributes = item["attributes"]
    others = [spec for spec in attributes["specs"] if spec["name"] != OUR_SPEC]
    other_item = {**item, "attributes": {**attributes, "specs": others}}
    client_class: Any = type(client_for_item(context, structure_clients, other_item))
    kwargs.update(item=item, structure_clients=structure_clients)
    return _with_events(client_class)(context, **kwargs)
