"""Errors of httpx, of Tiled's client, and of apps in this process become those of this package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .tree import LoginRefused, RequestRefused, Retry, ServerUnreachable, TiledWriterError

if TYPE_CHECKING:
    import httpx


@contextmanager
def mapped_errors(what: str, server: str = "", *, own_auth: bool = True) -> Iterator[None]:
    """Raise exceptions from requests to Tiled as errors of this package, which pass unchanged.

    Parameters
    ----------
    what : str
        The request, for the message, such as "the request for run 'x'".
    server : str, optional
        Root of the API, if it is reached by HTTP. What goes wrong elsewhere is about the login.
    own_auth : bool
        True if other exceptions, too, come from the login then: from an `auth=` object.

    Raises
    ------
    RequestRefused
        If the server answered with an error. Without a status for anything else that was raised:
        an app in this process lets its own exceptions through. `LoginRefused` for logins.
    ServerUnreachable
        If there was no answer.
    """
    import httpx  # here, since pytest imports this package at its start

    try:
        yield
    except TiledWriterError:
        raise
    except httpx.HTTPStatusError as error:
        if not _is_for(error.request, server):
            raise _login_not_tried(what, error) from error
        status = error.response.status_code
        if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            what += f", of {error.request.headers.get('Content-Length', 'unknown')} bytes"
        refused = LoginRefused if status == httpx.codes.UNAUTHORIZED else RequestRefused
        detail = " ".join(_detail(error.response).split()).rstrip(".")
        raise refused(
            f"Tiled answered {status} to {what}: {detail}.",
            hint=_hint(status, detail),
            status=status,
            retry_after=_retry_after(error.response),
        ) from error
    except httpx.HTTPError as error:
        if not _is_for(getattr(error, "_request", None), server):
            raise _login_not_tried(what, error) from error
        raise _unreachable(what, error) from error
    except Exception as error:
        if (server and own_auth) or _is_of_login(error):
            raise _login_not_tried(what, error) from error
        raise RequestRefused(f"Tiled failed on {what}: {type(error).__name__}: {error}") from error


def _unreachable(what: str, error: httpx.HTTPError) -> ServerUnreachable:
    import httpx

    broken = isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError))
    # With these no part of the request has left this machine.
    never_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
    is_trusted = "CERTIFICATE_VERIFY_FAILED" not in str(error)
    return ServerUnreachable(
        f"No answer from Tiled to {what}: {type(error).__name__} {error}.",
        hint=_HINTS["unreachable" if is_trusted else "certificate"],
        uncertain=not isinstance(error, never_sent),
        retry=Retry.UNLESS_SERVER_IS_AWAY if broken else Retry.WHEN_SERVER_IS_BACK,
    )


def _is_for(request: httpx.Request | None, server: str) -> bool:
    """Return True unless a request went to another server than Tiled."""
    import httpx

    if request is None or not server:
        return True
    ours, url = httpx.URL(server), request.url
    return (url.host, url.port) == (ours.host, ours.port)


def _is_of_login(error: Exception) -> bool:
    """Return True for what `tiled.client` raises about logins."""
    from tiled.client import auth, context

    login = (auth.CannotRefreshAuthentication, context.CannotPrompt, context.PasswordRejected)
    return isinstance(error, login)


def _login_not_tried(what: str, error: Exception) -> LoginRefused:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return LoginRefused(f"There is no login for {what}: {text}", status=None)


_HINTS: dict[int | str, str] = {
    "unreachable": "Is the server up, and its address right?",
    "certificate": "This machine does not trust the certificate of the server: set SSL_CERT_FILE to"
    " that of its authority, or give `verify` to the client.",
    401: "Log in again, or give the client an API key.",
    403: "The login or API key lacks a scope. Writing takes write:metadata, write:data and"
    " create:node, and register for the files of detectors.",
    404: "Is the address right, or was it deleted?",
    413: "It is the smallest request for it, and may be a single row. Raise the limit of the server"
    " or of the proxy before it (nginx: client_max_body_size), then call recover().",
    500: "The log of the server says why.",
}


_TAGS_HINT = (
    "A run gets the access tags that its start document names (tiled_access_tags, as from RE.md):"
    " they have to be defined in Tiled, and this login has to own them."
)


def _hint(status: int, detail: str) -> str:
    if status == 401 and "scopes" in detail:
        status = 403
    if status == 403 and detail.startswith("Access policy rejects"):
        return _TAGS_HINT
    return _HINTS.get(status, "")


def _detail(response: httpx.Response) -> str:
    try:
        return str(json.loads(response.content)["detail"]) or response.reason_phrase
    except (ValueError, KeyError, TypeError, RuntimeError):  # the last if it was not read
        return response.reason_phrase


def _retry_after(response: httpx.Response) -> float:
    try:
        return float(response.headers["Retry-After"])
    except (KeyError, ValueError):  # dates, which servers may send as well, are not read
        return 0.0
