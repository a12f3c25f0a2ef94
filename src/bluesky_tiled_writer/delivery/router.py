"""Which run a document belongs to, and what opens and closes one."""

from __future__ import annotations

from typing import Any

from event_model import DocumentNames, DocumentRouter, bulk_datum_to_datum_page

from bluesky_tiled_writer.errors import DuplicateRun, InvalidDocument, StorageError
from bluesky_tiled_writer.journal import Backup

from .routes import Routes
from .run_job import RunJob
from .run_manager import RunManager


class RunDispatcher(DocumentRouter):
    """Gives each document to the run that it belongs to.

    Parameters
    ----------
    store : Store
        Opens runs, and waits for them.
    write_through : bool
        Whether a document is in Tiled when the call returns.
    """

    def __init__(self, store: RunManager, *, write_through: bool) -> None:
        super().__init__()
        self._store = store
        self._take = store.write_through if write_through else RunJob.take
        self._routes: Routes[RunJob] = Routes()
        self._by_descriptor = self._routes.by_descriptor

    def _new_backup(self, uid: str) -> Backup | None:
        """Where the documents of a run go if they cannot be stored."""
        return None

    def _on_stored(self, run: RunJob) -> None:
        """Look at a run that is in Tiled when its stop document returns."""

    def __call__(self, name: str, doc: Any, validate: bool = False) -> tuple[str, Any]:
        """Store a document.

        Parameters
        ----------
        name : str
            Kind of document: start, descriptor, event, event_page, ..., stop.
        doc : dict
            The document; it is not changed, and may change afterwards.
        validate : bool
            Accepted for compatibility with `DocumentRouter`.
        """
        if name == "event":  # the short way: this is what a scan waits for
            try:
                run = self._by_descriptor[doc["descriptor"]]
            except (KeyError, TypeError):
                run = self._run_of_descriptor(name, doc)
            self._take(run, name, doc)
            return name, doc
        if name not in DocumentNames.__members__:
            raise InvalidDocument(
                f"There is no kind of document called {name!r}.",
                hint=f"There are {', '.join(DocumentNames.__members__)}.",
            )
        return super().__call__(name, doc, validate)

    def start(self, doc: Any) -> None:
        """Open a run."""
        uid = doc.get("uid")
        if not isinstance(uid, str) or not uid:
            raise InvalidDocument(f"A start document has the uid {uid!r}.", hint="It needs one.")
        if uid in self._routes.runs:
            raise DuplicateRun(
                f"There is a second start document for the run {uid!r}, which is still open.",
                hint="A uid stands for one run: the documents of the first go on being stored.",
            )
        run = self._store.open(uid, self._new_backup(uid))
        try:
            self._take(run, "start", doc)
        except Exception:  # of the normalizer, too: there is no run without its start
            self._store.cancel(run)
            raise
        self._routes.runs[uid] = run

    def stop(self, doc: Any) -> None:
        """Store what is left of a run, and close it; waits for that, up to `timeout`."""
        uid = doc.get("run_start")
        run = self._run_of("stop", doc)
        try:
            run.take("stop", doc)
        except StorageError:
            self._routes.forget(uid)
            raise
        self._routes.forget(uid)
        self._store.wait_stored(run)
        if run.stored:
            self._on_stored(run)

    def descriptor(self, doc: Any) -> None:
        """Open a stream of a run, or update its configuration."""
        run = self._run_of("descriptor", doc)
        self._take(run, "descriptor", doc)
        self._routes.add_descriptor(doc["uid"], run)

    def event(self, doc: Any) -> Any:
        """Store an event."""
        self("event", doc)

    def event_page(self, doc: Any) -> Any:
        """Store a page of events."""
        self._take(self._run_of_descriptor("event_page", doc), "event_page", doc)

    def bulk_events(self, doc: Any) -> None:
        """Store events as they were grouped before there were pages."""
        for events in doc.values():
            for event in events:
                self("event", event)

    def resource(self, doc: Any) -> None:
        """Take a resource; one that names no run is for all that are open."""
        self._take_resource("resource", doc)

    def stream_resource(self, doc: Any) -> None:
        """Take a stream resource; one that names no run is for all that are open."""
        self._take_resource("stream_resource", doc)

    def _take_resource(self, kind: str, doc: Any) -> None:
        self._store.check_usable()
        for run in self._routes.add_resource(kind, doc):
            self._take(run, kind, doc)

    def datum(self, doc: Any) -> Any:
        """Take a datum."""
        for run in self._runs_of_resource("datum", doc):
            self._take(run, "datum", doc)

    def datum_page(self, doc: Any) -> None:
        """Take a page of datums."""
        for run in self._runs_of_resource("datum_page", doc):
            self._take(run, "datum_page", doc)

    def bulk_datum(self, doc: Any) -> None:
        """Take datums as they were grouped before there were pages."""
        self.datum_page(bulk_datum_to_datum_page(doc))

    def stream_datum(self, doc: Any) -> None:
        """Take a stream datum."""
        self._take(self._run_of_descriptor("stream_datum", doc), "stream_datum", doc)

    # -- which run ------------------------------------------------------------------------------

    def _run_of(self, kind: str, doc: Any) -> RunJob:
        self._store.check_usable()
        return self._routes.of_run(kind, doc)

    def _run_of_descriptor(self, kind: str, doc: Any) -> RunJob:
        self._store.check_usable()
        return self._routes.of_descriptor(kind, doc)

    def _runs_of_resource(self, kind: str, doc: Any) -> list[RunJob]:
        self._store.check_usable()
        return self._routes.of_resource(kind, doc)
