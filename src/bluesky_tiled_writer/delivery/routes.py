"""Which run a document belongs to: start documents name it, others lead there by a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

from bluesky_tiled_writer.errors import InvalidDocument, UnknownReference


class Routed(Protocol):
    """A run, with the uids of other documents that lead to it."""

    links: list[str]


Run = TypeVar("Run", bound=Routed)


class Routes(Generic[Run]):
    """The runs that are open, and what leads to each of them.

    Attributes
    ----------
    runs : dict
        Open runs by uid.
    by_descriptor : dict
        The run of each descriptor's uid.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.by_descriptor: dict[str, Run] = {}
        self._by_resource: dict[str, list[Run]] = {}

    def add_descriptor(self, uid: str, run: Run) -> None:
        """Have events of a descriptor go to a run."""
        self.by_descriptor[uid] = run
        run.links.append(uid)

    def add_resource(self, kind: str, doc: Mapping[str, Any]) -> list[Run]:
        """Have datums of a resource go to its run: to all that are open, if it names none."""
        runs = [self.of_run(kind, doc)] if doc.get("run_start") else list(self.runs.values())
        if "uid" not in doc:
            raise InvalidDocument(f"A {kind} document has no uid.", hint="It needs one.")
        self._by_resource[doc["uid"]] = runs
        for run in runs:
            run.links.append(doc["uid"])
        return runs

    def forget(self, uid: str) -> None:
        """Know nothing more of a run."""
        run = self.runs.pop(uid)
        for link in run.links:
            self.by_descriptor.pop(link, None)
            self._by_resource.pop(link, None)

    def clear(self) -> None:
        """Know nothing more of any run."""
        self.runs.clear()
        self.by_descriptor.clear()
        self._by_resource.clear()

    def of_run(self, kind: str, doc: Any) -> Run:
        """The run that a document names."""
        run: Run = self._follow(self.runs, kind, doc, "run_start")
        return run

    def of_descriptor(self, kind: str, doc: Any) -> Run:
        """The run of the descriptor that a document names."""
        run: Run = self._follow(self.by_descriptor, kind, doc, "descriptor")
        return run

    def of_resource(self, kind: str, doc: Any) -> list[Run]:
        """The runs of the resource that a document names."""
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
                hint="Without it there is no telling which run it belongs to.",
            )
        raise UnknownReference(
            f"The {kind} document {uid!r} refers to the {field} {doc[field]!r}, which belongs to"
            f" no open run.",
            hint="Subscribe before the run starts; open are"
            f" {', '.join(sorted(self.runs)) or 'none'}.",
        )
