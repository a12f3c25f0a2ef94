"""The callback: puts the parts together, and is what a user has of them."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from inspect import signature
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from event_model import DocumentRouter
from tiled.client import from_profile, from_uri
from tiled.client.base import BaseClient

from .checks import log_problems
from .consolidators import PathMap
from .delivery import (
    CONNECTIONS,
    Recovery,
    RunDispatcher,
    RunJob,
    RunManager,
    Sender,
    Settings,
    Status,
)
from .journal import Backup, JournalDirectory
from .normalizer import RunNormalizer
from .run import Known
from .sink import TiledSink, in_process

BATCH_SIZE = 10_000
"""Rows of a stream that are collected before they are stored, unless `flush_interval` is over."""


class TiledWriter(RunDispatcher):
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
        Bytes of rows of a run in memory, about: one that has more drops them, and has its journal.
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
        store = RunManager(
            settings,
            sender,
            str(client.uri).split("?")[0].rstrip("/"),
            place=client.context if local else None,  # all apps have one address
            journals=journals,
            timeout=timeout,
            max_pending_bytes=max_pending_bytes,
            to_the_end=local,
        )
        super().__init__(store, write_through=batch_size <= 1)
        self._validate = bool(validate)
        if validate:
            warnings.warn(
                "validate=True is deprecated: call client[uid].validate() after the run instead.",
                DeprecationWarning,
                stacklevel=2,
            )
        weakref.finalize(self, store.drop).atexit = False
        _living.add(self)
        if not local:  # an app may be another one than that of the process that is gone
            store.recover_soon()

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

    def _new_backup(self, uid: str) -> Backup | None:
        if self.backup_directory is None and self.backup_dictionary is None:
            return None
        return Backup(uid, self.backup_directory, self.backup_dictionary)

    def _on_stored(self, run: RunJob) -> None:
        if self._validate:
            log_problems(run.uid, cast(Any, self.client)[run.uid], self.ignore_errors)

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


_living: weakref.WeakSet[TiledWriter] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a child process: the runs are the parent's, and so are the thread and its locks."""
    for writer in list(_living):
        writer._routes.clear()
        writer._store.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
