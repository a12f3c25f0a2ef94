"""Recovery: runs whose process is gone are found by their journals, and stored to their end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bluesky_tiled_writer.journal import Header, JournalDirectory, JournalFile

from . import process
from .jobs import Destination
from .run_job import RunJob
from .sender import Sender

SEARCH_AGAIN = 5.0
"""Seconds until journals are looked for again that belong to runs which have a job now."""


@dataclass(frozen=True)
class Recovery:
    """The outcome for a run that an earlier process had left.

    Parameters
    ----------
    uid : str
        Uid of the run.
    stored : bool
        True if Tiled has it now, from start to stop.
    text : str
        What was done, or why it was not.
    """

    uid: str
    stored: bool
    text: str

    @classmethod
    def of(cls, job: RunJob) -> Recovery:
        """Sum up how far the recovery of a run is."""
        if job.life.error is not None:
            return cls(job.uid, False, str(job.life.error))
        if not job.life.stored and job.obstacle is not None:
            return cls(job.uid, False, f"waits: {job.obstacle}")
        if not job.life.stored:
            return cls(job.uid, False, "not stored yet; it goes on in the background")
        if job.already_stored:
            return cls(job.uid, True, "was stored already")
        if job.interrupted:
            return cls(job.uid, True, "stored, and stopped, which it never was")
        return cls(job.uid, True, "stored")


class OrphanSearch:
    """Adopts the journals of processes that are gone, for all containers of a server.

    Parameters
    ----------
    journals : JournalDirectory
        Where they are.
    destination : Destination
        The container of the writer.
    sender : Sender
        Searches again later for what cannot be adopted now.
    adopt : callable
        Gets each journal, and the container that it names; returns True if its run is recovered
        now, None if it has a job already.
    """

    def __init__(
        self,
        journals: JournalDirectory,
        destination: Destination,
        sender: Sender,
        adopt: Callable[[JournalFile, Destination], bool | None],
    ) -> None:
        self._journals = journals
        self._destination = destination
        self._sender = sender
        self._adopt = adopt
        self._one_at_a_time = threading.Lock()  # a second search must not miss what the first has

    @property
    def is_empty(self) -> bool:
        """True if there is no journal at all."""
        return self._journals.is_empty

    def search(self, leave: Callable[[Path], bool] | None = None) -> set[Path]:
        """Adopt the journals that have no owner.

        Parameters
        ----------
        leave : callable, optional
            Returns True for a journal that is to be left alone; by default those that were tried
            with the same login not long ago.

        Returns
        -------
        set of Path
            The journals that were adopted.
        """
        adopted, later = set(), False
        credentials = self._sender.access.credentials
        leave = leave or (lambda path: process.has_tried(path, credentials))

        def is_wanted(header: Header) -> bool:
            return self._destination.at(header.server) is not None

        with self._one_at_a_time:
            for journal in self._journals.orphans(is_wanted):
                destination = self._destination.at(journal.header.server)
                if destination is None or leave(journal.path):
                    journal.close()
                elif (outcome := self._adopt(journal, destination)) is None:
                    later = True
                elif outcome:
                    adopted.add(journal.path)
                    process.note_try(journal.path, credentials)
        if later:
            self._sender.call_later(SEARCH_AGAIN, self.search)
        return adopted
