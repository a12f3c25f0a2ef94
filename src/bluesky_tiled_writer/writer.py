"""The callback: finds the run that a document belongs to, and puts the parts together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from inspect import signature
from pathlib import Path
from typing import Any, Self

from event_model import (
    DocumentNames,
    DocumentRouter,
    bulk_datum_to_datum_page,
)
from tiled.client import from_profile, from_uri
from tiled.client.base import BaseClient

from .backup import Backup
from .errors import DocumentError, DuplicateRun, InvalidDocument, UnknownReference
from .limits import Limits
from .normalizer import RunNormalizer
from .path_map import PathMap
from .run import RunWriter
from .sink import TiledSink

BATCH_SIZE = 10_000
"""Rows of a stream that are collected before they are stored."""


class _Run:
    """A run that is open: what takes its documents, and the uids that lead to it."""

    def __init__(self, feed: Callable[[str, Any], Any], backup: Backup | None) -> None:
        self._feed = feed
        self._backup = backup
        self.uids: list[str] = []
        # Without a backup nothing stands between a document and the normalizer.
        self.take = feed if backup is None else self._take_safely

    @property
    def backed_up(self) -> bool:
        """Whether the run is not in Tiled, but in the backup."""
        return self._backup is not None and self._backup.in_use

    def _take_safely(self, name: str, doc: Any) -> None:
        assert self._backup is not None
        self._backup.keep(name, doc)
        if self._backup.in_use:
            return
        try:
            self._feed(name, doc)
        except DocumentError:
            raise  # it is the caller's, and costs this document only
        except Exception as error:
            self._backup.use(error)


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
        is in Tiled when the call returns.
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

    Raises
    ------
    DocumentError
        From a call, if a document cannot be stored as it is; nothing of it was. Other documents,
        streams and runs go on.
    StorageError
        From a call, if Tiled did not store what it was given, and there is no backup.
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
    ) -> None:
        super().__init__()
        self.client = client
        self.patches = patches or {}
        self.spec_to_mimetype = spec_to_mimetype or {}
        self.backup_directory = backup_directory
        self.backup_dictionary = backup_dictionary
        self.ignore_errors = ignore_errors or []
        self._normalizer = normalizer
        self._batch_size = batch_size
        self._max_array_size = max_array_size
        self._path_map = PathMap(path_map or {})
        self._limits = Limits()
        self._runs: dict[str, _Run] = {}
        self._by_descriptor: dict[str, _Run] = {}
        self._by_resource: dict[str, list[_Run]] = {}
        self._validate = bool(validate)
        if validate:
            warnings.warn(
                "validate=True is deprecated: call client[uid].validate() after the run instead.",
                DeprecationWarning,
                stacklevel=2,
            )

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
        return f"<{type(self).__name__} to {self.client.uri}, {len(self._runs)} open runs>"

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
        run = self._open(uid)
        run.take("start", doc)
        self._runs[uid] = run

    def _open(self, uid: str) -> _Run:
        sink = TiledSink(self.client, self._limits)
        writer = RunWriter(
            sink,
            limits=self._limits,
            batch_size=self._batch_size,
            max_array_size=self._max_array_size,
            path_map=self._path_map,
        )
        feed: Callable[[str, Any], Any] = writer
        if self._normalizer is not None:
            normalizer: Any = self._normalizer(
                patches=self.patches,
                spec_to_mimetype=self.spec_to_mimetype,  # type: ignore[call-arg]
            )
            normalizer.subscribe(writer)
            feed = normalizer
        backup = None
        if self.backup_directory is not None or self.backup_dictionary is not None:
            backup = Backup(uid, self.backup_directory, self.backup_dictionary)
        return _Run(feed, backup)

    def stop(self, doc: Any) -> None:
        """Store what is left of a run, and close it."""
        uid = doc.get("run_start")
        run = self._run_of("stop", doc)
        run.take("stop", doc)
        del self._runs[uid]
        for known in run.uids:
            self._by_descriptor.pop(known, None)
            self._by_resource.pop(known, None)
        if self._validate and not run.backed_up:
            self._validate_run(uid)

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
        run.take("descriptor", doc)
        self._by_descriptor[doc["uid"]] = run
        run.uids.append(doc["uid"])

    def event(self, doc: Any) -> Any:
        """Store an event."""
        self("event", doc)

    def event_page(self, doc: Any) -> Any:
        """Store a page of events."""
        self._by(self._by_descriptor, "event_page", doc, "descriptor").take("event_page", doc)

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
            run.uids.append(doc["uid"])
            run.take(kind, doc)

    def datum(self, doc: Any) -> Any:
        """Take a datum."""
        for run in self._by(self._by_resource, "datum", doc, "resource"):
            run.take("datum", doc)

    def datum_page(self, doc: Any) -> None:
        """Take a page of datums."""
        for run in self._by(self._by_resource, "datum_page", doc, "resource"):
            run.take("datum_page", doc)

    def bulk_datum(self, doc: Any) -> None:
        """Take datums as they were grouped before there were pages."""
        self.datum_page(bulk_datum_to_datum_page(doc))

    def stream_datum(self, doc: Any) -> None:
        """Take a stream datum."""
        self._by(self._by_descriptor, "stream_datum", doc, "descriptor").take("stream_datum", doc)

    # -- which run ------------------------------------------------------------------------------

    def _run_of(self, kind: str, doc: Any) -> _Run:
        run: _Run = self._by(self._runs, kind, doc, "run_start")
        return run

    def _by(self, known: Mapping[str, Any], kind: str, doc: Any, field: str) -> Any:
        try:
            return known[doc[field]]
        except (KeyError, TypeError):
            raise self._unknown(kind, doc, field) from None

    def _unknown(self, kind: str, doc: Any, field: str) -> InvalidDocument | UnknownReference:
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
