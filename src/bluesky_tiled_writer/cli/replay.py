"""Store saved documents in Tiled, as if they came from the RunEngine now."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from tiled.client.base import BaseClient

from bluesky_tiled_writer.checks import RunInTiled, stored_start
from bluesky_tiled_writer.errors import (
    DocumentError,
    DocumentsIncomplete,
    JournalError,
    OutOfStep,
    ServerUnreachable,
    TiledWriterError,
)
from bluesky_tiled_writer.journal import JournalReader, try_lock
from bluesky_tiled_writer.run import DOCUMENTS_END, interrupted_stop, is_made
from bluesky_tiled_writer.writer import TiledWriter

from .saved_documents import Format, RunIndex, SavedDocuments

logger = logging.getLogger("bluesky_tiled_writer")

TIMEOUT = 120.0
"""Seconds to wait for a server that does not answer."""
ATTEMPTS = 3
"""How often a run is sent from its beginning, leaving out what Tiled holds."""


class Outcome(Enum):
    """What became of a run."""

    STORED = "stored"
    HELD = "already stored"
    UNFINISHED = "not finished"
    FAILED = "failed"


@dataclass
class RunReport:
    """What became of a run.

    Parameters
    ----------
    uid : str
        Uid of the run.
    outcome : Outcome
        Whether Tiled has it.
    text : str
        Why it has not.
    refused : int
        Documents that cannot be stored.
    first_refusal : str
        Why the first of them cannot.
    """

    uid: str
    outcome: Outcome = Outcome.UNFINISHED
    text: str = ""
    refused: int = 0
    first_refusal: str = ""

    def refuse(self, why: Exception) -> None:
        """Take note of a document that cannot be stored."""
        self.refused += 1
        self.first_refusal = self.first_refusal or str(why)

    @property
    def complete(self) -> bool:
        """Whether all of it is in Tiled."""
        return self.outcome in (Outcome.STORED, Outcome.HELD) and not self.refused


@dataclass
class FileReport:
    """What became of the runs in a file.

    Parameters
    ----------
    runs : dict of str to RunReport
        By uid, in the order of the file.
    lost : int
        Documents of no known run.
    first_lost : str
        What is wrong with the first of them.
    """

    runs: dict[str, RunReport] = field(default_factory=dict)
    lost: int = 0
    first_lost: str = ""

    @property
    def complete(self) -> bool:
        """Whether all of it is in Tiled."""
        return not self.lost and all(run.complete for run in self.runs.values())


class Replay:
    """Stores saved documents in Tiled.

    It needs no journal: the file is one. Whatever ends it, replaying the file again sends what is
    missing. Memory is bounded.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The container that gets the runs.
    finish : bool
        Close runs that have no stop document, as interrupted. Those of journals are always closed.
    timeout : float
        Seconds to wait for a server that does not answer.
    **options
        Of `TiledWriter`; of those of a journal, the ones that its header has take precedence.
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

    def file(
        self, saved: SavedDocuments, on_progress: Callable[[], Any] = lambda: None
    ) -> FileReport:
        """Store the runs in a file.

        Parameters
        ----------
        saved : SavedDocuments
            The file.
        on_progress : callable, optional
            Called now and then; ``saved.position`` has moved.

        Raises
        ------
        JournalError
            If it is a journal, and a process is at work on its run.
        ServerUnreachable
            If the server does not answer any more.
        """
        report, finish, options = FileReport(), self._finish, self._options
        with contextlib.ExitStack() as stack:
            if saved.format is Format.JOURNAL:
                stack.enter_context(_owned(saved.path))
                options, finish = {**options, **_options_of(saved.path)}, True
            runs: set[str] | None = None
            for attempt in range(ATTEMPTS):
                one = _Pass(self._client, saved, report, runs, finish, self._timeout, options)
                runs = one.send(on_progress, last=attempt == ATTEMPTS - 1)
                if not runs:
                    break
        return report


class _Pass:
    """Sends the documents of a file once; those of some of its runs, if `only` names them."""

    def __init__(
        self,
        client: BaseClient,
        saved: SavedDocuments,
        report: FileReport,
        only: set[str] | None,
        finish: bool,
        timeout: float,
        options: dict[str, Any],
    ) -> None:
        self._client = client
        self._saved = saved
        self._report = report
        self._only = only
        self._finish = finish
        self._timeout = timeout
        self._writer = TiledWriter(client, journal_directory=None, timeout=timeout, **options)
        self._index = RunIndex()
        self._open: dict[str, Counter[str]] = {}
        self._streams: dict[Any, tuple[str, str]] = {}
        self._failed: dict[str, Exception] = {}
        self._held: set[str] = set()

    def send(self, on_progress: Callable[[], Any], *, last: bool) -> set[str]:
        """Send them; gives the runs that have to be sent again."""
        patience: float | None = None
        try:
            for name, doc in self._saved:
                self._take(name, doc)
                on_progress()
            for run in list(self._open):
                if self._finish:
                    self._take("stop", self._stop_of(run))
            self._settle()
        except BaseException:
            patience = 0.0
            raise
        finally:
            self._writer.close(patience)
        again = set()
        for uid, error in self._failed.items():
            hopeless = last or isinstance(error, DocumentsIncomplete)
            if isinstance(error, OutOfStep) and not hopeless:
                again.add(uid)
                del self._report.runs[uid]
        return again

    def _take(self, name: str, doc: Any) -> None:
        uid = self._index.run_of(name, doc)
        if self._only is not None and uid not in self._only:
            return
        if name == "start" and uid is not None and uid not in self._report.runs:
            self._begin(uid, doc)
        if uid in self._failed or uid in self._held:
            return
        report = self._report.runs.get(uid or "")
        try:
            self._writer(name, doc)
        except DocumentError as error:
            if report is not None:
                report.refuse(error)
            else:
                self._report.lost += 1
                self._report.first_lost = self._report.first_lost or str(error)
            return
        except Exception as error:
            if report is None:
                raise
            self._fail(report, error)
            return
        if report is not None:
            self._account(name, doc, report)

    def _begin(self, uid: str, start: dict[str, Any]) -> None:
        """Look at what Tiled has of a run, and how much of it is in the file, if need be."""
        report = self._report.runs[uid] = RunReport(uid)

        def documents() -> Iterator[tuple[str, Any]]:
            index = RunIndex()
            for name, doc in SavedDocuments(self._saved.path, on_problem=lambda _: None):
                if index.run_of(name, doc) == uid:
                    yield name, doc

        self._writer._announce(uid, documents)
        if self._is_held(uid, start, documents):
            report.outcome = Outcome.HELD
            self._held.add(uid)

    def _is_held(
        self, uid: str, start: dict[str, Any], documents: Callable[[], Iterator[tuple[str, Any]]]
    ) -> bool:
        """Whether Tiled has this very run to its end: then nobody needs to look at its rows."""
        stored = RunInTiled.find(self._client, uid)
        if stored is None or (stop := stored.metadata.get("stop")) is None:
            return False
        if stored.metadata.get("start") != stored_start(start):
            return False
        if not is_made(stop):
            return True
        # It was closed without its last documents, which the file may have.
        known = self._writer._count(documents)
        return known.stop in (None, stop["uid"]) and known.rows == stop["num_events"]

    def _account(self, name: str, doc: Any, report: RunReport) -> None:
        """Follow what there is of a run: a stop document may have to say it."""
        match name:
            case "start":
                self._open[report.uid] = Counter()
            case "descriptor":
                self._streams[doc["uid"]] = report.uid, doc["name"]
                self._open[report.uid][doc["name"]] += 0
            case "event" | "event_page":
                uid, stream = self._streams[doc["descriptor"]]
                self._open[uid][stream] += 1 if name == "event" else len(doc["seq_num"])
            case "stop":
                self._open.pop(report.uid, None)
                report.outcome = Outcome.STORED

    def _fail(self, report: RunReport, error: Exception) -> None:
        logger.debug("Run %s", report.uid, exc_info=error)
        known = isinstance(error, TiledWriterError)
        report.outcome = Outcome.FAILED
        report.text = str(error) if known else f"{type(error).__name__}: {error}"
        self._failed[report.uid] = error
        self._open.pop(report.uid, None)
        if self._writer.status.server_down:
            raise ServerUnreachable(
                f"The server does not answer: run {report.uid!r} and what follows is not stored.",
                hint="Run the same command again when it does: it sends what is missing.",
            ) from error

    def _stop_of(self, uid: str) -> dict[str, Any]:
        return interrupted_stop(uid, DOCUMENTS_END, self._open[uid])

    def _settle(self) -> None:
        """Have the rows of runs stored that go on somewhere else, or will never end."""
        if not self._open:
            return
        done = self._writer.flush(self._timeout)
        aside = self._writer.status.set_aside
        for uid in self._open:
            report = self._report.runs[uid]
            if uid in aside or not done:
                report.outcome = Outcome.FAILED
                report.text = aside.get(uid, "its rows were not stored in time")
            else:
                report.text = "it has no stop document; its rows are stored"


def _options_of(journal: Path) -> dict[str, Any]:
    """The options of the writer that wrote a journal, as far as Tiled shows them."""
    with JournalReader.open(journal) as reader:
        options = reader.header.options
    known = ("max_array_size", "path_map", "spec_to_mimetype")
    return {name: options[name] for name in known if name in options}


@contextlib.contextmanager
def _owned(journal: Path) -> Iterator[None]:
    """Keep others from storing the run of a journal meanwhile."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(journal.open("rb"))
            free = try_lock(file.fileno())
        except FileNotFoundError:  # its process was just finished with it
            free = False
        except OSError:  # no locks there, or none for reading
            free = True
        if not free:
            raise JournalError(
                f"The run of the journal {journal} is being stored by the process that has it.",
                hint="It is done when that process is: `bluesky-tiled-writer status`.",
            )
        yield
