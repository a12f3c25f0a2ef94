"""Runs that come in pieces: the first one to a process that is gone, the next one to this one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bluesky_tiled_writer.errors import JournalError, StorageError
from bluesky_tiled_writer.journal import NOTE, JournalFile, fingerprint
from bluesky_tiled_writer.run import AmendStop, Sink
from bluesky_tiled_writer.schema import to_json

from .run_job import RunJob

logger = logging.getLogger("bluesky_tiled_writer")

MOST_REMEMBERED = 10_000
"""References that are remembered as unknown, at most."""

STOPPED_LATE = (
    "The stop document came to a process that had not taken this run: events may be missing."
)
"""Note on a run."""


@dataclass
class Links:
    """References that later documents may make: uids, and the fingerprint of the start document."""

    start: bytes | None = None
    descriptors: list[Any] = field(default_factory=list)
    resources: list[Any] = field(default_factory=list)

    @classmethod
    def in_journal(cls, journal: JournalFile) -> Links | None:
        """Return those that a journal has; None if it has a stop document, or cannot be read."""
        links = cls()
        try:
            with journal.documents() as reader:
                for entry in reader:
                    if entry.name == "stop":
                        return None
                    if entry.name == "start":
                        links.start = fingerprint(entry.doc)
                    elif entry.name == "descriptor":
                        links.descriptors.append(entry.doc.get("uid"))
                    elif entry.name in ("resource", "stream_resource"):
                        links.resources.append(entry.doc.get("uid"))
        except JournalError:
            return None
        return links


def resume(jobs: Iterable[RunJob], reference: Any) -> tuple[RunJob, Links] | None:
    """Take up a run that another process has left, by the uid of any of its documents.

    Returns
    -------
    RunJob and Links, or None
        The run, and what its documents may refer to; None if there is none, or it has its end.
    """
    for job in jobs:
        if (links := _resume(job, reference)) is not None:
            return job, links
    return None


def _resume(job: RunJob, reference: Any) -> Links | None:
    journal = job.copies.journal
    if journal is None or not job.life.orphan or job.life.finished:
        return None
    links = Links.in_journal(journal)
    if links is None or reference not in (job.uid, *links.descriptors, *links.resources):
        return None
    if not job.life.resume():
        return None
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    note = (
        "The process that took this run ended before the run did. Another one has taken it since"
        f" {now}: documents may be missing before."
    )
    with suppress(JournalError):
        journal.append(NOTE, note)
    logger.warning("%s: %s", job.name, note)
    return links


class LateStop:
    """The job of a stop document that comes when its run has been given another one.

    Parameters
    ----------
    stop : mapping
        The stop document.
    sink : Sink
        Stores it.
    """

    progress = 0

    def __init__(self, stop: Mapping[str, Any], sink: Sink) -> None:
        self.obstacle: StorageError | None = None
        self.finished = False
        uid = stop["run_start"]
        self.name = f"The stop document of run {uid}"
        plain, notes = to_json(stop, "stop")
        self._sink = sink
        self._step = AmendStop(uid, plain, [STOPPED_LATE, *notes])

    @property
    def waiting(self) -> bool:
        """True until it is stored."""
        return not self.finished

    def advance(self, rows: bool) -> None:
        """Store it."""
        self._sink.execute(self._step)
        self.finished = True

    def sync(self) -> None:
        """Do nothing: there are no rows to flush."""

    def begin_again(self, error: StorageError) -> None:
        """Do nothing: no request needs to be sent again."""

    def complete(self) -> None:
        """Take note that Tiled has it."""
        self.finished = True

    def set_aside(self, error: Exception) -> None:
        """Give up."""
        logger.error("%s is not stored: %s", self.name, error)
        self.finished = True


class UnknownRuns:
    """References to documents that this process has never seen: logged once for each run.

    A document that refers to an unknown descriptor does not say which run it belongs to. So until
    the next start or stop document all that is unknown is taken to belong to one.
    """

    def __init__(self) -> None:
        self._references: set[str] = set()
        self._told = False

    def __contains__(self, reference: Any) -> bool:
        return repr(reference) in self._references

    def add(self, kind: str, doc: Mapping[str, Any], reference: Any, error: Exception) -> None:
        """Remember that a document refers to nothing that is known; tell if that is news."""
        if len(self._references) >= MOST_REMEMBERED:
            self._references.clear()
        news = reference not in self
        self._references.add(repr(reference))
        if news and not self._told:
            logger.warning("%s What belongs to that run is not stored.", error)
        self._told = kind != "stop"

    def begin(self) -> None:
        """Take note of a run that begins: what is unknown from now on is told again."""
        self._told = False
