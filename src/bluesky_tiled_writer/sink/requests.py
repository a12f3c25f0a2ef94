"""HTTP requests to Tiled, through the http client of `tiled.client`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
from tiled.client.utils import MSGPACK_MIME_TYPE, handle_error
from tiled.utils import safe_json_dump

from bluesky_tiled_writer.errors import LoginRefused, RequestRefused, mapped_errors

from .address import Address, NodePath
from .connection import Connection

BELOW_RUN = 2
"""Length of a path within a run. A login that may make the run works: if Tiled answers 401 there,
because it lacks a scope, that is about this run, as a 403 is."""


class Requests:
    """Sends requests below a container of a Tiled server, with the credentials of its client.

    Parameters
    ----------
    connection : Connection
        The server.
    address : Address, optional
        The container; by default the one of the connection.
    """

    def __init__(self, connection: Connection, address: Address | None = None) -> None:
        self.connection = connection
        self.address = address or connection.address

    def send(
        self,
        method: str,
        endpoint: str,
        path: NodePath,
        *,
        json_body: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        about: NodePath | None = None,
    ) -> httpx.Response:
        """Send one request about a node, once, and return the answer.

        Parameters
        ----------
        method, endpoint : str
            HTTP method, and the part of the URL between the root of the API and the path.
        path : tuple of str
            The node, below the root of the writer.
        json_body, content : Any, bytes
            The body: something that JSON can hold, or bytes.
        headers, params : mapping
            Headers, and parameters of the query.
        about : tuple of str, optional
            The path to name in errors; `path` by default.

        Raises
        ------
        RequestRefused
            If the server answered with an error.
        ServerUnreachable
            If there was no answer.
        """
        context = self.connection.context_for(self.address)
        segments = (quote(segment, safe="") for segment in (*self.address.path, *path))
        server = str(context.api_uri)
        url = f"{server}{endpoint}/{'/'.join(segments)}"
        sent = {"Accept": MSGPACK_MIME_TYPE, **(headers or {})}
        if json_body is not None:
            sent["Content-Type"] = "application/json"
            content = safe_json_dump(json_body)
        what = f"{method} {endpoint} of {'/'.join(about or path)}"
        try:
            with (
                self.connection.unanswered_request(),
                mapped_errors(what, "" if self.connection.in_process else server),
            ):
                response: httpx.Response = context.http_client.request(
                    method, url, content=content, headers=sent, params=params
                )
                handle_error(response)
        except LoginRefused as error:
            if not error.lacks_scope or len(about or path) < BELOW_RUN:
                raise
            raise RequestRefused(
                error.args[0], hint=error.hint, status=httpx.codes.FORBIDDEN
            ) from error
        return response

    def patch_metadata(self, path: NodePath, patch: Sequence[Mapping[str, Any]]) -> None:
        """Change metadata by a JSON patch, without a revision."""
        body = {
            "content-type": "application/json-patch+json",
            "metadata": patch,
            "specs": None,
            "access_tags": None,
        }
        self.send("PATCH", "metadata", path, json_body=body, params={"drop_revision": True})

    def item(self, path: NodePath) -> dict[str, Any] | None:
        """Return what the server says of a node, data sources included; None if there is none."""
        params = {"include_data_sources": True}
        try:
            answer = self.send("GET", "metadata", path, params=params)
        except RequestRefused as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        return dict(answer.json()["data"])

    def children(self, path: NodePath) -> Iterator[dict[str, Any]]:
        """Yield what the server says of each node in a container, data sources included."""
        params: dict[str, Any] = {"include_data_sources": True}
        while True:
            answer = self.send("GET", "search", path, params=params).json()
            yield from answer["data"]
            if not answer["data"] or (following := answer["links"].get("next")) is None:
                return
            params |= dict(httpx.URL(following).params)

    def nodes(self, run: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the stream, and what the server says, of each node in the streams of a run."""
        for stream in self.children((run,)):
            for item in self.children((run, stream["id"])):
                yield stream["id"], item

    # -- what depends on the version of the server ----------------------------------------------

    @property
    def sorts_rows(self) -> bool:
        """True if the server can sort the rows of a table, which Tiled can from 0.2.11 on."""
        return self._is_from(0, 2, 11)

    def access(self, tags: Sequence[str] | None) -> dict[str, Any]:
        """Return what gives a new node its access tags, under the name that the server knows.

        Servers before 0.2.19 call it `access_blob`, and ignore `access_tags` in silence.
        """
        if self._is_from(0, 2, 19):
            return {"access_tags": tags}
        return {"access_blob": {} if tags is None else {"tags": tags}}

    def _is_from(self, *version: int) -> bool:
        """Return True if the server has this version of Tiled, or a later or unknown one."""
        context = self.connection.context_for(self.address)
        found = re.match(r"(\d+)\.(\d+)\.(\d+)", context.server_info.library_version)
        return found is None or tuple(map(int, found.groups())) >= version
