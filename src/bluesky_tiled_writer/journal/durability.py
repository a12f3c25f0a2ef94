"""Where the documents of a run are kept until Tiled has it: a journal, a backup, or nowhere."""

from __future__ import annotations

import logging
from typing import Any

from bluesky_tiled_writer.errors import JournalError

from .backup import Backup
from .file import JournalFile

logger = logging.getLogger("bluesky_tiled_writer")

NOTE = "note"
"""Kind of journal entry that is no document: a note on the run."""


class DocumentCopies:
    """Keeps the documents of one run, and knows what that is worth.

    Parameters
    ----------
    uid : str
        Uid of the run.
    journal : JournalFile, optional
        Gets every document before anything else.
    journal_failure : JournalError, optional
        Why there is none, if there should be one.
    backup : Backup, optional
        Gets the documents if the run is not stored.
    in_file : bool
        Whether the documents come from a file, which is replayed.

    Attributes
    ----------
    journal : JournalFile or None
        As given.
    journal_failure : JournalError or None
        Why the journal does not get the documents any more.
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
        self._backup = backup
        self._in_file = in_file

    @property
    def journaled(self) -> bool:
        """Whether the journal has every document so far."""
        return self.journal is not None and self.journal_failure is None

    @property
    def can_repeat(self) -> bool:
        """Whether all documents so far can be sent again."""
        return self.journaled or self._in_file

    @property
    def must_tell(self) -> bool:
        """Whether nobody but the caller can be told of a failure."""
        return self._backup is None and not self.journaled

    @property
    def must_vouch(self) -> bool:
        """Whether a call that returns says that the run is in Tiled: there is no other place."""
        return self._backup is None and self.journal is None and self.journal_failure is None

    def keep_for_backup(self, name: str, doc: Any) -> bool:
        """Keep a document that the journal does not get; False if there is no backup, either."""
        if self._backup is not None:
            self._backup.keep(name, doc)
        return self._backup is not None

    def lose_journal(self, error: JournalError) -> None:
        """Take note that the journal gets no documents any more."""
        if self.journal_failure is not None:
            return
        self.journal_failure = error
        logger.error(
            "The journal of run %s cannot be written any more; it goes on from memory, which the"
            " end of this process would lose. %s",
            self._uid,
            error,
        )

    def sync(self) -> None:
        """Have the journal be on the disk, and not only with the operating system."""
        if self.journal is None or self.journal_failure is not None:
            return
        try:
            self.journal.sync()
        except JournalError as error:
            self.lose_journal(error)

    def back_up(self, error: Exception) -> None:
        """Put the documents into the backup, if there is one."""
        if self._backup is None or self._backup.in_use:
            return
        documents = []
        if self.journal is not None:
            with self.journal.documents() as reader:
                documents = [(entry.name, entry.doc) for entry in reader if entry.name != NOTE]
        self._backup.use(error, documents)

    def done(self, *, incomplete: bool) -> None:
        """Delete the journal of a run that is stored; a damaged one is kept elsewhere."""
        if self.journal is None:
            return
        try:
            if not incomplete:
                self.journal.remove()
                return
            kept = self.journal.put_away()
            logger.warning(
                "Run %s is stored, but for what its damaged journal has lost. The journal is kept:"
                " %s",
                self._uid,
                kept,
            )
        except JournalError as error:
            logger.warning("Run %s is stored, but %s", self._uid, error)

    def let_go(self) -> None:
        """Leave the journal to whoever finds it."""
        if self.journal is not None:
            self.journal.close()

    def __str__(self) -> str:
        places = [f"Its documents are in {self.journal.path}."] if self.journal else []
        return " ".join([*places, *(["They are backed up."] if self._backup else [])])
