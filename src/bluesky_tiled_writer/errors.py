"""The errors of this package, and the one place where those of httpx and Tiled become ours.

::

    TiledWriterError
     |-- DocumentError              the documents are at fault
     |     |-- InvalidDocument      a document breaks the event model
     |     |-- UnknownReference     a document points to a run, stream or resource never seen
     |     |-- DuplicateRun         another start document for a run that is open
     |     `-- UnreadableFile       a file does not hold saved documents, or cannot be opened
     |-- NotCopyable                a writer was to be pickled or copied
     |-- JournalError               a journal cannot be written or read
     `-- StorageError               Tiled did not store what it was asked to store
           |-- RunExists            Tiled holds another run under the same uid
           |-- RunComplete          Tiled holds this very run to its end: nothing is left to send
           |-- OutOfStep            a node holds other rows than were sent: begin again
           |   `-- DocumentsIncomplete  Tiled holds rows that the documents of the run lack so far
           |-- TooEarly             an unanswered request may still take effect: ask again later
           |-- WrittenElsewhere     another process writes this run: wait for it
           |-- NotStored            not stored in time, or too much waits to be stored
           |-- ServerUnreachable    no answer
           |-- ContainerMissing     there is no container yet that could get the runs
           |-- ContainerGone        the container that was to get a run was deleted
           `-- RequestRefused       the server answered, and refused
                 |-- LoginRefused         the login does not work, or could not be tried
                 `-- StorageUnsupported   the server cannot store this type or value

Each message names the document, key or node, and at its end the section of the troubleshooting
page; `hint` says what to do next; `StorageError.retry` says whether another attempt may help.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

GROUPS = {"TiledWriterError", "DocumentError", "StorageError"}  # these have no section


class TiledWriterError(Exception):
    """Base of all errors of this package.

    Parameters
    ----------
    message : str
        What happened, and to which document, key or node.
    hint : str, optional
        What to do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        kind = type(self).__name__
        section = "" if kind in GROUPS else f"[{kind}]"
        return " ".join(part for part in (super().__str__(), self.hint, section) if part)


class DocumentError(TiledWriterError, ValueError):
    """A document cannot be stored as it is; no part of it was stored."""


class InvalidDocument(DocumentError):
    """A document lacks a field that it needs, or has a value that is not allowed there."""


class UnknownReference(DocumentError, KeyError):
    """A document refers to another one (start, descriptor, resource) that was never seen."""

    __str__ = TiledWriterError.__str__  # KeyError's own would print the repr of the message


class DuplicateRun(DocumentError):
    """A start document has the uid of a run that is still open in this writer."""


class UnreadableFile(DocumentError):
    """A file cannot be opened, or does not hold saved documents."""


class NotCopyable(TiledWriterError, TypeError):
    """A writer cannot be pickled, copied, or passed to another process."""


class JournalError(TiledWriterError):
    """A journal cannot be written (because the disk is full, for example) or read."""


class Retry(Enum):
    """The chances of another attempt: when to make it, if at all."""

    WHEN_SERVER_IS_BACK = "when the server is back"
    """The server is away, since it gave no answer, or a proxy answered in its place."""

    UNLESS_SERVER_IS_AWAY = "unless the server is away"
    """The connection broke off. The server may be there all the same: it closes connections after
    an error of its own."""

    LATER = "later"
    """The server asks to be left alone for a while."""

    WHEN_LOGIN_WORKS = "when the login works"
    """The server refuses these credentials. They may come to work, or be replaced."""

    WHEN_ALLOWED = "when it is allowed"
    """This run may not be written there now: for want of a permission, or of the container."""

    WHEN_FREE = "when it is free"
    """Another process writes this run, or may do so."""

    MAYBE = "maybe"
    """The server is in trouble, or this very request causes it; try again a few times."""

    NEVER = "never"
    """The same request will fail in the same way."""


class StorageError(TiledWriterError):
    """Tiled did not store what it was asked to store, or could not be read."""

    uncertain: bool = False
    """True if the request may have taken effect in spite of the error."""

    retry: Retry = Retry.NEVER
    """The chances of another attempt."""

    retry_after: float = 0.0
    """Seconds to wait, at least, before another attempt."""


class RunExists(StorageError):
    """Tiled holds another run under this uid."""


class RunComplete(StorageError):
    """Tiled holds this run already, from the same start document to a stop document."""


class OutOfStep(StorageError):
    """A node does not hold the rows that were sent to it: send the run again, from its start."""


class DocumentsIncomplete(OutOfStep):
    """Tiled holds rows of a run that the documents seen so far do not give."""


class TooEarly(StorageError):
    """A request that was not answered may still take effect: ask again later.

    Parameters
    ----------
    message : str
        As in `TiledWriterError`.
    retry_after : float
        Seconds to wait before asking again.
    """

    retry = Retry.LATER

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WrittenElsewhere(StorageError):
    """Another process has made this run in Tiled, and may write it; it does if it `answered`."""

    retry = Retry.WHEN_FREE

    def __init__(self, message: str, *, hint: str, retry_after: float, answered: bool) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        self.answered = answered


class NotStored(StorageError):
    """A run was not stored within the time limit, or too much of it waits to be stored."""


class ServerUnreachable(StorageError):
    """The server gave no answer.

    Parameters
    ----------
    message, hint : str
        As in `TiledWriterError`.
    uncertain, retry : bool, Retry
        As in `StorageError`.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        uncertain: bool = True,
        retry: Retry = Retry.WHEN_SERVER_IS_BACK,
    ) -> None:
        super().__init__(message, hint=hint)
        self.uncertain = uncertain
        self.retry = retry


class ContainerMissing(StorageError):
    """There is no container yet that could get the runs; it may be made later."""

    retry = Retry.WHEN_ALLOWED


class ContainerGone(StorageError):
    """The container that was to get a run was deleted."""


_RETRY = {
    401: Retry.WHEN_LOGIN_WORKS,
    403: Retry.WHEN_ALLOWED,
    408: Retry.LATER,
    425: Retry.LATER,
    429: Retry.LATER,
    502: Retry.WHEN_SERVER_IS_BACK,
    503: Retry.WHEN_SERVER_IS_BACK,
    504: Retry.WHEN_SERVER_IS_BACK,
    404: Retry.MAYBE,  # somebody may have deleted the node: then the run is sent again
    500: Retry.MAYBE,
    None: Retry.MAYBE,  # an app in this process raised an exception, which would be a 500
}


class RequestRefused(StorageError):
    """The server answered that it did not do what it was asked.

    Parameters
    ----------
    message, hint : str
        As in `TiledWriterError`.
    status : int, optional
        HTTP status of the answer; None if an app in this process raised an exception instead.
    retry_after : float
        Seconds for which the server asks to be left alone.
    """

    def __init__(
        self, message: str, *, hint: str = "", status: int | None = None, retry_after: float = 0.0
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after = retry_after
        self.retry = _RETRY.get(status, Retry.NEVER)
        # These come before anything is done. The others may come from a proxy, or late.
        before = self.retry in (Retry.NEVER, Retry.WHEN_LOGIN_WORKS, Retry.WHEN_ALLOWED)
        self.uncertain = not before and status != 404

    @property
    def lacks_scope(self) -> bool:
        """True if the login works, but not for this; Tiled answers 401 to keys without a scope."""
        return self.status == 403 or (self.status == 401 and "scopes" in str(self))

    @property
    def about_content(self) -> bool:
        """True if the server may have failed on the content of the request."""
        return self.retry is Retry.MAYBE and self.uncertain


class LoginRefused(RequestRefused):
    """The login does not work: it was refused, has expired, or could not be tried."""

    def __init__(self, message: str, *, status: int | None = 401, **more: Any) -> None:
        more = {"hint": "Log in again, or give the client an API key."} | more
        super().__init__(message, status=status, **more)
        self.retry, self.uncertain = Retry.WHEN_LOGIN_WORKS, False


class StorageUnsupported(RequestRefused):
    """The server cannot store a type or a value: it has to be stored in another form."""


# -- errors of httpx, Tiled and apps in this process ----------------------------------------------


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
        detail = _detail(error.response).rstrip(".")
        hint = 403 if status == httpx.codes.UNAUTHORIZED and "scopes" in detail else status
        raise refused(
            f"Tiled answered {status} to {what}: {detail}.",
            hint=_HINTS.get(hint, ""),
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
    return ServerUnreachable(
        f"No answer from Tiled to {what}: {type(error).__name__} {error}.",
        hint="Is the server up, and its address right?",
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


_HINTS = {
    401: "Log in again, or give the client an API key.",
    403: "The login or API key lacks a scope. Writing takes write:metadata, write:data and"
    " create:node, and register for the files of detectors.",
    404: "Is the address right, or was it deleted?",
    413: "It is the smallest request for it, and may be a single row. Raise the limit of the server"
    " or of the proxy before it (nginx: client_max_body_size), then call recover().",
    500: "The log of the server says why.",
}


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
