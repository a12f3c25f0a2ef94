"""Which run a document belongs to: start documents name it, others refer to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from event_model import bulk_datum_to_datum_page

from bluesky_tiled_writer.errors import (
    DuplicateRun,
    InvalidDocument,
    StorageError,
    UnknownReference,
)
from bluesky_tiled_writer.journal import fingerprint

from .jobs import IgnoredRun
from .resumption import Links, UnknownRuns
from .run_job import RunJob
from .run_manager import RunManager

Run = RunJob | IgnoredRun
Found = TypeVar("Found", Run, list[Run])

MOST_STOPPED = 1000
"""Runs whose stop documents are known when they come again."""

_REFERENCES = ("run_start", "descriptor", "resource")


class Router:
    """Gives each document to the job of the run that it belongs to.

    Parameters
    ----------
    manager : RunManager
        Opens runs, and waits for them.
    """

    def __init__(self, manager: RunManager) -> None:
        self._manager = manager
        self._routes = Routes()
        self._by_descriptor = self._routes.by_descriptor
        self._unknown = UnknownRuns()

    def clear(self) -> None:
        """Forget all runs."""
        self._routes.clear()

    def forget(self, uid: str) -> None:
        """Forget a run that somebody else stores."""
        if uid in self._routes.runs:
            self._routes.forget(uid)
        self._manager.forget(uid)

    def start(self, doc: Any) -> None:
        """Open a run."""
        uid = doc.get("uid")
        if not isinstance(uid, str) or not uid:
            raise InvalidDocument(f"A start document has the uid {uid!r}.", hint="It needs one.")
        if (run := self._routes.runs.get(uid)) is not None:
            if not self._routes.has_start(uid, doc):
                raise DuplicateRun(
                    f"There is another start document for the run {uid!r}, which is still open.",
                    hint="A uid stands for one run: the documents of the first go on being stored.",
                )
            run.take("start", doc)
            return
        run = self._manager.open(uid)
        try:
            run.take("start", doc)
        except Exception:  # of the normalizer, too: without its start there is no run
            if isinstance(run, RunJob):
                self._manager.cancel(run)
            raise
        self._routes.open(uid, run, fingerprint(doc))
        self._unknown.begin()

    def stop(self, doc: Any, *, wait_here: bool = False) -> RunJob | None:
        """Take the stop document of a run, and wait until it is stored; see `wait_stored`.

        Returns
        -------
        RunJob or None
            The job; None for a run that another writer stores, or that is unknown.
        """
        uid = doc.get("run_start")
        if self._routes.has_stopped(uid, doc):
            return None
        run = self._find("stop", doc, self._routes.of_run)
        if run is None:
            if isinstance(uid, str) and uid:
                self._manager.stop_late(doc)
            return None
        try:
            run.take("stop", doc)
        except StorageError:
            self._routes.forget(uid)
            raise
        self._routes.forget(uid, doc)
        if isinstance(run, IgnoredRun):
            return None
        self._manager.wait_stored(run, here=wait_here)
        return run

    def descriptor(self, doc: Any) -> None:
        """Open a stream of a run, or update its configuration."""
        run = self._find("descriptor", doc, self._routes.of_run)
        if run is not None:
            run.take("descriptor", doc)
            self._routes.add_descriptor(doc["uid"], run)

    def event(self, doc: Any) -> None:
        """Take an event."""
        try:
            run = self._by_descriptor[doc["descriptor"]]
        except (KeyError, TypeError):
            self.of_descriptor("event", doc)
        else:
            run.take("event", doc)

    def of_descriptor(self, kind: str, doc: Any) -> None:
        """Take a document that names its descriptor."""
        run = self._find(kind, doc, self._routes.of_descriptor)
        if run is not None:
            run.take(kind, doc)

    def resource(self, kind: str, doc: Any) -> None:
        """Take a resource of any age; one that names no run is for all that are open."""
        for run in self._find(kind, doc, self._routes.add_resource) or ():
            run.take(kind, doc)

    def of_resource(self, kind: str, doc: Any) -> None:
        """Take a datum, or a page of them, which names its resource."""
        for run in self._find(kind, doc, self._routes.of_resource) or ():
            run.take(kind, doc)

    def bulk_events(self, doc: Any) -> None:
        """Take events as they were grouped before there were pages."""
        for events in doc.values():
            for event in events:
                self.event(event)

    def bulk_datum(self, doc: Any) -> None:
        """Take datums as they were grouped before there were pages."""
        self.of_resource("datum_page", bulk_datum_to_datum_page(doc))

    def _find(self, kind: str, doc: Any, find: Callable[[str, Any], Found]) -> Found | None:
        """Return what a document belongs to; None if its run is unknown, which is told once.

        A run that another process has left in its journal is taken up.
        """
        self._manager.check_usable()
        try:
            return find(kind, doc)
        except UnknownReference as error:
            reference = next(doc[field] for field in _REFERENCES if field in doc)
            if reference not in self._unknown:
                resumed = self._manager.resume(reference)
                if resumed is not None:
                    self._routes.resume(*resumed)
                    return find(kind, doc)
            self._unknown.add(kind, doc, reference, error)
            return None


class Routes:
    """The runs that are open, and the documents that lead to each of them.

    Of the start documents of these runs, and of the stop documents of the latest that were stopped,
    it knows the fingerprints: those documents may come again.

    Attributes
    ----------
    runs : dict
        Open runs by uid.
    by_descriptor : dict
        The run of each descriptor, by the descriptor's uid.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.by_descriptor: dict[str, Run] = {}
        self._by_resource: dict[str, list[Run]] = {}
        self._starts: dict[str, bytes | None] = {}
        self._stops: dict[str, bytes | None] = {}

    def open(self, uid: str, run: Run, start: bytes | None) -> None:
        """Route documents to a run, which has the start document of this fingerprint."""
        self.runs[uid] = run
        self._starts[uid] = start
        self._stops.pop(uid, None)

    def has_start(self, uid: str, doc: Any) -> bool:
        """Return True if an open run has this very start document."""
        start = self._starts.get(uid)
        return start is not None and start == fingerprint(doc)

    def has_stopped(self, uid: Any, doc: Any) -> bool:
        """Return True if a run was stopped by this very stop document."""
        stop = self._stops.get(uid) if isinstance(uid, str) else None
        return stop is not None and stop == fingerprint(doc)

    def add_descriptor(self, uid: str, run: Run) -> None:
        """Route events of a descriptor to a run."""
        if self.by_descriptor.get(uid) is not run:
            self.by_descriptor[uid] = run
            run.links.append(uid)

    def add_resource(self, kind: str, doc: Mapping[str, Any]) -> list[Run]:
        """Route datums of a resource to its run; to all that are open, if it names none."""
        runs = [self.of_run(kind, doc)] if doc.get("run_start") else list(self.runs.values())
        uid = doc.get("uid")
        if uid is None or type(uid).__hash__ is None:
            raise InvalidDocument(f"A {kind} document has the uid {uid!r}.", hint="It needs one.")
        self._by_resource[uid] = runs
        for run in runs:
            run.links.append(uid)
        return runs

    def resume(self, run: RunJob, links: Links) -> None:
        """Know a run that was taken up, and the documents that lead to it."""
        self.open(run.uid, run, links.start)
        for uid in links.descriptors:
            self.add_descriptor(uid, run)
        for uid in links.resources:
            self._by_resource[uid] = [run]
            run.links.append(uid)

    def forget(self, uid: str, stop: Any = None) -> None:
        """Forget a run, except for the stop document that has ended it."""
        run = self.runs.pop(uid)
        del self._starts[uid]
        if stop is not None:
            self._stops[uid] = fingerprint(stop)
            if len(self._stops) > MOST_STOPPED:
                del self._stops[next(iter(self._stops))]
        for link in run.links:
            self.by_descriptor.pop(link, None)
            self._by_resource.pop(link, None)

    def clear(self) -> None:
        """Forget all runs."""
        self.runs.clear()
        self._starts.clear()
        self._stops.clear()
        self.by_descriptor.clear()
        self._by_resource.clear()

    def of_run(self, kind: str, doc: Any) -> Run:
        """Return the run that a document names."""
        run: Run = self._follow(self.runs, kind, doc, "run_start")
        return run

    def of_descriptor(self, kind: str, doc: Any) -> Run:
        """Return the run of the descriptor that a document names."""
        run: Run = self._follow(self.by_descriptor, kind, doc, "descriptor")
        return run

    def of_resource(self, kind: str, doc: Any) -> list[Run]:
        """Return the runs of the resource that a document names."""
        runs: list[Run] = self._follow(self._by_resource, kind, doc, "resource")
        return runs

    def _follow(self, known: Mapping[str, Any], kind: str, doc: Any, field: str) -> Any:
        try:
            return known[doc[field]]
        except (KeyError, TypeError):
            pass
        uid = doc.get("uid", doc.get("datum_id")) if isinstance(doc, Mapping) else None
        if not isinstance(doc, Mapping) or field not in doc:
            raise InvalidDocument(
                f"The {kind} document {uid!r} has no {field}.",
                hint="It tells which run the document belongs to.",
            )
        raise UnknownReference(
            f"The {kind} document {uid!r} refers to the {field} {doc[field]!r}, which belongs to"
            " no open run.",
            hint="Subscribe before the run starts; open are"
            f" {', '.join(sorted(self.runs)) or 'none'}.",
        )
