"""Every error that this package raises.

::

    TiledWriterError
     |-- DocumentError              the documents are at fault
     |     |-- InvalidDocument      a document breaks the event model
     |     |-- UnknownReference     a document points to a run, stream or resource never seen
     |     |-- DuplicateRun         a second start document for a run that is open
     |     `-- UnreadableFile       a file is not one of saved documents, or cannot be opened
     |-- JournalError               a journal could not be written or read
     `-- StorageError               Tiled is at fault, or could not be asked
           |-- RunExists            Tiled holds another run under the same uid
           |-- RunComplete          Tiled holds this very run to its end: there is nothing to send
           |-- OutOfStep            a node holds other rows than were sent: begin again
           |   `-- DocumentsIncomplete  Tiled holds rows that the documents of the run lack so far
           |-- NotStored            not stored in time, or too much waits to be stored
           |-- ServerUnreachable    no answer
           `-- RequestRefused       an answer, and it was no
                 `-- StorageUnsupported   the server's database cannot hold what it was given

The message of each names the document, the key or the node; `hint` says what to do next.
"""

from __future__ import annotations


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
        message = super().__str__()
        return f"{message} {self.hint}" if self.hint else message


class DocumentError(TiledWriterError, ValueError):
    """A document cannot be stored as it is; nothing of it was stored."""


class InvalidDocument(DocumentError):
    """A document lacks a field that it needs, or a field has a value that it must not have."""


class UnknownReference(DocumentError, KeyError):
    """A document points to another one (a run, a descriptor, a resource) that was never seen."""

    __str__ = TiledWriterError.__str__  # KeyError's own would print the repr of the message


class DuplicateRun(DocumentError):
    """A start document carries the uid of a run that is still open in this writer."""


class UnreadableFile(DocumentError):
    """A file cannot be opened, or is not one of saved documents."""


class JournalError(TiledWriterError):
    """A journal could not be written (the disk is full, say) or read."""


class StorageError(TiledWriterError):
    """Tiled did not store what it was asked to store."""

    uncertain = False
    """Whether it may have stored it in spite of the error."""


class RunExists(StorageError):
    """Tiled already holds a run under this uid, and it is another run."""


class RunComplete(StorageError):
    """Tiled holds this run already, from the same start document to a stop document."""


class OutOfStep(StorageError):
    """A node does not hold the rows that were sent to it, so all of them have to be sent again."""


class DocumentsIncomplete(OutOfStep):
    """Tiled holds rows of a run that its documents, as far as they are known, do not give."""


class TooEarly(StorageError):
    """Something that was sent without an answer may still be carried out: ask again later.

    Parameters
    ----------
    message : str
        As in `TiledWriterError`.
    retry_after : float
        Seconds after which to ask.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotStored(StorageError):
    """A run was not stored within the time that its writer waits, or too much of it waits."""


class ServerUnreachable(StorageError):
    """The server gave no answer.

    Parameters
    ----------
    message, hint : str
        As in `TiledWriterError`.
    uncertain : bool
        Whether the request may have reached the server.
    """

    def __init__(self, message: str, *, hint: str = "", uncertain: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.uncertain = uncertain


TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, None})
"""Statuses that may have another cause than the request: it may even have been carried out."""


class RequestRefused(StorageError):
    """The server answered that it will not do what it was asked.

    Parameters
    ----------
    message, hint : str
        As in `TiledWriterError`.
    status : int, optional
        HTTP status code of the answer; None where an in-process server raised instead.
    retry_after : float
        Seconds that the server wants to be left alone for.
    """

    def __init__(
        self, message: str, *, hint: str = "", status: int | None = None, retry_after: float = 0.0
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after = retry_after
        self.uncertain = status in TRANSIENT

    @property
    def about_content(self) -> bool:
        """Whether the server may have refused what it was sent, rather than who sent it."""
        return self.status in (None, 500)


class StorageUnsupported(RequestRefused):
    """The server's database has no place for a type or a value; the data go elsewhere."""
