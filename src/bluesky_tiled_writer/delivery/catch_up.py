"""From the journal of a run into its pipeline: after an outage, a crash, or a second thought."""

from __future__ import annotations

import copy
import logging
from collections import deque
from contextlib import suppress
from enum import Enum
from itertools import takewhile
from typing import Any

from bluesky_tiled_writer.errors import DocumentError, JournalError
from bluesky_tiled_writer.journal import NOTE, Damage, JournalFile, JournalReader
from bluesky_tiled_writer.run import PROCESS_ENDED, CheckHeld, ExecuteStep, Known, interrupted_stop

from .pipeline import Pipeline, Settings, count_rows

logger = logging.getLogger("bluesky_tiled_writer")

REPLAY_ROWS = 50_000
REPLAY_BYTES = 16 * 2**20
"""Rows, and bytes of them, that are read from a journal before they are sent."""

MOST_BEYOND = 100_000
"""Documents that are kept in memory when the journal fails while rows come from it, at most."""


class Feed(Enum):
    """Where the documents of a run come from on their way to Tiled."""

    CALLER = "the call that brings them"
    ANEW = "the journal, from its beginning, by a new pipeline"
    JOURNAL = "the journal, from where it was read to"
    NOTHING = "nowhere: the run was set aside, or Tiled has it already"


class CatchUp:
    """Feeds a pipeline with what the journal of a run has beyond what it was fed already.

    Parameters
    ----------
    uid : str
        Uid of the run.
    journal : JournalFile, optional
        Its journal, which may still grow. Without one there never is anything to read.
    settings : Settings
        Of the pipeline.
    orphan : bool
        Whether the journal is all that there will be, since the process is gone that wrote it.
    most_bytes : int
        Bytes of rows that are read before they are sent, at most.

    Attributes
    ----------
    stopped : bool
        Whether the pipeline was fed the stop document.
    interrupted : bool
        Whether that had to be made here, since the journal has none.
    lost : bool
        Whether the journal is damaged so that documents may be missing.
    beyond : deque of (str, dict)
        Documents that came after those in the journal, which had failed by then.
    """

    def __init__(
        self,
        uid: str,
        journal: JournalFile | None,
        settings: Settings,
        *,
        orphan: bool,
        most_bytes: int = REPLAY_BYTES,
    ) -> None:
        self.stopped = False
        self.interrupted = False
        self.lost = False
        self.beyond: deque[tuple[str, Any]] = deque()
        self._must_check = orphan
        self._uid = uid
        self._journal = journal
        self._settings = settings
        self._orphan = orphan
        self._most_bytes = min(REPLAY_BYTES, most_bytes)
        self._read_to = 0
        self._damage: set[Damage] = set()

    @property
    def unread(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.beyond) or self._grown

    @property
    def _file(self) -> JournalFile:
        assert self._journal is not None, "nobody reads where there is nothing"
        return self._journal

    @property
    def _grown(self) -> bool:
        return self._journal is not None and self._read_to < self._journal.size

    def keep_beyond(self, name: str, doc: Any) -> None:
        """Take a document that the journal could not take."""
        self.beyond.append((name, copy.deepcopy(doc)))

    @property
    def overfull(self) -> bool:
        """Whether there are more of these than memory should hold."""
        return len(self.beyond) > MOST_BEYOND

    def rewind(self, *, check: bool) -> None:
        """Begin again with the first document, for a new pipeline.

        Parameters
        ----------
        check : bool
            Whether Tiled may hold rows of this run that are not of this process: what it holds is
            compared with the journal then, which is read to its end for that.
        """
        self._read_to, self.stopped = 0, False
        self._must_check = self._orphan or check

    def read_into(self, pipeline: Pipeline) -> None:
        """Feed a pipeline, and have it deliver.

        Parameters
        ----------
        pipeline : Pipeline
            The same one until `rewind`.

        Raises
        ------
        StorageError
            If something cannot be delivered; call this again.
        JournalError
            If there is no start document in the journal of an orphan.
        """
        pipeline.delivery.deliver()  # what was fed before, but failed
        with self._file.documents() as reader:
            for entry in reader.since(self._read_to):
                self._tell_damage(reader, pipeline)
                self._feed(entry.name, entry.doc, pipeline)
                self._read_to = entry.end
                queue = pipeline.queue
                if queue.rows >= REPLAY_ROWS or queue.nbytes > self._most_bytes:
                    pipeline.delivery.deliver()
            self._tell_damage(reader, pipeline)
            self._read_to = max(self._read_to, reader.size - reader.torn)
        while self.beyond and not self._grown:  # since it was opened, before it failed
            self._feed(*self.beyond.popleft(), pipeline)
        if self._orphan and not pipeline.writer.started:
            raise JournalError(
                f"The journal {self._file.path} has lost its start document.",
                hint="`bluesky-tiled-writer export` gives the documents that it has.",
            )
        if self._orphan and not self.stopped:
            self._stop_for_the_dead(pipeline)
        pipeline.delivery.deliver()

    def _feed(self, name: str, doc: Any, pipeline: Pipeline) -> None:
        if name == NOTE:
            pipeline.writer.notes.append(str(doc))
            return
        try:
            pipeline.feed(name, doc)
        except DocumentError as error:  # whoever sent it was told
            logger.debug("Run %s: %s", self._uid, error)
            return
        except Exception:  # as above, but it was a defect, here or in a normalizer
            logger.exception("Run %s: a %s document was left out", self._uid, name)
            return
        if name == "stop":
            self.stopped = True
        if name == "start" and (self._must_check or self._has_gaps()):
            # What the journal lacks must not be taken for rows that should not be there.
            pipeline.queue.add(ExecuteStep(CheckHeld(self._uid, self._before_damage)))

    # -- damage ---------------------------------------------------------------------------------

    def _tell_damage(self, reader: JournalReader, pipeline: Pipeline) -> None:
        """Say in the log, and in the notes of the run, what cannot be read of the journal."""
        for damage in reader.damage:
            if damage not in self._damage:
                self._damage.add(damage)
                logger.error("Run %s: its journal is damaged: %s", self._uid, damage)
        notes = pipeline.writer.notes
        for damage in reader.gaps:
            self.lost = True
            note = (
                f"The journal of this run was damaged from byte {damage.start} to {damage.end}:"
                " documents may be missing here."
            )
            if note not in notes:
                notes.append(note)

    def _has_gaps(self) -> bool:
        with self._file.documents() as reader:
            for _ in reader.frames():
                pass
            return bool(reader.gaps)

    def _before_damage(self) -> Known:
        """Rows whose row_numbers are sure: beyond a gap, nobody knows them."""
        with self._file.documents() as reader:
            whole = takewhile(lambda _: not reader.gaps, reader)
            return count_rows(((entry.name, entry.doc) for entry in whole), self._settings)

    # -- the end --------------------------------------------------------------------------------

    def _stop_for_the_dead(self, pipeline: Pipeline) -> None:
        """FinishRun a run whose process is gone; the journal gets the stop document, too."""
        stop = interrupted_stop(self._uid, PROCESS_ENDED, pipeline.writer.num_events)
        did = "bluesky-tiled-writer stored what was measured, and this stop document."
        note = f"{PROCESS_ENDED} {did}"
        self.interrupted = True
        for name, doc in ((NOTE, note), ("stop", stop)):
            with suppress(JournalError):  # a later attempt makes another one
                self._file.append(name, doc)
            self._feed(name, doc, pipeline)
        if not self.stopped:  # a normalizer does not know what to do with it, either
            pipeline.writer("stop", stop)
            self.stopped = True
        self._read_to = self._file.size
