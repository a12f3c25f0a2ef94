"""Stores saved documents in Tiled, as if they came from a RunEngine."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tiled.client.base import BaseClient

from bluesky_tiled_writer.checks import RunInTiled, stored_start
from bluesky_tiled_writer.delivery import count_rows
from bluesky_tiled_writer.errors import (
    DocumentError,
    DocumentsIncomplete,
    JournalError,
    OutOfStep,
    ServerUnreachable,
    TiledWriterError,
    UnknownReference,
)
from bluesky_tiled_writer.journal import JournalReader, known_options, try_lock
from bluesky_tiled_writer.run import Known, OpenRuns, RunIndex, is_made
from bluesky_tiled_writer.writer import TiledWriter

from .reports import FileReport, Outcome, RunReport
from .saved_documents import Documents, Format, Pair, SavedDocuments

logger = logging.getLogger("bluesky_tiled_writer")

TIMEOUT = 120.0
"""Seconds to wait for a server that does not answer."""
ATTEMPTS = 3
"""Times that a run is sent from its beginning; each time, Tiled is asked what it has."""

_OF_A_RUN = frozenset({"descriptor", "event", "event_page", "bulk_events", "stream_datum", "stop"})
"""Documents that belong to one run; others may belong to all that are open."""


class Replay:
    """Stores the runs of files in Tiled.

    Replaying a file again sends what is missing, whatever ended the replay before. So the file
    serves as the journal. Memory is bounded.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The container that receives the runs.
    finish : bool
        Close runs that have no stop document as interrupted. The run of a journal is always closed.
    timeout : float
        Seconds to wait for a server that does not answer.
    **options
        Options of `TiledWriter`. Those in the header of a journal take precedence.
    """

    def __init__(
        self,
        client: BaseClient,
        *,
        finish: bool = False,
        timeout: float = TIMEOUT,
        **options: Any,
    ) -> None:
        self._client = client
        self._finish = finish
        self._timeout = timeout
        self._options = options

    def store(
        self,
        saved: Documents,
        on_progress: Callable[[], Any] = lambda: None,
        report: FileReport | None = None,
    ) -> FileReport:
        """Store the runs of a file.

        Parameters
        ----------
        saved : Documents
            The file, or documents from elsewhere.
        on_progress : callable, optional
            Called after each document; ``saved.position`` tells how far a file has been read.
        report : FileReport, optional
            Receives what became of each run, also if an error ends the replay.

        Returns
        -------
        FileReport
            What became of each run.

        Raises
        ------
        JournalError
            If the file is a journal that another process is using.
        ServerUnreachable
            If the server no longer answers.
        """
        report = FileReport() if report is None else report
        finish, options = self._finish, {**self._options, **saved.options}
        with contextlib.ExitStack() as stack:
            if isinstance(saved, SavedDocuments) and saved.format is Format.JOURNAL:
                stack.enter_context(_locked(saved.path))
                options, finish = {**options, **_options_in(saved.path)}, True
            runs: set[str] | None = None
            for attempt in range(1, ATTEMPTS + 1):
                writer = TiledWriter(
                    self._client, journal_directory=None, timeout=self._timeout, **options
                )
                one = _Attempt(self._client, writer, saved, report, runs)
                one.send(on_progress, finish=finish)
                runs = one.out_of_step
                if not runs or attempt == ATTEMPTS:
                    break
                for uid in runs:
                    del report.runs[uid]
        return report


class _Attempt:
    """Sends the documents of a file once.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The container that receives the runs.
    writer : TiledWriter
        Sends the documents; closed at the end.
    saved : Documents
        The file, or documents from elsewhere.
    report : FileReport
        Receives what became of each run.
    only : set of str, optional
        Uids of the runs to send; by default all.
    """

    def __init__(
        self,
        client: BaseClient,
        writer: TiledWriter,
        saved: Documents,
        report: FileReport,
        only: set[str] | None,
    ) -> None:
        self._client = client
        self._writer = writer
        self._saved = saved
        self._report = report
        self._only = only
        self._index = RunIndex()
        self._open = OpenRuns()
        self._failed: dict[str, Exception] = {}
        self._already_stored: set[str] = set()

    @property
    def out_of_step(self) -> set[str]:
        """Uids of the runs that failed in a way that another attempt may overcome."""
        return {
            uid
            for uid, error in self._failed.items()
            if isinstance(error, OutOfStep) and not isinstance(error, DocumentsIncomplete)
        }

    def send(self, on_progress: Callable[[], Any], *, finish: bool) -> None:
        """Send the documents, and if `finish` a stop document to each run that has none.

        Raises
        ------
        ServerUnreachable
            If the server no longer answers.
        """
        patience: float | None = None
        try:
            for name, doc in self._saved:
                self._send(name, doc)
                on_progress()
                if self._saved.one_run and (self._already_stored or self._failed):
                    break  # what follows need not be read
            if finish:
                for uid in self._open:
                    self._send("stop", self._open.stop_document(uid))
            self._flush()
        except BaseException:
            patience = 0.0
            raise
        finally:
            self._writer.close(patience)

    def _send(self, name: str, doc: Any) -> None:
        uid = self._index.run_of(name, doc)
        if self._only is not None and uid not in self._only:
            return
        if name == "start" and uid is not None and uid not in self._report.runs:
            self._begin(uid, doc)
        if uid in self._failed or uid in self._already_stored:
            return
        report = self._report.runs.get(uid or "")
        try:
            self._writer(name, doc)
        except DocumentError as error:
            self._report.refuse(uid, error)
            return
        except Exception as error:
            if report is None:
                raise
            self._fail(report, error)
            return
        if report is None and name in _OF_A_RUN:  # the writer only logs that, once
            text = f"The {name} document {doc.get('uid')!r} belongs to no run of the file."
            self._report.refuse(uid, UnknownReference(text))
        elif report is not None:
            self._open.add(report.uid, name, doc)
            if name == "stop":
                report.outcome = Outcome.STORED

    def _begin(self, uid: str, start: dict[str, Any]) -> None:
        """Add a run to the report, and find out whether Tiled has all of it already."""
        report = self._report.runs[uid] = RunReport(uid)

        def documents() -> Iterator[Pair]:
            index = RunIndex()
            for name, doc in self._saved.quiet():
                if index.run_of(name, doc) == uid:
                    yield name, doc

        self._writer.announce(uid, documents)
        stored, settings = RunInTiled.find(self._client, uid), self._writer.settings
        if _is_stored(stored, start, lambda: count_rows(documents(), settings)):
            report.outcome = Outcome.ALREADY_STORED
            self._already_stored.add(uid)

    def _fail(self, report: RunReport, error: Exception) -> None:
        logger.debug("Run %s", report.uid, exc_info=error)
        expected = isinstance(error, TiledWriterError)
        report.outcome = Outcome.FAILED
        report.reason = str(error) if expected else f"{type(error).__name__}: {error}"
        self._failed[report.uid] = error
        self._open.discard(report.uid)
        if self._writer.status.server_down:
            raise ServerUnreachable(
                f"The server does not answer. Run {report.uid!r} and what follows is not stored.",
                hint="Run the same command again when it does: it sends what is missing.",
            ) from error

    def _flush(self) -> None:
        """Store the rows of the runs that are still open, and report on these runs."""
        open_runs = list(self._open)
        if not open_runs:
            return
        in_time = self._writer.flush()
        set_aside = self._writer.status.set_aside
        for uid in open_runs:
            report = self._report.runs[uid]
            if uid in set_aside or not in_time:
                report.outcome = Outcome.FAILED
                report.reason = set_aside.get(uid, "its rows were not stored in time")
            else:
                report.reason = "it has no stop document; its rows are stored"


def _is_stored(
    stored: RunInTiled | None, start: dict[str, Any], count_rows: Callable[[], Known]
) -> bool:
    """Return True if Tiled has this very run to its end; its rows need not be compared then."""
    if stored is None or (stop := stored.metadata.get("stop")) is None:
        return False
    if stored.metadata.get("start") != stored_start(start):
        return False
    if not is_made(stop):
        return True
    # This package closed the run as interrupted, and the file may have documents that follow.
    known = count_rows()
    return known.stop in (None, stop["uid"]) and known.rows == stop["num_events"]


def _options_in(journal: Path) -> dict[str, Any]:
    """Return the options of the writer that wrote a journal."""
    with JournalReader.open(journal) as reader:
        return known_options(reader.header.options)


@contextlib.contextmanager
def _locked(journal: Path) -> Iterator[None]:
    """Keep other processes from storing the run of a journal at the same time."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(journal.open("rb"))
            free = try_lock(file.fileno())
        except FileNotFoundError:  # the process that used it has just removed it
            free = False
        except OSError:  # the file system has no locks, or none for reading
            free = True
        if not free:
            raise JournalError(
                f"The run of the journal {journal} is being stored by another process.",
                hint="Leave it to that process; `bluesky-tiled-writer status` shows which it is.",
            )
        yield
