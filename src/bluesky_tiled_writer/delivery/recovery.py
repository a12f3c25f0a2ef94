"""Runs whose process is gone: found by their journals, and stored to their end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bluesky_tiled_writer.consolidators import PathMap
from bluesky_tiled_writer.journal import JournalDirectory, JournalFile

from .pipeline import Settings
from .run_job import RunJob


@dataclass(frozen=True)
class Recovery:
    """What became of a run that an earlier process had left.

    Parameters
    ----------
    uid : str
        Uid of the run.
    stored : bool
        Whether Tiled has it now, from start to stop.
    text : str
        What was done, or why it was not.
    """

    uid: str
    stored: bool
    text: str

    @classmethod
    def of(cls, run: RunJob) -> Recovery:
        """Sum up how far the recovery of a run is."""
        if run.error is not None:
            return cls(run.uid, False, str(run.error))
        if not run.stored:
            return cls(run.uid, False, "not stored yet; it goes on in the background")
        if run.already_stored:
            return cls(run.uid, True, "was stored already")
        if run.interrupted:
            return cls(run.uid, True, "stored, and stopped, which it never was")
        return cls(run.uid, True, "stored")


def options_of(settings: Settings) -> dict[str, Any]:
    """What a journal says of the settings, so that another process stores the run alike."""
    return {
        "max_array_size": settings.max_array_size,
        "path_map": settings.path_map.prefixes,
        "spec_to_mimetype": dict(settings.spec_to_mimetype),
    }


def settings_for(settings: Settings, journal: JournalFile) -> Settings:
    """The settings of a writer, but for what the journal of a run says."""
    known = options_of(settings).keys()
    options = {key: value for key, value in journal.header.options.items() if key in known}
    if "path_map" in options:
        options["path_map"] = PathMap(options["path_map"])
    return replace(settings, **options)


class OrphanSearch:
    """A job for the sender: look for journals that nobody owns, once.

    Parameters
    ----------
    directory : JournalDirectory
        Where to look.
    server : str
        Whose runs.
    adopt : callable
        Gets each journal that was found.
    """

    def __init__(
        self, directory: JournalDirectory, server: str, adopt: Callable[[JournalFile], Any]
    ) -> None:
        self.over = False
        self.waiting = True
        self.progress = 0
        self._directory = directory
        self._server = server
        self._adopt = adopt

    def advance(self, rows: bool) -> None:
        """Look for them."""
        try:
            for journal in self._directory.orphans(self._server):
                self._adopt(journal)
        finally:
            self.over, self.waiting = True, False

    def sync(self) -> None:
        """Nothing of this job is on the disk."""

    def begin_again(self, error: Exception) -> None:
        """Nothing of this job can be sent twice."""

    def complete(self) -> None:
        """Nor is it ever complete before."""

    def set_aside(self, error: Exception) -> None:
        """What cannot be found now is found by the next process."""
