"""The settings of a writer, as one object that travels to all who need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from event_model import DocumentRouter

from bluesky_tiled_writer.consolidators import PathMap
from bluesky_tiled_writer.journal import Backup, known_options
from bluesky_tiled_writer.normalizer import RunNormalizer
from bluesky_tiled_writer.run import RunSettings
from bluesky_tiled_writer.schema import ServerLimits

from .process import request_size

CONNECTIONS = 8
"""Requests to a server that may be under way at the same time."""


@dataclass(frozen=True)
class Settings:
    """Settings of a writer; `TiledWriter` documents those that users know.

    Parameters
    ----------
    run : RunSettings
        Settings that decide what of a run is stored where.
    connections : int
        Requests on different nodes that may be under way at the same time.
    wait_for_close : bool
        True if `stop` waits until the nodes of the run are closed, too.
    """

    run: RunSettings = field(default_factory=RunSettings)
    normalizer: type[DocumentRouter] | None = RunNormalizer
    patches: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    spec_to_mimetype: Mapping[str, str] = field(default_factory=dict)
    flush_interval: float = 1.0
    timeout: float = 30.0
    max_pending_bytes: int = 64 * 2**20
    backup_directory: str | Path | None = None
    backup_dictionary: MutableMapping[str, Any] | None = None
    journal_max_bytes: int | None = None
    connections: int = CONNECTIONS
    wait_for_close: bool = False

    @property
    def is_live(self) -> bool:
        """True if rows are sent as soon as a connection is free."""
        return self.run.batch_size <= 1

    def on(self, server: str, *, in_process: bool) -> Settings:
        """Return these settings for a server, by the address of its API.

        Parameters
        ----------
        server : str
            The address.
        in_process : bool
            True for an app in this process, perhaps with one connection to its database for all.
        """
        if in_process:
            return replace(self, connections=1, wait_for_close=True)
        return replace(self, run=replace(self.run, limits=ServerLimits(request_size(server))))

    def new_normalizer(self) -> Any:
        """Return a normalizer for one run; None if documents go on as they are."""
        if self.normalizer is None:
            return None
        return self.normalizer(
            patches=dict(self.patches),
            spec_to_mimetype=dict(self.spec_to_mimetype),  # type: ignore[call-arg]
        )

    def new_backup(self, uid: str) -> Backup | None:
        """Return the backup of a run; None if runs are not backed up."""
        if self.backup_directory is None and self.backup_dictionary is None:
            return None
        return Backup(uid, self.backup_directory, self.backup_dictionary)

    def journal_options(self) -> dict[str, Any]:
        """Return what a journal keeps, so that another process stores the run alike."""
        return {
            "max_array_size": self.run.max_array_size,
            "path_map": self.run.path_map.prefixes,
            "spec_to_mimetype": dict(self.spec_to_mimetype),
        }

    def with_journal_options(self, options: Mapping[str, Any]) -> Settings:
        """Return these settings with the options that a journal has kept."""
        known = known_options(options)
        run = self.run
        if "max_array_size" in known:
            run = replace(run, max_array_size=known["max_array_size"])
        if "path_map" in known:
            run = replace(run, path_map=PathMap(known["path_map"]))
        mimetypes = known.get("spec_to_mimetype", self.spec_to_mimetype)
        return replace(self, run=run, spec_to_mimetype=mimetypes)
