"""The callback that users subscribe: it puts the parts together."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from html import escape
from inspect import signature
from pathlib import Path
from typing import Any, Self

from event_model import DocumentNames, DocumentRouter
from tiled.client import from_profile
from tiled.client.base import BaseClient

from .checks import log_problems
from .consolidators import PathMap
from .delivery import Load, Recovery, Router, Settings, Status, new_manager, refuse_to_copy
from .errors import InvalidDocument
from .journal import Finding, check_journals
from .normalizer import RunNormalizer
from .run import READY_BYTES, RunSettings
from .sink import Connection, Opening, Preflight, TiledDestination, connect

BATCH_SIZE = 10_000
"""Rows of a stream that are sent together, unless `flush_interval` is over before."""


class TiledWriter(DocumentRouter):
    """Stores Bluesky runs in Tiled: ``RE.subscribe(TiledWriter(client))``.

    Several runs may be open at once. The data of each stream become columns of a table, and nodes
    of their own where they are arrays; see the documentation for the layout.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The container in Tiled that gets the runs. Its login needs the scopes to write.
    normalizer : type, optional
        `RunNormalizer` or a subclass, which brings documents of any age up to date. With None they
        are taken as they are, and `patches` and `spec_to_mimetype` are ignored.
    patches : dict of str to callable, optional
        By document name, a function that changes documents of that kind before anything else.
    spec_to_mimetype : dict of str to str, optional
        MIME types for the specs of legacy Resource documents, in addition to the known ones.
    backup_directory : str or Path, optional
        Directory for runs that could not be stored: a JSON Lines file each, named for its uid.
    backup_dictionary : MutableMapping, optional
        The same in memory: a list of documents by uid. With either, errors of Tiled are logged
        and do not reach the RunEngine.
    batch_size : int
        Rows of a stream that are sent together, unless `flush_interval` is over before. With 1 or
        less the writer is *live*: rows are sent as soon as a connection is free, and no call waits
        for that; call `flush` for data that must be in Tiled now.
    max_array_size : int
        Arrays of at most this many elements become list columns of the table; -1 for all. The
        default is 0: none, since Tiled's clients read list columns back as text.
    path_map : mapping of str to str, optional
        For a server that has the files of detectors in another place: from paths (or URIs) that
        detectors write to, to those where the server reads them: ``{"Z:/data": "/mnt/data"}``.
        The original URIs are kept in the metadata of the nodes.
    validate : bool, optional
        Validate each run after its stop document. What does not agree with its files is logged,
        by key. Where bluesky-tiled-plugins is installed its own check follows, which raises errors.
    ignore_errors : list of str, optional
        Patterns (regular expressions) of validation errors to ignore.
    flush_interval : float
        Seconds after which rows are stored, even if there are fewer than `batch_size`.
    timeout : float
        Seconds that a stop document waits for its run to be stored, at most. A run that takes
        longer is stored in the background. With 0 it never waits.
    max_pending_bytes : int
        Bytes of rows of a run in memory, about. A run that has more drops them, and is stored from
        its journal.
    journal_directory : str or Path, optional
        Directory on a local disk for documents that Tiled does not have yet; by default in the
        user's state directory. None for no journal: calls then raise what goes wrong, and the end
        of the process loses what is not stored.
    journal_max_bytes : int, optional
        Bytes that the journals there should take. At 80 % of that, or of the room on their disk,
        the log has a warning; beyond, `status` is "degraded". No scan is stopped for that.

    Raises
    ------
    DocumentError
        From a call, if a document cannot be stored; nothing of it was. Other documents, streams
        and runs go on.
    StorageError
        From a call, if the run cannot be stored, and there is neither a journal nor a backup.
    """

    def __init__(
        self,
        client: BaseClient | Connection,
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
        journal_max_bytes: int | None = None,
    ) -> None:
        super().__init__()
        connection = client if isinstance(client, Connection) else Connection.of(client)
        self._connection = connection  # which may outlive this writer, without the user's client
        self._client = None if isinstance(client, Connection) else client
        self.patches = patches or {}
        self.spec_to_mimetype = spec_to_mimetype or {}
        self.backup_directory = backup_directory
        self.backup_dictionary = backup_dictionary
        self.ignore_errors = ignore_errors or []
        settings = Settings(
            run=RunSettings(
                batch_size=batch_size,
                max_array_size=max_array_size,
                path_map=PathMap(path_map or {}),
                # About as much again may come in before the sender takes it.
                ready_bytes=min(READY_BYTES, max_pending_bytes // 4),
            ),
            normalizer=normalizer,
            patches=self.patches,
            spec_to_mimetype=self.spec_to_mimetype,
            flush_interval=flush_interval,
            timeout=timeout,
            max_pending_bytes=max_pending_bytes,
            backup_directory=backup_directory,
            backup_dictionary=backup_dictionary,
            journal_max_bytes=journal_max_bytes,
        )
        self.settings = settings.on(connection.address.server, in_process=connection.in_process)
        self._manager = new_manager(
            connection, TiledDestination.of(connection), self.settings, journal_directory
        )
        self._router = Router(self._manager)
        self._event = self._router.event
        self._validate = bool(validate)
        self._journal_directory = journal_directory
        weakref.finalize(self, self._manager.drop).atexit = False
        if not connection.is_open:
            self._manager.connect_later(connection.open)
        if not connection.in_process:  # an app may be another one than that of a process before
            self._manager.recover_soon()

    @classmethod
    def from_uri(cls, uri: str, **kwargs: Any) -> Self:
        """Connect to a server and write there.

        A server that is down, a refused login or a missing container is no obstacle: documents go
        to the journal, and are stored when that is mended.

        Parameters
        ----------
        uri : str
            Address of the container that gets the runs.
        **kwargs
            Options of this class; anything else goes to `tiled.client.from_uri`.

        Raises
        ------
        StorageError
            If this is no URI of a server.
        """
        options = cls._options(kwargs)
        return cls._connected(Opening.of_uri(uri, kwargs), options)

    @classmethod
    def from_profile(cls, profile: str, **kwargs: Any) -> Self:
        """Connect as a Tiled profile says, and write there; see `from_uri`."""
        options, opening = cls._options(kwargs), Opening.of_profile(profile, kwargs)
        if opening is None:
            return cls(from_profile(profile, **kwargs), **options)
        return cls._connected(opening, options)

    @classmethod
    def _connected(cls, opening: Opening, options: dict[str, Any]) -> Self:
        connection = connect(opening)
        writer = cls(connection.client if connection.is_open else connection, **options)
        writer._connection.is_ours = True
        return writer

    @property
    def client(self) -> BaseClient:
        """The container in Tiled that gets the runs; a `StorageError` if it cannot be reached."""
        return self._connection.client if self._client is None else self._client

    @classmethod
    def _options(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Take the options of the constructor out of keyword arguments."""
        known = {*signature(TiledWriter).parameters, *signature(cls).parameters}
        return {name: kwargs.pop(name) for name in (known - {"client"}) & kwargs.keys()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._connection.address}: {self.status}>"

    def _repr_html_(self) -> str:
        name = f"<b>{type(self).__name__}</b> to {escape(str(self._connection.address))}"
        return f"{name}{self.status._repr_html_()}"

    __reduce__ = refuse_to_copy  # which pickle and copy call

    # -- documents ------------------------------------------------------------------------------

    def __call__(self, name: str, doc: Any, validate: bool = False) -> tuple[str, Any]:
        """Store a document of any kind, which is not changed and may change afterwards."""
        if name == "event":
            self._event(doc)
            return name, doc
        if name not in DocumentNames.__members__:
            raise InvalidDocument(
                f"There is no kind of document called {name!r}.",
                hint=f"There are {', '.join(DocumentNames.__members__)}.",
            )
        return super().__call__(name, doc, validate)

    def start(self, doc: Any) -> None:
        """Open a run."""
        self._router.start(doc)

    def stop(self, doc: Any) -> None:
        """Store what is left of a run, and close it; wait for that, `timeout` seconds at most."""
        job = self._router.stop(doc, wait_here=self._validate)
        if self._validate and job is not None and job.life.stored:
            log_problems(job.uid, self.client[job.uid], self.ignore_errors)

    def descriptor(self, doc: Any) -> None:
        """Open a stream of a run, or update its configuration."""
        self._router.descriptor(doc)

    def event(self, doc: Any) -> Any:
        """Store an event."""
        self._event(doc)

    def event_page(self, doc: Any) -> Any:
        """Store a page of events."""
        self._router.of_descriptor("event_page", doc)

    def bulk_events(self, doc: Any) -> None:
        """Store events as they were grouped before there were pages."""
        self._router.bulk_events(doc)

    def resource(self, doc: Any) -> None:
        """Take a resource."""
        self._router.resource("resource", doc)

    def stream_resource(self, doc: Any) -> None:
        """Take a stream resource."""
        self._router.resource("stream_resource", doc)

    def datum(self, doc: Any) -> Any:
        """Take a datum."""
        self._router.of_resource("datum", doc)

    def datum_page(self, doc: Any) -> None:
        """Take a page of datums."""
        self._router.of_resource("datum_page", doc)

    def bulk_datum(self, doc: Any) -> None:
        """Take datums as they were grouped before there were pages."""
        self._router.bulk_datum(doc)

    def stream_datum(self, doc: Any) -> None:
        """Take a stream datum."""
        self._router.of_descriptor("stream_datum", doc)

    def announce(
        self, uid: str, documents: Callable[[], Iterable[tuple[str, Any]]] | None = None
    ) -> None:
        """Tell beforehand which documents of a run will come, in case that Tiled holds some of it.

        Without it, and without a journal, a run that Tiled holds in part is set aside.

        Parameters
        ----------
        uid : str
            Uid of the run.
        documents : callable, optional
            Returns all of its documents, if Tiled holds the run. By default, all will come.
        """
        self._manager.announce(uid, documents)

    def forget(self, uid: str) -> None:
        """Send nothing more of a run, and remove its journal: somebody else stores it."""
        self._router.forget(uid)

    # -- what the user wants to know ------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The status of the writer."""
        return self._manager.status

    @property
    def load(self) -> Load:
        """The work in hand: a part of `status`, for loops that ask all the time."""
        return self._manager.load

    def check(self, files: str | Path | None = None) -> list[Finding]:
        """Try what a run needs before the first one, delete it again, and return what was found.

        Parameters
        ----------
        files : str or Path, optional
            A directory of detector files, where a file is written, and read through the server.
        """
        preflight = Preflight(self.client, self.settings.run.path_map)
        most = self.settings.journal_max_bytes
        return [*preflight.check(files), *check_journals(self._journal_directory, most=most)]

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until Tiled has all that was taken so far.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait, at most; by default `timeout` of the writer.

        Returns
        -------
        bool
            True if it has all of it, except for runs that were set aside.
        """
        return self._manager.flush(timeout)

    def wait_for(self, uid: str, timeout: float | None = None) -> bool:
        """Wait until a run is stored to its end.

        Parameters
        ----------
        uid : str
            Uid of the run.
        timeout : float, optional
            Seconds to wait, at most; by default `timeout` of the writer.

        Returns
        -------
        bool
            True if it is, and for a run that this writer does not know any more.

        Raises
        ------
        StorageError
            If the run was set aside.
        """
        return self._manager.wait_for(uid, timeout)

    def recover(self, timeout: float | None = None) -> list[Recovery]:
        """Store the runs that other processes left, and those that this one has set aside.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait, at most; by default as long as it takes.

        Returns
        -------
        list of Recovery
            What became of each. Runs whose process is still there are left to it.

        Raises
        ------
        StorageError
            If there is no journal to recover anything from.
        """
        return self._manager.recover(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Store all that was taken, and take no more.

        Runs that are not stored by then, and those that were not stopped, stay in their journals
        for the next process.

        Parameters
        ----------
        timeout : float, optional
            Seconds that this takes, at most. By default `timeout` of the writer, and not longer
            than the server answers, if all runs are in journals.

        Returns
        -------
        bool
            True if it has all of it, except for runs that were set aside.
        """
        self._router.clear()
        return self._manager.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
