"""Addresses of containers, read without asking the server, which may be down."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

import httpx
from tiled.client.base import BaseClient

from bluesky_tiled_writer.errors import StorageError

NodePath = tuple[str, ...]
"""Names of nodes, from below the root of the writer."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})
"""Names by which programs reach a server on the computer that they run on."""


@dataclass(frozen=True)
class Address:
    """The address of a container on a Tiled server.

    Parameters
    ----------
    server : str
        Root of the server's API, with a slash at its end, such as "http://tiled:8000/api/v1/".
    path : tuple of str
        Names of the containers that lead to this one, from the root of the catalog.
    """

    server: str
    path: NodePath = ()

    @classmethod
    def of(cls, client: BaseClient) -> Address:
        """Return the address of a container that a client has."""
        return cls(str(client.context.api_uri), tuple(filter(None, client.path_parts)))

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Return the address of a container from any URI that `tiled.client.from_uri` takes.

        Raises
        ------
        StorageError
            If this is no URI of a server.
        """
        try:
            parts = urlsplit(str(uri))
            if parts.scheme not in ("http", "https") or not httpx.URL(str(uri)).host:
                raise ValueError("no host, or another scheme")
        except (ValueError, httpx.InvalidURL) as error:
            raise StorageError(
                f"{str(uri).partition('?')[0]!r} is no address of a Tiled server.",
                hint="It begins with http:// or https://, such as http://localhost:8000.",
            ) from error
        base, _, rest = parts.path.partition("/metadata")
        if "/api" not in base:
            base = f"{base.rstrip('/')}/api/v1"
        elif "/v1" not in base:
            base = f"{base.rstrip('/')}/v1"
        host = parts.netloc.rpartition("@")[2].lower()
        names = tuple(unquote(name) for name in rest.split("/") if name)
        return cls(f"{parts.scheme}://{host}{base.rstrip('/')}/", names)

    def normalized(self) -> Address:
        """Return the address as it compares: with one name for this computer, and a port."""
        parts = urlsplit(self.server)
        host = "localhost" if parts.hostname in LOOPBACK else parts.hostname
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        return Address(f"{parts.scheme}://{host}:{port}{parts.path}", self.path)

    @property
    def quoted_path(self) -> list[str]:
        """The path as parts of a URL."""
        return [quote(name, safe="") for name in self.path]

    @property
    def uri(self) -> str:
        """The address as one text, without a slash at its end; journals name their server so."""
        return "/".join([f"{self.server}metadata", *self.quoted_path])

    @property
    def web_page(self) -> str:
        """Where people see the container: in Tiled's web page, which is beside its API."""
        root = self.server.rstrip("/").removesuffix("/v1").removesuffix("/api")
        return "/".join([f"{root}/ui/browse", *self.quoted_path])

    def __str__(self) -> str:
        return self.uri
