"""Which run a document belongs to, and which runs have not been stopped yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .synthetic_stop import DOCUMENTS_END, interrupted_stop


class RunIndex:
    """Finds the run of each document in a sequence, by what the documents before it said."""

    def __init__(self) -> None:
        self._runs: dict[Any, str] = {}
        self._links: dict[str, list[str]] = {}  # by run, the uids that lead to it

    def run_of(self, name: str, doc: Mapping[str, Any]) -> str | None:
        """Return the uid of the document's run, or None if no document so far tells it."""
        if name == "start":
            return _text(doc.get("uid"))
        if name == "bulk_events":
            events = [event for events in doc.values() for event in events]
            return self.run_of("event", events[0]) if events else None
        if name == "bulk_datum":
            name = "datum_page"
        if name in ("descriptor", "resource", "stream_resource", "stop"):
            run, uid = _text(doc.get("run_start")), _text(doc.get("uid"))
            if run is not None and uid is not None and name != "stop" and uid not in self._runs:
                self._runs[uid] = run
                self._links.setdefault(run, []).append(uid)
            return run
        by = "resource" if name in ("datum", "datum_page") else "descriptor"
        return self._runs.get(_text(doc.get(by)))

    def forget(self, run: str) -> None:
        """Forget a run, of which no more documents come."""
        for uid in self._links.pop(run, ()):
            self._runs.pop(uid, None)


class OpenRuns:
    """The runs that have started and not stopped, and how many events each stream has.

    Iterate over it for their uids.
    """

    def __init__(self) -> None:
        self._events: dict[str, Counter[str]] = {}
        self._streams: dict[Any, tuple[str, str]] = {}  # uid of descriptor: run and stream

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._events))

    def add(self, uid: str, name: str, doc: Mapping[str, Any]) -> None:
        """Count a document of a run."""
        match name:
            case "start":
                self._events[uid] = Counter()
            case "descriptor":
                self._streams[doc["uid"]] = uid, doc["name"]
                self._events[uid][doc["name"]] += 0
            case "event" | "event_page":
                run, stream = self._streams[doc["descriptor"]]
                self._events[run][stream] += 1 if name == "event" else len(doc["seq_num"])
            case "stop":
                self.discard(uid)

    def discard(self, uid: str) -> None:
        """Forget a run, if it is open."""
        self._events.pop(uid, None)

    def stop_document(self, uid: str) -> dict[str, Any]:
        """Return a stop document that closes an open run as interrupted."""
        return interrupted_stop(uid, DOCUMENTS_END, self._events[uid])


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
