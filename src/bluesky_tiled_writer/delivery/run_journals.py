"""The journals of the runs that a writer takes, and the room for them."""

from __future__ import annotations

import logging

from bluesky_tiled_writer.errors import JournalError
from bluesky_tiled_writer.journal import JournalDirectory, JournalFile, JournalUse

from . import process
from .jobs import Destination
from .settings import Settings

logger = logging.getLogger("bluesky_tiled_writer")


class RunJournals:
    """Gives each run of a writer a journal, if it can have one, and minds the room for them.

    Parameters
    ----------
    directory : JournalDirectory or None
        Where they are; None for no journals.
    settings : Settings
        Of the writer.
    destination : Destination
        The container in Tiled that gets the runs.
    """

    def __init__(
        self, directory: JournalDirectory | None, settings: Settings, destination: Destination
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._destination = destination
        path = None if directory is None else directory.path
        most = settings.journal_max_bytes
        self._space = None if path is None else process.journal_space(path, most)

    def create(self, uid: str) -> tuple[JournalFile | None, JournalError | None]:
        """Create the journal of a run; return it, or why the run has none although it should."""
        if self._directory is None:
            return None, None
        options = self._settings.journal_options()
        try:
            return self._directory.create(uid, self._destination.uri, options), None
        except JournalError as error:
            logger.error(
                "Run %s has no journal, and goes on from memory, which the end of this process"
                " would lose. %s",
                uid,
                error,
            )
            return None, error

    @property
    def use(self) -> JournalUse | None:
        """The room that journals take; None if there are none."""
        return None if self._space is None else self._space.use

    def mind_room(self) -> None:
        """Tell once when the room for journals gets less; this may be called often."""
        if self._space is not None:
            self._space.look()
