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
                       `-- DeletionRefused    the login may not delete what is to be written anew

Each message names the document, key or node, and at its end the section of the troubleshooting
page; `hint` says what to do next; `StorageError.retry` says whether another attempt may help.
"""

from __future__ import annotations

from .mapping import mapped_errors
from .tree import (
    GROUPS,
    ContainerGone,
    ContainerMissing,
    DeletionRefused,
    DocumentError,
    DocumentsIncomplete,
    DuplicateRun,
    InvalidDocument,
    JournalError,
    LoginRefused,
    NotCopyable,
    NotStored,
    OutOfStep,
    RequestRefused,
    Retry,
    RunComplete,
    RunExists,
    ServerUnreachable,
    StorageError,
    StorageUnsupported,
    TiledWriterError,
    TooEarly,
    UnknownReference,
    UnreadableFile,
    WrittenElsewhere,
)

__all__ = [
    "GROUPS",
    "ContainerGone",
    "ContainerMissing",
    "DeletionRefused",
    "DocumentError",
    "DocumentsIncomplete",
    "DuplicateRun",
    "InvalidDocument",
    "JournalError",
    "LoginRefused",
    "NotCopyable",
    "NotStored",
    "OutOfStep",
    "RequestRefused",
    "Retry",
    "RunComplete",
    "RunExists",
    "ServerUnreachable",
    "StorageError",
    "StorageUnsupported",
    "TiledWriterError",
    "TooEarly",
    "UnknownReference",
    "UnreadableFile",
    "WrittenElsewhere",
    "mapped_errors",
]

for _name in __all__[1:]:  # as people import them, and as tracebacks show them
    globals()[_name].__module__ = __name__
