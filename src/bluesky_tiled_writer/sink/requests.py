"""Requests to Tiled, and the errors that come of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
from tiled.client.base import BaseClient
from tiled.client.utils import MSGPACK_MIME_TYPE, handle_error
from tiled.utils import safe_json_dump

from bluesky_tiled_writer.errors import RequestRefused, ServerUnreachable

from .lead import Distance

NodePath = tuple[str, ...]
"""Names of nodes, from below the root of the writer."""

HEALTH_TIMEOUT = 3.0
"""Seconds that a server has to answer when asked whether it is there."""

HEALTH_ATTEMPTS = 3
"""Connections that may turn out to be broken: after an error of its own a server closes the one
that it answered on, which the next request may be faster than."""

BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""What httpx raises where the server, or somebody on the way, closes a connection in use."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""What httpx raises where no part of the request has left this machine."""


class Requests:
    """Sends requests below a container of a Tiled server, with its client's credentials.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The container.

    Attributes
    ----------
    distance : Distance
        How far away the server is, as far as that is known.
    """

    def __init__(self, client: BaseClient) -> None:
        # An app in this process takes one request at a time; see `TiledWriter`.
        self.distance = Distance(never_far=in_process(client))
        self._client = client
        self._root = tuple(filter(None, client.path_parts))

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
        """Send a request about a node and give its answer.

        Parameters
        ----------
        method, endpoint : str
            HTTP method, and the part of the URL between the root of the API and the path.
        path : tuple of str
            NodePath of the node, below the root of the writer.
        json_body, content : Any, bytes
            What to send: something that JSON can hold, or bytes.
        headers, params : mapping
            Headers, and parameters of the query.
        about : tuple of str, optional
            The path to name in errors, if it is another.

        Raises
        ------
        RequestRefused
            If the server answered that it did not do it.
        ServerUnreachable
            If there was no answer.
        """
        segments = (quote(segment, safe="") for segment in (*self._root, *path))
        url = f"{self._client.context.api_uri}{endpoint}/{'/'.join(segments)}"
        sent = {"Accept": MSGPACK_MIME_TYPE, **(headers or {})}
        if json_body is not None:
            sent["Content-Type"] = "application/json"
            content = safe_json_dump(json_body)
        # Nothing is sent again here: whether to, and when, is for the sender to decide.
        with _mapped_errors(f"{method} {endpoint} of {'/'.join(about or path)}"):
            response: httpx.Response = self._client.context.http_client.request(
                method, url, content=content, headers=sent, params=params
            )
            handle_error(response)
        return response

    def item(self, path: NodePath) -> dict[str, Any] | None:
        """What the server says of a node, with its data sources; None if there is no such node."""
        params = {"include_data_sources": True}
        try:
            answer = self.send("GET", "metadata", path, params=params)
        except RequestRefused as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        return dict(answer.json()["data"])

    def children(self, path: NodePath) -> Iterator[dict[str, Any]]:
        """What the server says of each node in a container, with its data sources."""
        params: dict[str, Any] = {"include_data_sources": True}
        while True:
            answer = self.send("GET", "search", path, params=params).json()
            yield from answer["data"]
            if not answer["data"] or (following := answer["links"].get("next")) is None:
                return
            params |= dict(httpx.URL(following).params)

    def healthy(self) -> bool:
        """Ask the server whether it is there."""
        context = self._client.context
        # An app in this process knows no timeouts.
        options = {} if in_process(self._client) else {"timeout": HEALTH_TIMEOUT}
        for _ in range(HEALTH_ATTEMPTS):
            try:
                answer = context.http_client.get(context.api_uri, **options)
            except BROKEN:
                continue
            except Exception:
                return False
            return bool(answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR)
        return False


def in_process(client: BaseClient) -> bool:
    """Whether the server of a client is an app in this process."""
    return hasattr(client.context.http_client, "app")  # starlette's test client


@contextmanager
def _mapped_errors(what: str) -> Iterator[None]:
    """Turn whatever Tiled, httpx or an in-process server raises into errors of ours."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise RequestRefused(
            f"Tiled answered {status} to {what}: {_detail(error.response)}",
            hint=_HINTS.get(status, ""),
            status=status,
            retry_after=_retry_after(error.response),
        ) from error
    except httpx.HTTPError as error:
        raise ServerUnreachable(
            f"No answer from Tiled to {what}: {type(error).__name__} {error}.",
            hint="Is the server up, and its address right?",
            uncertain=not isinstance(error, NEVER_SENT),
        ) from error
    except Exception as error:  # an in-process server lets its own exceptions through
        raise RequestRefused(f"Tiled failed on {what}: {type(error).__name__}: {error}") from error


_HINTS = {
    401: "Log in again, or give the client an API key.",
    403: "The login or API key lacks the scopes to write here (write:metadata, write:data,"
    " create:node; register, for the files of detectors).",
    413: "The server, or a proxy before it, takes no request of this size: lower batch_size.",
    500: "The log of the server says why.",
}


def _detail(response: httpx.Response) -> str:
    try:
        return str(json.loads(response.content)["detail"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


def _retry_after(response: httpx.Response) -> float:
    try:
        return float(response.headers["Retry-After"])
    except (KeyError, ValueError):  # or a date, which nobody sends
        return 0.0
