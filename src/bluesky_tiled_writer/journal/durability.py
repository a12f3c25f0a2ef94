"""Copies of a run's documents outside of Tiled: in a journal, in a backup, or none."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

from bluesky_tiled_writer.errors import JournalError

from .backup import Backup
from .file import JournalFile
from .format import NOTE

logger = logging.getLogger("bluesky_tiled_writer")


class DocumentCopies:
    """The copies of one run's documents, and what they allow the writer to promise.

    Parameters
    ----------
    uid : str
        Uid of the run.
    journal : JournalFile, optional
        Receives every document before it is processed.
    journal_failure : JournalError, optional
        Why the run has no journal although it should have one.
    backup : Backup, optional
        Receives the documents if the run cannot be stored.
    in_file : bool
        True if the documents are being replayed from a file.

    Attributes
    ----------
    journal : JournalFile or None
        The journal, also after it has failed.
    journal_failure : JournalError or None
        Why the journal receives no more documents.
    """

    def __init__(
        self,
        uid: str,
        journal: JournalFile | None = None,
        journal_failure: JournalError | None = None,
        backup: Backup | None = None,
        *,
        in_file: bool = False,
    ) -> None:
        self.journal = journal
        self.journal_failure = journal_failure
        self._uid = uid
        self._token = uuid4().hex
        self._backup = backup
        self._in_file = in_file

    @property
    def token(self) -> str:
        """Identifies these copies: the next process that owns the journal has the same one."""
        return self._token if self.journal is None else self.journal.token

    @property
    def journaled(self) -> bool:
        """True if the journal has every document so far."""
        return self.journal is not None and self.journal_failure is None

    @property
    def can_repeat(self) -> bool:
        """True if all documents so far can be sent again."""
        return self.journaled or self._in_file

    @property
    def must_tell_caller(self) -> bool:
        """True if a failure has to be raised to the caller, since no other copy is complete."""
        return self._backup is None and not self.journaled

    @property
    def only_caller_knows(self) -> bool:
        """True if there never was a copy: a call may return only when Tiled has its document."""
        return self._backup is None and self.journal is None and self.journal_failure is None

    def copy_for_backup(self, name: str, doc: Any) -> bool:
        """Hand a document that the journal lacks to the backup; return False if there is none."""
        if self._backup is not None:
            self._backup.keep(name, doc)
        return self._backup is not None

    def lose_journal(self, error: JournalError) -> bool:
        """Stop relying on the journal, which could not be written; return True if that is news."""
        news = self.journal_failure is None
        if news:
            self.journal_failure = error
        return news

    def log_lost_journal(self, error: JournalError) -> None:
        """Log that the run goes on without its journal."""
        logger.error(
            "The journal of run %s can no longer be written. What comes now goes on from memory,"
            " and is lost if this process ends before Tiled has it. %s",
            self._uid,
            error,
        )

    def sync(self) -> None:
        """Flush the journal to disk; if that fails, go on without it."""
        if self.journal is None or self.journal_failure is not None:
            return
        try:
            self.journal.sync()
        except JournalError as error:
            if self.lose_journal(error):
                self.log_lost_journal(error)

    def back_up(self, error: Exception) -> None:
        """Write all documents to the backup, if there is one and it has not been written yet."""
        if self._backup is None or self._backup.in_use:
            return
        documents = []
        if self.journal is not None:
            with self.journal.documents() as reader:
                documents = [(entry.name, entry.doc) for entry in reader if entry.name != NOTE]
        self._backup.use(error, documents)

    def remove(self, *, incomplete: bool) -> None:
        """Delete the journal of a run that Tiled has stored.

        Parameters
        ----------
        incomplete : bool
            True if the journal is damaged and Tiled lacks what was lost. The file is then kept
            under another name.
        """
        if self.journal is None:
            return
        try:
            if not incomplete:
                self.journal.remove()
                return
            kept = self.journal.put_away()
            logger.warning(
                "Run %s is stored, except for what was lost when its journal was damaged. The"
                " journal is kept as %s",
                self._uid,
                kept,
            )
        except JournalError as error:
            logger.warning("Run %s is stored, but its journal is still there. %s", self._uid, error)

    def release(self) -> None:
        """Close the journal but leave the file, for the next writer that looks for it."""
        if self.journal is not None:
            self.journal.close()

    def __str__(self) -> str:
        places = [f"Its documents are in {self.journal.path}."] if self.journal else []
        return " ".join([*places, *(["They are backed up."] if self._backup else [])])
