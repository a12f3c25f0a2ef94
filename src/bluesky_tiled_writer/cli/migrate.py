"""Moves runs from one catalog to another, many at a time; what Tiled has already is left alone."""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tiled.client.base import BaseClient

from bluesky_tiled_writer.checks import RunInTiled, verify
from bluesky_tiled_writer.delivery import on_signals
from bluesky_tiled_writer.errors import ServerUnreachable, TiledWriterError, mapped_errors
from bluesky_tiled_writer.run import RunIndex

from .replay import TIMEOUT, Replay
from .reports import FileReport, Outcome, RunReport
from .run_filter import RunFilter
from .saved_documents import Documents, Pair
from .sources import Item, RunSource, source_of
from .stored_runs import RUN_METADATA, StoredRun

logger = logging.getLogger("bluesky_tiled_writer")

WORKERS = 4
"""Runs that move at the same time."""

MAX_DIFFERENCES = 10
"""Differences of a run that are kept as text."""

_LEAVE = 10.0
"""Seconds that workers get to end after an interruption."""

_GO_ON = "Run the same command again when both servers answer: it goes on where it was."

Progress = Callable[[float], Any]


class _Interrupted(BaseException):
    """Ends a worker; it is no error of a run."""


@dataclass
class MigrationReport:
    """The report on the runs of a migration.

    Parameters
    ----------
    outcomes : Counter of Outcome
        How many runs had which outcome.
    incomplete : list of RunReport
        The runs that Tiled does not have to their end, and why.
    differences : dict of str to list of str
        By uid, the first ones of what was found to differ; the last text may count more.
    problems : list of str
        What could not be read, in words: files, parts of files, runs.
    verified : int
        How many runs were compared.
    error : TiledWriterError, optional
        Why the migration ended before all runs were tried.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    incomplete: list[RunReport] = field(default_factory=list)
    differences: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    verified: int = 0
    error: TiledWriterError | None = None

    @property
    def complete(self) -> bool:
        """True if Tiled has every run to its end, as far as that was compared."""
        return not (self.incomplete or self.differences or self.problems or self.error)


def migrate(
    source: Any,
    client: BaseClient,
    *,
    since: float | str | datetime | None = None,
    until: float | str | datetime | None = None,
    query: Sequence[str] = (),
    workers: int = WORKERS,
    verify: bool = False,
    finish: bool = False,
    path_map: Mapping[str, str] | None = None,
    access_tags: bool = True,
    timeout: float = TIMEOUT,
    on_progress: Progress = lambda size: None,
    **options: Any,
) -> MigrationReport:
    """Move runs to a container in Tiled. What it has already is left alone.

    Parameters
    ----------
    source : Any
        A container of runs in Tiled; a catalog or a `Broker` of databroker; the path of a file of
        saved documents, or of a directory of these, or several paths; or an iterable of runs. Of
        these each has a method `documents`, or yields ``(name, document)`` whenever it is
        iterated over, as a list does.
    client : tiled.client.base.BaseClient
        The container that gets the runs.
    since, until : float, str or datetime, optional
        Only runs that started then or later; and before. Seconds since 1970, or ISO 8601; times
        without a time zone are local.
    query : sequence of str
        Only runs whose start document meets all of these, such as ``plan_name=count``.
    workers : int
        Runs (or files) that move at the same time.
    verify : bool
        Compare each run with its source afterwards, row by row; also those that were there.
    finish : bool
        Close runs without a stop document as interrupted.
    path_map : mapping of str to str, optional
        As for `TiledWriter`.
    access_tags : bool
        Let runs from Tiled keep their access tags.
    timeout : float
        Seconds to wait for a server that does not answer.
    on_progress : callable
        Called now and then, from any worker, with what was done since the last call: runs, or for
        files bytes.
    **options
        More options of `TiledWriter`.

    Returns
    -------
    MigrationReport
        What became of the runs.

    Raises
    ------
    StorageError
        If the runs of the source cannot be listed.
    ValueError
        If a time or a query cannot be read.
    """
    wanted = RunFilter.of(since, until, query)
    with mapped_errors("the request for the runs of the source"):
        runs = source_of(source, wanted, path_map=path_map, access_tags=access_tags)
    to_tiled = Replay(client, finish=finish, timeout=timeout, path_map=path_map or {}, **options)
    return Migration(runs, client, to_tiled, verify=verify, on_progress=on_progress).run(workers)


class Migration:
    """Moves the items of a source, several at a time.

    Parameters
    ----------
    source : RunSource
        The runs.
    client : tiled.client.base.BaseClient
        The container that gets them.
    to_tiled : Replay
        Stores the runs of one item there.
    verify : bool
        Compare each run afterwards.
    on_progress : callable
        As for `migrate`.
    """

    def __init__(
        self,
        source: RunSource,
        client: BaseClient,
        to_tiled: Replay,
        *,
        verify: bool = False,
        on_progress: Progress = lambda size: None,
    ) -> None:
        self._source = source
        self._client = client
        self._to_tiled = to_tiled
        self._verify = verify
        self._on_progress = on_progress
        self._report = MigrationReport()
        self._items: Iterator[Item] = iter(())
        self._lock = threading.Lock()  # guards the report and the items
        self._end = threading.Event()
        self._interrupted = False

    def run(self, workers: int = WORKERS) -> MigrationReport:
        """Move all items; after an interruption none is begun, and those in hand are left."""
        self._items = iter(self._source)
        threads = [
            threading.Thread(target=self._work, name=f"migrate-{i}", daemon=True)
            for i in range(max(1, workers))
        ]
        for thread in threads:
            thread.start()
        # KeyboardInterrupt would have `Thread.join` of Python 3.11 take a thread for dead.
        with on_signals([signal.SIGINT], self._interrupt):
            for thread in threads:
                while thread.is_alive() and not self._interrupted:
                    thread.join(0.5)  # a signal is handled in between
        if self._interrupted:
            self._end.set()
            for thread in threads:
                thread.join(_LEAVE / len(threads))
            raise KeyboardInterrupt
        return self._report

    def _interrupt(self) -> None:
        self._interrupted = True

    def _work(self) -> None:
        while not self._end.is_set():
            try:
                with self._lock:
                    item = next(self._items, None)
            except Exception as error:  # the source cannot be listed further
                self._stop(error)
                return
            if item is None:
                return
            try:
                self._move(item)
            except _Interrupted:
                return

    def _stop(self, error: Exception) -> None:
        """End the migration, because of a source or a target that does not answer."""
        if not isinstance(error, TiledWriterError):
            logger.debug("Migration", exc_info=error)
            error = TiledWriterError(f"{type(error).__name__}: {error}")
        elif isinstance(error, ServerUnreachable):
            error = ServerUnreachable(error.args[0], hint=_GO_ON)
        with self._lock:
            self._report.error = self._report.error or error
        self._end.set()

    # -- one item -------------------------------------------------------------------------------

    def _move(self, item: Item) -> None:
        report, progress = FileReport(), _ItemProgress(item, self._on_progress)
        problems: list[str] = []
        try:
            documents = item.open(lambda problem: problems.append(str(problem)))

            def on_document() -> None:
                if self._end.is_set():
                    raise _Interrupted
                progress.advance(getattr(documents, "position", 0))

            self._to_tiled.store(documents, on_document, report)
            problems = list(dict.fromkeys(problems))  # a file may be read more than once
            if getattr(documents, "torn", False):
                problems.pop()  # how a file ends that is still being written
            self._add_metadata(documents, report)
            if self._verify:
                self._compare(documents, report)
        except ServerUnreachable as error:
            self._note_failure(item, report, problems, error)
            self._stop(error)
        except Exception as error:
            self._note_failure(item, report, problems, error)
        self._take(item, report, problems)
        progress.finish()

    def _note_failure(
        self, item: Item, report: FileReport, problems: list[str], error: Exception
    ) -> None:
        """Take note of an error that ended an item, if no run of it tells that already."""
        logger.debug("%s", item.name, exc_info=error)
        expected = isinstance(error, TiledWriterError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        unfinished = [run for run in report.runs.values() if run.outcome is Outcome.UNFINISHED]
        for run in unfinished:
            run.outcome, run.reason = Outcome.FAILED, run.reason or reason
        if not unfinished:
            problems.append(f"{item.name}: {reason}")

    def _take(self, item: Item, report: FileReport, problems: Sequence[str]) -> None:
        with self._lock:
            total = self._report
            for run in report.runs.values():
                total.outcomes[run.outcome] += 1
                if not run.complete:
                    total.incomplete.append(run)
            total.problems += problems
            if report.without_run:
                text = f"{report.without_run} documents of no known run: {report.first_without_run}"
                total.problems.append(f"{item.name}: {text}")
            elif not report.runs and not problems and not self._end.is_set():
                total.problems.append(f"{item.name}: there is no run in it.")

    def _add_metadata(self, documents: Documents, report: FileReport) -> None:
        """Add what somebody wrote into the metadata of a run, beside its documents."""
        if not isinstance(documents, StoredRun):
            return
        more = {k: v for k, v in documents.metadata.items() if k not in RUN_METADATA}
        run = report.runs.get(documents.uid)
        if not more or run is None or not run.complete:
            return
        with mapped_errors(f"the request for the metadata of run {documents.uid!r}"):
            stored = self._client[documents.uid]
            missing = {k: v for k, v in more.items() if k not in stored.metadata}
            if missing:
                stored.update_metadata(missing)

    # -- verification ---------------------------------------------------------------------------

    def _compare(self, documents: Documents, report: FileReport) -> None:
        """Compare each run of an item that is stored; in memory are those that are not stopped."""
        index = RunIndex()
        pending: dict[str, list[Pair]] = {uid: [] for uid, r in report.runs.items() if r.complete}
        for name, doc in documents.quiet():
            if self._end.is_set():
                raise _Interrupted
            uid = index.run_of(name, doc)
            for run in [uid] if uid is not None else list(pending):
                if run in pending:
                    pending[run].append((name, doc))
            if name == "stop" and uid in pending:
                self._compare_run(uid, pending.pop(uid))
        for uid, docs in pending.items():
            self._compare_run(uid, docs)

    def _compare_run(self, uid: str, documents: Sequence[Pair]) -> None:
        found = list(map(str, verify(documents, RunInTiled.find(self._client, uid))))
        with self._lock:
            self._report.verified += 1
            if (more := len(found) - MAX_DIFFERENCES) > 0:
                found[MAX_DIFFERENCES:] = [f"{more} more differences"]
            if found:
                self._report.differences[uid] = found


class _ItemProgress:
    """The part of an item that is done, reported now and then."""

    def __init__(self, item: Item, on_progress: Progress) -> None:
        self._size = item.size
        self._on_progress = on_progress
        self._told = 0.0
        self._documents = 0

    def advance(self, position: float) -> None:
        """Take note of one more document; of a file, it was read up to a position."""
        self._documents += 1
        if self._documents % 100 == 0:
            self._tell(position)

    def finish(self) -> None:
        """Tell the rest."""
        self._tell(self._size)

    def _tell(self, done: float) -> None:
        done = min(done, self._size)
        if done > self._told:
            self._on_progress(done - self._told)
            self._told = done
