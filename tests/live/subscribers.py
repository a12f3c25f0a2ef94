"""Subscribers that keep what they were told."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any, Self

import numpy as np
from bluesky_tiled_plugins import subscribe_to_streams
from bluesky_tiled_plugins.streaming import BlueskyStreamUpdate
from servers import wait_until
from tiled.client.container import Container


def rows_in(data: Any) -> list[Any]:
    """Return the rows of an update: values of the column ``n``, or rows of an array."""
    if isinstance(data, np.ndarray):
        return list(data.tolist())
    return list(data["n"].tolist())


class NodeSubscriber:
    """Subscribe to a node with Tiled's client, from the first of its updates on.

    Attributes
    ----------
    rows : list
        What came, in this order.
    ended : threading.Event
        Set at the end of the stream.
    """

    def __init__(self, node: Any) -> None:
        self.rows: list[Any] = []
        self.ended = threading.Event()
        self._subscription = node.subscribe()
        # Tiled keeps weak references only; those to methods live as long as the object.
        self._subscription.new_data.add_callback(self._on_data)
        self._subscription.stream_closed.add_callback(self._on_end)
        self._subscription.start_in_thread(0)

    def _on_data(self, update: Any) -> None:
        self.rows += rows_in(update.data())

    def _on_end(self, subscription: Any) -> None:
        self.ended.set()

    def rows_until_the_end(self) -> list[Any]:
        """Wait for the end of the stream; return all rows."""
        wait_until(self.ended.is_set, lambda: f"no end after the rows {self.rows}", 20.0)
        return self.rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._subscription.disconnect()


class StreamsSubscriber:
    """Subscribe to all runs of a container with bluesky-tiled-plugins.

    Attributes
    ----------
    rows : dict
        What came, in this order, by run, stream and data keys.
    """

    def __init__(self, container: Container) -> None:
        self.rows: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)
        self._subscription = subscribe_to_streams(container, self._on_update, streams=None)

    def _on_update(self, update: BlueskyStreamUpdate) -> None:
        self.rows[(update.run_uid, update.stream_name, *update.data_keys)] += rows_in(update.data())

    def wait_for_rows(self, count: int, *key: str) -> None:
        """Wait until so many rows of a key have come."""
        wait_until(lambda: len(self.rows[key]) >= count, lambda: f"only {self.rows[key]}", 20.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._subscription.disconnect()
