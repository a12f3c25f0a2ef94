"""Catching up: the documents of a run come from its journal, not from the caller."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from itertools import takewhile
from typing import Any

from bluesky_tiled_writer.errors import DocumentError, JournalError
from bluesky_tiled_writer.journal import NOTE, Damage, JournalFile, JournalReader
from bluesky_tiled_writer.run import PROCESS_ENDED, WRITER_GONE, Known, interrupted_stop

from .pipeline import Pipeline, count_rows
from .run_life import RunLife
from .settings import Settings

logger = logging.getLogger("bluesky_tiled_writer")

REPLAY_ROWS = 50_000
REPLAY_BYTES = 16 * 2**20
"""Rows, and bytes of them, that are read from a journal before they are sent."""


RESUMED_WITHIN = 10.0
RECENT = 60.0
"""Seconds for which a run without a stop document waits for somebody to take it up, if its last
document is not older than `RECENT`."""


class CatchUp:
    """Reads a run from its journal into a pipeline: after an outage, a crash or a restart.

    Parameters
    ----------
    uid : str
        Uid of the run.
    journal : JournalFile, optional
        Its journal, which may still grow. Without one there is nothing to read.
    settings : Settings
        Of the writer.
    life : RunLife
        Of the run. The journal of an orphan does not grow.

    Attributes
    ----------
    interrupted : bool
        True if the journal has no stop document, and one had to be made.
    lost : bool
        True if the journal is damaged, so that documents may be missing.
    """

    def __init__(
        self, uid: str, journal: JournalFile | None, settings: Settings, life: RunLife
    ) -> None:
        self.interrupted = False
        self.lost = False
        self._must_check = life.orphan
        self._uid = uid
        self._journal = journal
        self._settings = settings
        self._life = life
        self._end_at = 0.0
        if journal is not None and life.orphan and time.time() - journal.last_write < RECENT:
            self._end_at = time.monotonic() + RESUMED_WITHIN
        self._most_bytes = min(REPLAY_BYTES, settings.max_pending_bytes)
        self._read_to = 0
        self._stopped = False
        self._damage: set[Damage] = set()

    @property
    def unread(self) -> bool:
        """True if there is something to read."""
        return self._journal is not None and self._read_to < self._journal.size

    @property
    def _file(self) -> JournalFile:
        assert self._journal is not None, "there is no journal to read"
        return self._journal

    def rewind(self, *, check: bool) -> None:
        """Begin again with the first document, for a new pipeline.

        Parameters
        ----------
        check : bool
            True if Tiled may hold rows of this run that another process sent: the journal is then
            read to its end first, and compared with what Tiled holds.
        """
        self._read_to, self._stopped = 0, False
        self._must_check = self._life.orphan or check

    def read_into(self, pipeline: Pipeline) -> None:
        """Feed a pipeline with the journal, and deliver.

        Parameters
        ----------
        pipeline : Pipeline
            The same one until `rewind`.

        Raises
        ------
        StorageError
            If something cannot be delivered; call this again.
        JournalError
            If the journal of an orphan has no start document.
        """
        pipeline.deliver()  # what was read before, but failed
        with self._file.documents() as reader:
            for entry in reader.since(self._read_to):
                self._tell_damage(reader, pipeline)
                self._feed(entry.name, entry.doc, pipeline)
                self._read_to = entry.end
                pending = pipeline.pending
                if pending.rows >= REPLAY_ROWS or pending.nbytes > self._most_bytes:
                    pipeline.deliver()
            self._tell_damage(reader, pipeline)
            self._read_to = max(self._read_to, reader.size - reader.torn)
        if self._life.orphan and not pipeline.started:
            raise JournalError(
                f"The journal {self._file.path} has lost its start document.",
                hint="`bluesky-tiled-writer export` gives the documents that it has.",
            )
        if self._is_at_its_end and self._life.end_orphan():
            self._stop_for_the_dead(pipeline)
        pipeline.deliver()

    @property
    def _is_at_its_end(self) -> bool:
        if self._stopped or not self._life.orphan:
            return False
        return self._life.hurried or time.monotonic() >= self._end_at

    def _feed(self, name: str, doc: Any, pipeline: Pipeline) -> None:
        if name == NOTE:
            pipeline.note(str(doc))
            return
        begins = name == "start" and not pipeline.started
        try:
            pipeline.feed(name, doc)
        except DocumentError as error:  # the caller was told
            logger.debug("Run %s: %s", self._uid, error)
            return
        except Exception:  # the same, but it was a defect, here or in a normalizer
            logger.exception("Run %s: a %s document was left out", self._uid, name)
            return
        if name == "stop":
            self._stopped = True
        if begins and (self._must_check or self._has_gaps()):
            # Documents that the journal lost must not be taken for rows that Tiled should not hold.
            pipeline.check_held(self._uid, self._before_damage)

    # -- damage ---------------------------------------------------------------------------------

    def _tell_damage(self, reader: JournalReader, pipeline: Pipeline) -> None:
        """Log what cannot be read of the journal, and note it on the run."""
        for damage in reader.damage:
            if damage not in self._damage:
                self._damage.add(damage)
                logger.error("Run %s: its journal is damaged: %s", self._uid, damage)
        for damage in reader.gaps:
            self.lost = True
            pipeline.note(
                f"The journal of this run was damaged from byte {damage.start} to {damage.end}:"
                " documents may be missing here."
            )

    def _has_gaps(self) -> bool:
        with self._file.documents() as reader:
            for _ in reader.frames():
                pass
            return bool(reader.gaps)

    def _before_damage(self) -> Known:
        """Count the rows before the first gap: the row numbers beyond it are unknown."""
        with self._file.documents() as reader:
            whole = takewhile(lambda _: not reader.gaps, reader)
            return count_rows(((entry.name, entry.doc) for entry in whole), self._settings)

    # -- the end --------------------------------------------------------------------------------

    def _stop_for_the_dead(self, pipeline: Pipeline) -> None:
        """Stop a run whose owner is gone; the journal gets the stop document, too."""
        reason = WRITER_GONE if self._file.header.process_lives else PROCESS_ENDED
        stop = interrupted_stop(self._uid, reason, pipeline.num_events)
        did = "bluesky-tiled-writer stored what was measured, and this stop document."
        note = f"{reason} {did}"
        self.interrupted = True
        for name, doc in ((NOTE, note), ("stop", stop)):
            with suppress(JournalError):  # a later attempt makes another one
                self._file.append(name, doc)
            self._feed(name, doc, pipeline)
        if not self._stopped:  # the normalizer fails on it, too
            pipeline.stop_past_normalizer(stop)
            self._stopped = True
        self._read_to = self._file.size
