"""Recovery: runs whose process is gone are found by their journals, and stored to their end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bluesky_tiled_writer.journal import Header, JournalDirectory, JournalFile

from . import process
from .jobs import Destination
from .run_job import RunJob
from .sender import Sender
from .waiting import is_at_rest

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

    def recover(self, jobs: Callable[[], list[RunJob]], timeout: float | None) -> None:
        """Adopt all journals, and wait until it is known what becomes of their runs.

        Parameters
        ----------
        jobs : callable
            Returns the jobs that there are.
        timeout : float, optional
            Seconds to wait, at most.
        """
        deadline = None if timeout is None else time.monotonic() + timeout

        def wait(until: Callable[[], bool]) -> None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._sender.wait(until, left)

        # Those set aside release their journals in the sender's thread.
        aside = [job for job in jobs() if job.life.error is not None and job.life.has_stop]
        wait(lambda: all(job.finished for job in aside))
        tried: set[Path] = set()
        adopted: set[Path] | None = None
        while adopted or adopted is None:
            adopted = self.search(leave=tried.__contains__)
            tried |= adopted  # and again: of two journals of one run, one waits for the other
            orphans = [job for job in jobs() if job.life.orphan]  # of earlier searches, too
            for job in orphans:
                job.life.hurried = True
            wait(lambda jobs=orphans: all(is_at_rest(job, self._sender) for job in jobs))  # type: ignore[misc]

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
