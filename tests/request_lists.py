"""Searches in lists of requests."""

from __future__ import annotations

from collections.abc import Iterable

Request = tuple[str, str]


def closings(requests: Iterable[Request]) -> list[str]:
    """Return the paths of the nodes whose streams are closed, in order."""
    prefix = "stream/close/"
    return [
        path.strip("/").removeprefix(prefix)
        for method, path in requests
        if method == "DELETE" and path.strip("/").startswith(prefix)
    ]


def gets(requests: Iterable[Request]) -> list[Request]:
    """Return what is read, without health checks, which a slow machine calls for."""
    requests = [request for request in requests if request[1].strip("/")]
    return [request for request in requests if request[0] == "GET"]
