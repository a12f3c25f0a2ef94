"""Containers that get runs: that of a writer, and others on its server that journals name."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from bluesky_tiled_writer.errors import StorageError
from bluesky_tiled_writer.schema import ServerLimits

from .address import Address
from .connection import Connection
from .tiled_sink import TiledSink


@dataclass(frozen=True)
class TiledDestination:
    """A container in Tiled that gets runs.

    Parameters
    ----------
    connection : Connection
        The server.
    address : Address
        The container.
    """

    connection: Connection
    address: Address

    @classmethod
    def of(cls, connection: Connection) -> TiledDestination:
        """Return the container that a connection is about."""
        return cls(connection, connection.address)

    @property
    def uri(self) -> str:
        """Its address, by which journals name it."""
        return self.address.uri

    @property
    def key(self) -> Hashable:
        """Tells it from others in this process, where all apps have one address."""
        app = self.connection.client.context if self.connection.in_process else None
        return self.address.normalized(), app

    @property
    def web_page(self) -> str:
        """Its address in Tiled's web page; empty for an app in this process."""
        return "" if self.connection.in_process else self.address.web_page

    def new_sink(self, limits: ServerLimits) -> TiledSink:
        """Make a sink that writes there, and knows nothing yet of what Tiled holds."""
        return TiledSink(self.connection, limits, self.address)

    def at(self, uri: Any) -> TiledDestination | None:
        """Return the container that a journal names; None if it is on another server.

        Parameters
        ----------
        uri : str
            Its address, as any version of this package has written it.
        """
        try:
            named = Address.parse(uri).normalized()
        except StorageError:
            return None
        ours = self.connection.names()
        if named.server not in ours:
            return None
        if named.path == self.address.path:
            return self
        return TiledDestination(self.connection, Address(self.address.server, named.path))
