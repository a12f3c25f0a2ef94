"""The callback: finds the run that a document belongs to, and puts the parts together."""

from __future__ import annotations

import logging
import os
import re
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from inspect import signature
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from event_model import (
    DocumentNames,
    DocumentRouter,
    bulk_datum_to_datum_page,
)
from tiled.client import from_profile, from_uri
from tiled.client.base import BaseClient

from .backup import Backup
from .errors import (
    DuplicateRun,
    InvalidDocument,
    StorageError,
)
from .journal import JournalDirectory
from .normalizer import RunNormalizer
from .path_map import PathMap
from .pipeline import Settings
from .recovery import Recovery
from .routes import Routes
from .sender import CONNECTIONS, Sender
from .sink import TiledSink, in_process
from .status import Status
from .steps import Known
from .store import Store
from .stored_run import StoredRun
from .validation import validate_run

logger = logging.getLogger("bluesky_tiled_writer")

BATCH_SIZE = 10_000
"""Rows of a stream that are collected before they are stored, unless `flush_interval` is over."""


class TiledWriter(DocumentRouter):
    """Stores Bluesky runs in Tiled: ``RE.subscribe(TiledWriter(client))``.

    Several runs may be open at once. The data of each stream become columns of a table, and nodes
    of their own where they are arrays; see the documentation for the layout.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The container in Tiled that gets the runs; its login needs the scopes to write.
    normalizer : type, optional
        `RunNormalizer` or a subclass, which brings old documents up to date. None passes documents
        on as they are; `patches` and `spec_to_mimetype` are then ignored.
    patches : dict of str to callable, optional
        By document name, a function that mends documents of that kind before anything else.
    spec_to_mimetype : dict of str to str, optional
        MIME types for the specs of old Resource documents, in addition to the known ones.
    backup_directory : str or Path, optional
        Directory for runs that could not be stored: a JSON Lines file each, named for its uid.
    backup_dictionary : MutableMapping, optional
        The same in memory: a list of documents by uid. With either, an error of Tiled is logged
        and does not reach the RunEngine.
    batch_size : int
        Rows of a stream that are collected before they are stored. With 1 or less, every document
        is in Tiled when the call returns, unless the server does not answer.
    max_array_size : int
        Arrays of at most this many elements become list columns of the table; -1 for all. The
        default is 0: none, since Tiled's clients read list columns back as text.
    path_map : mapping of str to str, optional
        For a server that has the files of detectors in another place: from paths (or URIs) that
        detectors write to, to where the server reads them, such as ``{"Z:/data": "/mnt/data"}``.
        The original URIs are kept in the metadata of the nodes.
    validate : bool, optional
        Validate each run after its stop document. What does not agree with its files is logged,
        by key. Where bluesky-tiled-plugins is installed its own check follows, which raises an
        error. Deprecated there: call ``client[uid].validate()`` instead.
    ignore_errors : list of str, optional
        Patterns (regular expressions) of validation errors to ignore.
    flush_interval : float
        Seconds after which rows are stored, even if there are fewer than `batch_size`.
    timeout : float
        Seconds that a stop document waits for its run to be stored, at most. A run that takes
        longer is stored in the background. With 0 it never waits.
    max_pending_bytes : int
        Bytes of rows of a run in memory, at most. One that has more drops them: it has its journal.
    journal_directory : str or Path, optional
        Where documents are kept until Tiled has them: on a local disk. By default in the user's
        state directory. None for no journal: then the calls raise what goes wrong, and the end of
        the process loses what is not stored.

    Raises
    ------
    DocumentError
        From a call, if a document cannot be stored as it is; nothing of it was. Other documents,
        streams and runs go on.
    StorageError
        From a call, if the run cannot be stored, and there is neither a journal nor a backup.
    """

    def __init__(
        self,
        client: BaseClient,
        *,
        normalizer: type[DocumentRouter] | None = RunNormalizer,
        patches: dict[str, Callable[[Any], Any]] | None = None,
        spec_to_mimetype: dict[str, str] | None = None,
        backup_directory: str | Path | None = None,
        backup_dictionary: MutableMapping[str, Any] | None = None,
        batch_size: int = BATCH_SIZE,
        max_array_size: int = 0,
        path_map: Mapping[str, str] | None = None,
        validate: bool | None = None,
        ignore_errors: list[str] | None = None,
        flush_interval: float = 1.0,
        timeout: float = 30.0,
        max_pending_bytes: int = 64 * 2**20,
        journal_directory: str | Path | None = "default",
    ) -> None:
        super().__init__()
        self.client = client
        self.patches = patches or {}
        self.spec_to_mimetype = spec_to_mimetype or {}
        self.backup_directory = backup_directory
        self.backup_dictionary = backup_dictionary
        self.ignore_errors = ignore_errors or []
        # An app in this process may have its catalog in memory, on the one connection of which
        # two requests at the same time get into each other's transactions.
        local = in_process(client)
        sender = Sender(
            TiledSink(client).healthy,
            flush_interval,
            connections=1 if local else CONNECTIONS,
            exit_timeout=timeout,
        )
        settings = Settings(
            new_sink=lambda limits: TiledSink(client, limits),
            normalizer=normalizer,
            patches=self.patches,
            spec_to_mimetype=self.spec_to_mimetype,
            batch_size=batch_size,
            max_array_size=max_array_size,
            path_map=PathMap(path_map or {}),
        )
        journals = None
        if journal_directory is not None:
            default = journal_directory == "default"
            journals = JournalDirectory(None if default else journal_directory)
        self._store = Store(
            settings,
            sender,
            str(client.uri).split("?")[0].rstrip("/"),
            journals=journals,
            timeout=timeout,
            max_pending_bytes=max_pending_bytes,
            to_the_end=local,
        )
        self._take = self._store.write_through if batch_size <= 1 else StoredRun.take
        self._routes: Routes[StoredRun] = Routes()
        self._by_descriptor = self._routes.by_descriptor
        self._validate = bool(validate)
        if validate:
            warnings.warn(
                "validate=True is deprecated: call client[uid].validate() after the run instead.",
                DeprecationWarning,
                stacklevel=2,
            )
        weakref.finalize(self, self._store.drop).atexit = False
        _living.add(self)
        if not local:  # an app may be another one than that of the process that is gone
            self._store.recover_soon()

    @classmethod
    def from_uri(cls, uri: str, **kwargs: Any) -> Self:
        """Connect to a server and write there.

        Parameters
        ----------
        uri : str
            Address of the container that gets the runs.
        **kwargs
            Options of this class; anything else goes to `tiled.client.from_uri`.
        """
        options = cls._options(kwargs)
        return cls(from_uri(uri, **kwargs), **options)

    @classmethod
    def from_profile(cls, profile: str, **kwargs: Any) -> Self:
        """Connect as a Tiled profile says, and write there.

        Parameters
        ----------
        profile : str
            Name of the profile.
        **kwargs
            Options of this class; anything else goes to `tiled.client.from_profile`.
        """
        options = cls._options(kwargs)
        return cls(from_profile(profile, **kwargs), **options)

    @classmethod
    def _options(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Take the options of the constructor out of keyword arguments."""
        known = {*signature(TiledWriter).parameters, *signature(cls).parameters} - {"client"}
        return {name: kwargs.pop(name) for name in known & kwargs.keys()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.client.uri}: {self.status}>"

    def _repr_html_(self) -> str:
        return f"<b>{type(self).__name__}</b> to {self._store.server}{self.status._repr_html_()}"

    # -- documents ------------------------------------------------------------------------------

    def __call__(self, name: str, doc: Any, validate: bool = False) -> tuple[str, Any]:
        """Store a document.

        Parameters
        ----------
        name : str
            Kind of document: start, descriptor, event, event_page, ..., stop.
        doc : dict
            The document; it is not changed, and may change afterwards.
        validate : bool
            Accepted for compatibility with `DocumentRouter`.
        """
        if name == "event":  # the short way: this is what a scan waits for
            try:
                run = self._by_descriptor[doc["descriptor"]]
            except (KeyError, TypeError):
                run = self._run_of_descriptor(name, doc)
            self._take(run, name, doc)
            return name, doc
        if name not in DocumentNames.__members__:
            raise InvalidDocument(
                f"There is no kind of document called {name!r}.",
                hint=f"There are {', '.join(DocumentNames.__members__)}.",
            )
        return super().__call__(name, doc, validate)

    def start(self, doc: Any) -> None:
        """Open a run."""
        uid = doc.get("uid")
        if not isinstance(uid, str) or not uid:
            raise InvalidDocument(f"A start document has the uid {uid!r}.", hint="It needs one.")
        if uid in self._routes.runs:
            raise DuplicateRun(
                f"There is a second start document for the run {uid!r}, which is still open.",
                hint="A uid stands for one run: the documents of the first go on being stored.",
            )
        backup = None
        if self.backup_directory is not None or self.backup_dictionary is not None:
            backup = Backup(uid, self.backup_directory, self.backup_dictionary)
        run = self._store.open(uid, backup)
        try:
            self._take(run, "start", doc)
        except Exception:  # of the normalizer, too: there is no run without its start
            self._store.cancel(run)
            raise
        self._routes.runs[uid] = run

    def stop(self, doc: Any) -> None:
        """Store what is left of a run, and close it; waits for that, up to `timeout`."""
        uid = doc.get("run_start")
        run = self._run_of("stop", doc)
        try:
            run.take("stop", doc)
        except StorageError:
            self._routes.forget(uid)
            raise
        self._routes.forget(uid)
        self._store.wait_stored(run)
        if self._validate and run.stored:
            self._validate_run(uid)

    def _validate_run(self, uid: str) -> None:
        """Say what is wrong with a run that is stored; only the plugins' own check raises."""
        run: Any = cast(Any, self.client)[uid]
        try:
            problems = validate_run(run)
        except Exception as error:  # a scan does not end for a check that fails
            logger.warning("Run %s could not be validated: %s", uid, error)
            problems = []
        for problem in problems:
            if not any(re.search(pattern, str(problem)) for pattern in self.ignore_errors):
                logger.warning("Run %s: %s", uid, problem)
        if (validate := getattr(run, "validate", None)) is not None:
            validate(ignore_errors=self.ignore_errors, raise_on_error=True)

    def descriptor(self, doc: Any) -> None:
        """Open a stream of a run, or update its configuration."""
        run = self._run_of("descriptor", doc)
        self._take(run, "descriptor", doc)
        self._routes.add_descriptor(doc["uid"], run)

    def event(self, doc: Any) -> Any:
        """Store an event."""
        self("event", doc)

    def event_page(self, doc: Any) -> Any:
        """Store a page of events."""
        self._take(self._run_of_descriptor("event_page", doc), "event_page", doc)

    def bulk_events(self, doc: Any) -> None:
        """Store events as they were grouped before there were pages."""
        for events in doc.values():
            for event in events:
                self("event", event)

    def resource(self, doc: Any) -> None:
        """Take a resource; one that names no run is for all that are open."""
        self._take_resource("resource", doc)

    def stream_resource(self, doc: Any) -> None:
        """Take a stream resource; one that names no run is for all that are open."""
        self._take_resource("stream_resource", doc)

    def _take_resource(self, kind: str, doc: Any) -> None:
        self._store.check_usable()
        for run in self._routes.add_resource(kind, doc):
            self._take(run, kind, doc)

    def datum(self, doc: Any) -> Any:
        """Take a datum."""
        for run in self._runs_of_resource("datum", doc):
            self._take(run, "datum", doc)

    def datum_page(self, doc: Any) -> None:
        """Take a page of datums."""
        for run in self._runs_of_resource("datum_page", doc):
            self._take(run, "datum_page", doc)

    def bulk_datum(self, doc: Any) -> None:
        """Take datums as they were grouped before there were pages."""
        self.datum_page(bulk_datum_to_datum_page(doc))

    def stream_datum(self, doc: Any) -> None:
        """Take a stream datum."""
        self._take(self._run_of_descriptor("stream_datum", doc), "stream_datum", doc)

    # -- what the user wants to know ------------------------------------------------------------

    @property
    def status(self) -> Status:
        """What the writer is at."""
        return self._store.status

    def flush(self, timeout: float | None = None) -> bool:
        """Store all that was taken so far.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait, at most; by default as `TiledWriter` was told.

        Returns
        -------
        bool
            Whether all of it is in Tiled, but for runs that were set aside.
        """
        return self._store.flush(timeout)

    def wait_for(self, uid: str, timeout: float | None = None) -> bool:
        """Wait until a run is stored to its end.

        Parameters
        ----------
        uid : str
            Uid of the run.
        timeout : float, optional
            Seconds to wait, at most; by default as `TiledWriter` was told.

        Returns
        -------
        bool
            Whether it is; True for a run of which this writer knows nothing more.

        Raises
        ------
        StorageError
            If the run was set aside.
        """
        return self._store.wait_for(uid, timeout)

    def recover(self, timeout: float | None = None) -> list[Recovery]:
        """Store the runs that other processes left, and those that this one has set aside.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait, at most; by default as long as it takes.

        Returns
        -------
        list of Recovery
            What became of each; nothing of runs whose process is still there.

        Raises
        ------
        StorageError
            If there is no journal to recover anything from.
        """
        return self._store.recover(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Store all that was taken, and take no more.

        Runs that are not stored by then, and those that were not stopped, stay in their journals
        for the next process.

        Parameters
        ----------
        timeout : float, optional
            Seconds that this takes, at most; by default as `TiledWriter` was told.

        Returns
        -------
        bool
            Whether all of it is in Tiled, but for runs that were set aside.
        """
        self._routes.clear()
        return self._store.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- for replays ----------------------------------------------------------------------------

    def _announce(self, uid: str, documents: Callable[[], Iterable[tuple[str, Any]]]) -> None:
        """Know all documents of a run before its start, in case that Tiled holds some of it."""
        self._store.announce(uid, documents)

    def _count(self, documents: Callable[[], Iterable[tuple[str, Any]]]) -> Known:
        """How many rows documents make here."""
        return self._store.count(documents)

    # -- which run ------------------------------------------------------------------------------

    def _run_of(self, kind: str, doc: Any) -> StoredRun:
        self._store.check_usable()
        return self._routes.of_run(kind, doc)

    def _run_of_descriptor(self, kind: str, doc: Any) -> StoredRun:
        self._store.check_usable()
        return self._routes.of_descriptor(kind, doc)

    def _runs_of_resource(self, kind: str, doc: Any) -> list[StoredRun]:
        self._store.check_usable()
        return self._routes.of_resource(kind, doc)


_living: weakref.WeakSet[TiledWriter] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a child process: the runs are the parent's, and so are the thread and its locks."""
    for writer in list(_living):
        writer._routes.clear()
        writer._store.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
