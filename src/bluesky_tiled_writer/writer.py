"""The callback: finds the run that a document belongs to, and puts the parts together."""

from __future__ import annotations

import atexit
import logging
import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from inspect import signature
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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
    JournalError,
    NotStored,
    StorageError,
    UnknownReference,
)
from .journal import JournalDirectory, JournalFile
from .normalizer import RunNormalizer
from .pipeline import Settings
from .recovery import OrphanSearch, Recovery, options_of, settings_for
from .sender import CONNECTIONS, Sender
from .sink import TiledSink, in_process
from .status import Status
from .stored_run import StoredRun

logger = logging.getLogger("bluesky_tiled_writer")

BATCH_SIZE = 10_000
"""Rows of a stream that are collected before they are stored, unless `flush_interval` is over."""

PATIENCE = 1.0
"""Seconds that write-through waits for a server that answers slowly, before it waits no more."""


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
        Validate each run after its stop document, by bluesky-tiled-plugins. Deprecated there:
        call ``client[uid].validate()`` instead.
    ignore_errors : list of str, optional
        Patterns of validation errors to ignore.
    flush_interval : float
        Seconds after which rows are stored, even if there are fewer than `batch_size`.
    timeout : float
        Seconds that a stop document waits for its run to be stored, at most. A run that takes
        longer is stored in the background. With 0 it never waits.
    max_pending_bytes : int
        Bytes of rows in memory, at most. A run that has more drops them: it has its journal.
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
        self.timeout = timeout
        self._write_through = batch_size <= 1
        self._max_pending = max_pending_bytes
        self._settings = Settings(
            new_sink=lambda limits: TiledSink(client, limits),
            normalizer=normalizer,
            patches=self.patches,
            spec_to_mimetype=self.spec_to_mimetype,
            batch_size=batch_size,
            max_array_size=max_array_size,
            path_map=path_map or {},
        )
        self._server = str(client.uri).split("?")[0].rstrip("/")
        # An app in this process may have its catalog in memory, on the one connection of which
        # two requests at the same time get into each other's transactions.
        self._in_process = in_process(client)
        self._sender = Sender(
            TiledSink(client).healthy,
            flush_interval,
            connections=1 if self._in_process else CONNECTIONS,
        )
        self._journals: JournalDirectory | None = None
        if journal_directory is not None:
            default = journal_directory == "default"
            self._journals = JournalDirectory(None if default else journal_directory)
        self._runs: dict[str, StoredRun] = {}
        self._by_descriptor: dict[str, StoredRun] = {}
        self._by_resource: dict[str, list[StoredRun]] = {}
        self._history: dict[str, StoredRun] = {}
        self._rows_before = 0
        self._stalled = False
        self._closed = False
        self._validate = bool(validate)
        if validate:
            warnings.warn(
                "validate=True is deprecated: call client[uid].validate() after the run instead.",
                DeprecationWarning,
                stacklevel=2,
            )
        _living.add(self)
        weakref.finalize(self, _dropped, self._sender).atexit = False
        # An app in this process may be another one than that of the process that is gone.
        if self._journals is not None and not self._in_process and self._journals.journals():
            self._sender.add(OrphanSearch(self._journals, self._server, self._adopt))

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
        return f"<b>{type(self).__name__}</b> to {self._server}{self.status._repr_html_()}"

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
            except KeyError:
                raise self._unknown(name, doc, "descriptor") from None
            run.take(name, doc)
            if self._write_through:
                self._wait_through(run)
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
        if uid in self._runs:
            raise DuplicateRun(
                f"There is a second start document for the run {uid!r}, which is still open.",
                hint="A uid stands for one run: the documents of the first go on being stored.",
            )
        self._check_usable()
        self._prune_history()
        run = self._open(uid, doc)
        self._take(run, "start", doc)
        self._runs[uid] = run

    def _check_usable(self) -> None:
        if not self._sender.of_this_process:
            raise StorageError(
                "This TiledWriter belongs to another process, from which this one was forked off.",
                hint="Make a client and a TiledWriter in each process.",
            )
        if self._closed:
            raise StorageError("This TiledWriter is closed.", hint="Make another one.")

    def _open(self, uid: str, start: Any) -> StoredRun:
        backup = None
        if self.backup_directory is not None or self.backup_dictionary is not None:
            backup = Backup(uid, self.backup_directory, self.backup_dictionary)
        run = StoredRun(
            uid,
            self._settings,
            self._sender,
            journal=self._new_journal(uid),
            backup=backup,
            max_pending_bytes=self._max_pending,
            timeout=self.timeout,
        )
        self._history[uid] = run
        self._sender.add(run)
        return run

    def _new_journal(self, uid: str) -> JournalFile | None:
        if self._journals is None:
            return None
        try:
            return self._journals.create(uid, self._server, options_of(self._settings))
        except JournalError as error:
            logger.error(
                "Run %s has no journal, and goes on from memory, which the end of this process"
                " would lose. %s",
                uid,
                error,
            )
            return None

    def _take(self, run: StoredRun, name: str, doc: Any) -> None:
        run.take(name, doc)
        if self._write_through:
            self._wait_through(run)

    def _wait_through(self, run: StoredRun) -> None:
        """Wait until a document is in Tiled, but not for a server that is slow or down."""
        target = run.taken
        self._sender.hasten(run)
        if run.must_tell:
            self._wait_or_tell(run, lambda: run.delivered >= target)
            return
        if self._stalled and run.delivered < target - 1:
            return
        self._sender.wait(
            lambda: run.delivered >= target or run.error is not None or self._sender.down, PATIENCE
        )
        self._stalled = run.delivered < target

    def _wait_or_tell(self, run: StoredRun, done: Callable[[], bool]) -> None:
        """Wait for what only this call can vouch for."""
        self._sender.wait(lambda: done() or run.error is not None, self.timeout)
        if run.error is not None:
            raise run.error
        if not done():
            raise NotStored(
                f"Run {run.uid!r} was not stored within {self.timeout} s.",
                hint="It goes on in the background; the end of this process would lose it."
                " Let TiledWriter have a journal (journal_directory=...).",
            ) from self._sender.last_error

    def stop(self, doc: Any) -> None:
        """Store what is left of a run, and close it; waits for that, up to `timeout`."""
        uid = doc.get("run_start")
        run = self._run_of("stop", doc)
        run.take("stop", doc)
        del self._runs[uid]
        for known in run.links:
            self._by_descriptor.pop(known, None)
            self._by_resource.pop(known, None)
        if self.timeout > 0:
            self._wait_stored(run)
        if not run.stored and run.has_backup and (run.error is not None or self.timeout > 0):
            run.back_up(self._sender.last_error)
        if self._validate and run.stored:
            self._validate_run(uid)

    def _wait_stored(self, run: StoredRun) -> None:
        if run.must_tell:
            self._wait_or_tell(run, lambda: run.over if self._in_process else run.stored)
            return
        self._sender.wait(
            lambda: (
                (run.over if self._in_process else run.stored)
                or run.error is not None
                or self._sender.down
            ),
            self.timeout,
        )
        if not run.stored and run.error is None:
            logger.warning(
                "Run %s is not in Tiled yet; it will be when the server answers in time.", run.uid
            )

    def _validate_run(self, uid: str) -> None:
        stored: Any = self.client
        validate = getattr(stored[uid], "validate", None)
        if validate is None:
            warnings.warn(
                "validate=True needs bluesky-tiled-plugins, which is not installed;"
                f" run {uid!r} was not validated.",
                stacklevel=4,
            )
            return
        validate(ignore_errors=self.ignore_errors, raise_on_error=True)

    def descriptor(self, doc: Any) -> None:
        """Open a stream of a run, or update its configuration."""
        run = self._run_of("descriptor", doc)
        self._take(run, "descriptor", doc)
        self._by_descriptor[doc["uid"]] = run
        run.links.append(doc["uid"])

    def event(self, doc: Any) -> Any:
        """Store an event."""
        self("event", doc)

    def event_page(self, doc: Any) -> Any:
        """Store a page of events."""
        run = self._by(self._by_descriptor, "event_page", doc, "descriptor")
        self._take(run, "event_page", doc)

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
        runs = [self._run_of(kind, doc)] if doc.get("run_start") else list(self._runs.values())
        if "uid" not in doc:
            raise InvalidDocument(f"A {kind} document has no uid.", hint="It needs one.")
        self._by_resource[doc["uid"]] = runs
        for run in runs:
            run.links.append(doc["uid"])
            self._take(run, kind, doc)

    def datum(self, doc: Any) -> Any:
        """Take a datum."""
        for run in self._by(self._by_resource, "datum", doc, "resource"):
            self._take(run, "datum", doc)

    def datum_page(self, doc: Any) -> None:
        """Take a page of datums."""
        for run in self._by(self._by_resource, "datum_page", doc, "resource"):
            self._take(run, "datum_page", doc)

    def bulk_datum(self, doc: Any) -> None:
        """Take datums as they were grouped before there were pages."""
        self.datum_page(bulk_datum_to_datum_page(doc))

    def stream_datum(self, doc: Any) -> None:
        """Take a stream datum."""
        run = self._by(self._by_descriptor, "stream_datum", doc, "descriptor")
        self._take(run, "stream_datum", doc)

    # -- what the user wants to know ------------------------------------------------------------

    @property
    def status(self) -> Status:
        """What the writer is at."""
        runs = list(self._history.values())
        waiting = [run for run in runs if not run.over and run.error is None]
        aside = {run.uid: str(run.error) for run in runs if run.error is not None}
        rows = sum(run.pending_rows for run in waiting)
        behind = [run for run in waiting if run.delivered < run.taken]
        oldest = min((run.settled for run in behind), default=None)
        lost = any(run.journal_failure is not None for run in waiting)
        if self._sender.down or aside or lost:
            state = "degraded"
        elif any(run.behind for run in waiting):
            state = "behind"
        else:
            state = "writing" if behind or rows else "idle"
        return Status(
            state=state,  # type: ignore[arg-type]
            runs=len(waiting),
            pending_rows=rows,
            pending_bytes=sum(run.pending_bytes for run in waiting),
            oldest=0.0 if oldest is None else time.monotonic() - oldest,
            rows_stored=self._rows_before + sum(run.rows_stored for run in runs),
            server_down=self._sender.down,
            set_aside=aside,
            last_error=self._sender.last_error,
        )

    def _prune_history(self) -> None:
        for uid, run in list(self._history.items()):
            if run.over and run.error is None:
                self._rows_before += run.rows_stored
                del self._history[uid]

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
        targets = [(run, run.taken) for run in list(self._history.values())]
        for run, _ in targets:
            self._sender.hasten(run)

        def done() -> bool:
            return all(
                (run.delivered >= target and (run.over or not run.stopped)) or run.error is not None
                for run, target in targets
            )

        return self._sender.wait(done, self.timeout if timeout is None else timeout)

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
        run = self._history.get(uid)
        if run is None:
            return True
        done = self._sender.wait(
            lambda: run.over or run.error is not None, self.timeout if timeout is None else timeout
        )
        if run.error is not None:
            raise run.error
        return done

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
        self._check_usable()
        if self._journals is None:
            raise StorageError(
                "There is no journal to recover runs from.", hint="Give a journal_directory."
            )
        self._sender.wait(self._no_search, timeout)
        for journal in self._journals.orphans(self._server):
            self._adopt(journal)
        runs = [run for run in self._history.values() if run.is_orphan]
        self._sender.wait(lambda: all(run.over or run.error is not None for run in runs), timeout)
        return [Recovery.of(run) for run in runs]

    def _no_search(self) -> bool:
        return not any(isinstance(job, OrphanSearch) for job in self._sender.jobs)

    def _adopt(self, journal: JournalFile) -> None:
        run = StoredRun(
            journal.header.uid,
            settings_for(self._settings, journal),
            self._sender,
            journal=journal,
            orphan=True,
        )
        self._history[run.uid] = run
        self._sender.add(run)
        self._sender.hasten(run)

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
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        done = self.flush(max(0.0, deadline - time.monotonic()))
        self._closed = True
        if self._sender.close(max(0.5, deadline - time.monotonic())):
            for run in list(self._history.values()):
                if not run.over and not run.stored:
                    run.back_up(self._sender.last_error)
                if not run.over:
                    run.let_go()
        self._runs.clear()
        self._by_descriptor.clear()
        self._by_resource.clear()
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- which run ------------------------------------------------------------------------------

    def _run_of(self, kind: str, doc: Any) -> StoredRun:
        run: StoredRun = self._by(self._runs, kind, doc, "run_start")
        return run

    def _by(self, known: Mapping[str, Any], kind: str, doc: Any, field: str) -> Any:
        try:
            return known[doc[field]]
        except (KeyError, TypeError):
            raise self._unknown(kind, doc, field) from None

    def _unknown(self, kind: str, doc: Any, field: str) -> Exception:
        self._check_usable()
        uid = doc.get("uid", doc.get("datum_id")) if isinstance(doc, Mapping) else None
        if not isinstance(doc, Mapping) or field not in doc:
            return InvalidDocument(
                f"The {kind} document {uid!r} has no {field}.",
                hint="Without it there is no telling which run it belongs to.",
            )
        open_runs: Iterable[str] = sorted(self._runs)
        return UnknownReference(
            f"The {kind} document {uid!r} refers to the {field} {doc[field]!r}, which belongs to"
            f" no open run.",
            hint=f"Subscribe before the run starts; open are {', '.join(open_runs) or 'none'}.",
        )


_living: weakref.WeakSet[TiledWriter] = weakref.WeakSet()


def _dropped(sender: Sender) -> None:
    """See what a writer leaves that nobody refers to any more."""
    if not sender.of_this_process:
        return
    runs = [job for job in sender.jobs if isinstance(job, StoredRun)]
    open_runs = [run.uid for run in runs if run.waiting and not run.stopped]
    for run in runs:
        run.abandon()
    if open_runs:
        warnings.warn(
            f"A TiledWriter was dropped with rows of open runs: {', '.join(open_runs)}. Call"
            " close(), or use it in a with statement.",
            ResourceWarning,
            stacklevel=2,
        )


@atexit.register
def _close_all() -> None:
    """At the end of the interpreter, store what is left; the rest is in the journals."""
    for writer in list(_living):
        if writer._sender.of_this_process and not writer.close():
            logger.warning("Not everything is in Tiled: %s", writer.status)


def _leave_to_parent() -> None:
    """In a child process: the runs are the parent's, and so are its thread and its locks."""
    for writer in list(_living):
        writer._runs, writer._by_descriptor, writer._by_resource = {}, {}, {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
