"""The pipeline of a run, which may be dropped at any time, and made anew."""

from __future__ import annotations

from bluesky_tiled_writer.run import RunSummary

from .pipeline import Pending, Pipeline
from .run_life import SENDING, RunLife

CHECKED = 1
"""Tasks after which the run is known to be new in Tiled, or compared: its start, and the check."""


class PipelineSlot:
    """Holds the pipeline of a run; what it holds changes under the lock of the run's life.

    Parameters
    ----------
    life : RunLife
        Of the run.
    pipeline : Pipeline, optional
        The first one; None if all documents come from a journal.

    Attributes
    ----------
    current : Pipeline or None
        What the sender delivers from; None if it was dropped.
    live : Pipeline or None
        The same as long as it takes the caller's documents. The caller looks at it once for each.
    """

    def __init__(self, life: RunLife, pipeline: Pipeline | None) -> None:
        self._life = life
        self.current = self.live = pipeline
        self._rows_before = 0
        self._summary = RunSummary()
        self._checked = False

    def drop(self, *, keep_rows: bool) -> None:
        """Take and send no more documents through the pipeline; with the lock held.

        Parameters
        ----------
        keep_rows : bool
            True to count the rows that it has sent, False if they will be counted again.
        """
        dropped = self.current
        self.current = self.live = None
        if dropped is None:
            return
        self._checked |= dropped.progress.tasks > CHECKED
        if keep_rows:
            self._rows_before += dropped.progress.rows
        self._summary = self._summary_of(dropped)
        dropped.clear()

    def drop_rows(self, *, pause: bool = False) -> bool:
        """Drop rows from memory: from now on they are sent from the journal.

        Parameters
        ----------
        pause : bool
            True to send nothing before the stop document.

        Returns
        -------
        bool
            False if there is nothing to send any more.
        """
        with self._life.lock:
            if not self._life.fall_behind():
                return False
            if pause:
                self._life.pause()
            self.drop(keep_rows=False)
            return True

    def renew(self, pipeline: Pipeline) -> Pipeline | None:
        """Deliver from a new pipeline; None if the run was set aside meanwhile."""
        with self._life.lock:
            if self._life.state in SENDING:
                self.current = pipeline
            return self.current

    @property
    def is_checked(self) -> bool:
        """True if Tiled holds nothing of the run that another process has sent."""
        current = self.current
        return self._checked or (current is not None and current.progress.tasks > CHECKED)

    @property
    def rows(self) -> int:
        """Rows that were sent."""
        current = self.current
        return self._rows_before + (0 if current is None else current.progress.rows)

    @property
    def summary(self) -> RunSummary:
        """A summary of the documents: all of them, or those that were sent again so far."""
        current = self.current
        return self._summary if current is None else self._summary_of(current)

    def _summary_of(self, pipeline: Pipeline) -> RunSummary:
        return pipeline.summary if pipeline.started else self._summary

    @property
    def progress(self) -> int:
        """A number that grows with what was sent."""
        current = self.current
        return 0 if current is None else current.progress.tasks + current.progress.detours

    @property
    def pending(self) -> Pending:
        """Rows in memory that are not in Tiled yet."""
        current = self.current
        return Pending() if current is None else current.pending

    @property
    def waiting(self) -> bool:
        """True if there is something to deliver from memory."""
        current = self.current
        return current is not None and current.waiting
