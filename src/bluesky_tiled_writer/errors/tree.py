"""The classes of errors; see the package for their tree."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

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


class DeletionRefused(StorageUnsupported):
    """The login may not delete nodes: they stay as they are, and take what fits them.

    Parameters
    ----------
    message, hint : str
        As in `TiledWriterError`.
    status : int, optional
        As in `RequestRefused`.
    nodes : sequence
        Those that were to be written anew, or given up, and exist.
    """

    def __init__(self, message: str, *, nodes: Sequence[Any] = (), **more: Any) -> None:
        super().__init__(message, **more)
        self.nodes = nodes
