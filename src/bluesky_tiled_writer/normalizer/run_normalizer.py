"""Documents of any age, into those of today's event model."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain, count, repeat
from typing import Any

from event_model import DocumentNames, DocumentRouter

from bluesky_tiled_writer.errors import DocumentError, InvalidDocument
from bluesky_tiled_writer.schema import NOTES_KEY

from .documents import Document, NamedDocument, items_or_none, own_copy, shallow_copy, text
from .events import (
    EventChanges,
    bulk_datum_page,
    partly_filled,
    unpack_datums,
    unpack_events,
)
from .legacy import LegacyResources
from .upgrade import external_keys, upgrade_descriptor

_KINDS = frozenset(DocumentNames.__members__)

DocumentPatch = Callable[[Document], Document | None]
Subscriber = Callable[[str, Document], Any]


class _Dropped(Exception):
    """A patch has dropped the document, or one that it belongs to."""


class RunNormalizer(DocumentRouter):
    """Brings the documents of one run to the latest schema and passes them on.

    Subclass it to mend the documents of a beamline: override `start`, `descriptor`, `event`, ...,
    call `emit` or the method of the base class, and hand the class to
    ``TiledWriter(client, normalizer=...)``. For smaller mends give `patches`.

    A field of an unexpected kind is passed on as it is. A document is refused only if no
    row can be made of it.

    Parameters
    ----------
    patches : dict of str to callable, optional
        By document name, a function that takes a document of that kind and returns the one to use
        instead. It gets a copy that it may change; of an event, the values are not copied. It may
        return None to drop the document, and with it those that belong to it, such as the events
        of a descriptor; how many is noted. A run needs its start and stop documents.
    spec_to_mimetype : dict of str to str, optional
        MIME types of Resource specs, in addition to the known ones.

    Attributes
    ----------
    patches : dict
        As given.
    notes : list of str
        Changes beyond the schema, for the metadata of the run.
    """

    def __init__(
        self,
        patches: dict[str, DocumentPatch] | None = None,
        spec_to_mimetype: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.patches = patches or {}
        self._legacy = LegacyResources(spec_to_mimetype)
        self.spec_to_mimetype = self._legacy.mimetypes  # to which a subclass may add
        self.notes: list[str] = []
        self._changes: dict[Any, EventChanges] = {}
        self._noted: set[Any] = set()
        self._dropped: Counter[str] = Counter()  # documents, by kind
        self._dropped_uids: set[Any] = set()  # of descriptors and resources
        self._found: deque[NamedDocument] = deque()
        self._renamed_external: dict[str, str] = {}
        self._subscribers: dict[int, tuple[str, Subscriber]] = {}
        self._tokens = count()

    def __call__(self, name: str, doc: Any, validate: bool = False) -> tuple[str, Any]:
        """Process a document.

        Raises
        ------
        InvalidDocument
            If no row can be made of it; the message names document and field.
        """
        kind = _kind(name)
        if kind not in _KINDS:
            raise InvalidDocument(
                f"There is no kind of document called {kind!r}.",
                hint=f"There are {', '.join(sorted(_KINDS))}.",
            )
        if not isinstance(doc, dict | Mapping):
            raise InvalidDocument(
                f"A document of the kind {kind!r} is a {type(doc).__name__}: {str(doc)[:200]}",
                hint="It must be a mapping.",
            )
        try:
            return super().__call__(kind, doc, validate)  # type: ignore[arg-type]
        except _Dropped:
            return kind, doc

    # -- subscribers ----------------------------------------------------------------------------

    def subscribe(self, func: Subscriber, name: str = "all") -> int:
        """Pass normalized documents to a function.

        Parameters
        ----------
        func : callable
            Called as ``func(name, doc)``.
        name : str
            The kind of document that it wants; "all" for every kind. One that wants events only
            gets the rows of event pages, too, one by one.

        Returns
        -------
        int
            A token for `unsubscribe`.
        """
        token = next(self._tokens)
        self._subscribers[token] = (_kind(name), func)
        return token

    def unsubscribe(self, token: int) -> None:
        """Stop passing documents to the function that was given this token."""
        self._subscribers.pop(token, None)

    def emit(self, name: Any, doc: Any) -> None:
        """Pass a normalized document on to the subscribers.

        Raises
        ------
        InvalidDocument
            If a subscriber refuses it.
        """
        kind = _kind(name)
        for wanted, func in list(self._subscribers.values()):
            if wanted in ("all", kind):
                func(kind, doc)
            elif wanted == "event" and kind == "event_page":
                for event in unpack_events(doc):
                    func("event", event)

    # -- documents ------------------------------------------------------------------------------

    def start(self, doc: Any) -> None:
        """Pass on a start document."""
        self.emit("start", self._patched("start", own_copy(doc)))

    def stop(self, doc: Any) -> None:
        """Pass on a stop document, with the notes on this run."""
        doc = self._patched("stop", own_copy(doc))
        documents, notes = self._legacy.late()
        self.notes += notes
        self.notes += (
            f"{number} {kind} documents were dropped by a patch."
            for kind, number in self._dropped.items()
        )
        self._emit_external(documents)
        doc[NOTES_KEY] = list(self.notes)
        self.emit("stop", doc)

    def descriptor(self, doc: Any) -> None:
        """Bring a descriptor up to date: names, types, shapes."""
        doc = self._patched("descriptor", own_copy(doc))
        uid, stream = doc.get("uid", ""), doc.get("name")
        if not isinstance(doc.get("data_keys"), Mapping):
            raise InvalidDocument(
                f"The descriptor {uid!r} of {stream!r} has no data_keys.",
                hint="It needs a dictionary of data keys, perhaps an empty one.",
            )
        if not isinstance(uid, str | int):
            raise InvalidDocument(
                f"The descriptor of {stream!r} has the uid {uid!r}.",
                hint="It needs one that is text: events refer to it.",
            )
        renamed = upgrade_descriptor(doc)
        self.notes += (
            f"Renamed data_key {key!r} to {new!r} in stream {stream}"
            for key, new in renamed.items()
        )
        external = external_keys(doc)
        self._changes[uid] = EventChanges(uid, text(stream), renamed, external)
        self._renamed_external.update((old, new) for old, new in renamed.items() if new in external)
        self.emit("descriptor", doc)

    def event(self, doc: Any) -> Any:
        """Pass on an event: as it is, unless there is something to patch, rename or leave out."""
        if self.leaves_alone(doc.get("descriptor")):
            self.emit("event", doc)
            return
        doc = self._patched("event", shallow_copy(doc))
        changes = self._changes_of(doc)
        references = changes.apply(doc)
        self.emit("event", doc)
        for key, datum_id in references.items():
            self._refer(datum_id, key, changes, doc.get("seq_num"))
        self._emit_external()

    def event_page(self, doc: Any) -> Any:
        """Pass on a page of events, as a page where no event has to be looked at."""
        if "event_page" in self.patches or self._dropped_uids:
            doc = self._patched("event_page", shallow_copy(doc))
        changes = self._changes_of(doc)
        if (
            "event" in self.patches
            or type(self).event is not RunNormalizer.event
            or partly_filled(doc, changes.external)
        ):
            for event in unpack_events(doc):
                with suppress(_Dropped):
                    self.event(event)
            return
        references: Document = {}
        if not changes.none:
            doc = shallow_copy(doc)
            references = changes.apply(doc)
        self.emit("event_page", doc)
        seq_nums = items_or_none(doc.get("seq_num")) or ()
        for key, column in references.items():
            datum_ids = chain(items_or_none(column) or (), repeat(None))  # a row may lack its id
            for seq_num, datum_id in zip(seq_nums, datum_ids, strict=False):
                self._refer(datum_id, key, changes, seq_num)
        self._emit_external()

    def resource(self, doc: Any) -> None:
        """Keep a resource until events refer to its datums."""
        self._emit_external(self._legacy.resource(self._patched("resource", own_copy(doc))))

    def datum(self, doc: Any) -> Any:
        """Keep a datum until events refer to it."""
        self._emit_external(self._legacy.datum(self._patched("datum", self._legacy.marked(doc))))

    def datum_page(self, doc: Any) -> None:
        """Keep the datums of a page, as a page where no datum has to be looked at."""
        doc = self._patched("datum_page", own_copy(doc))
        if "datum" in self.patches or type(self).datum is not RunNormalizer.datum:
            for datum in unpack_datums(doc):
                with suppress(_Dropped):
                    self.datum(datum)
            return
        self._emit_external(self._legacy.datum_page(doc))

    def bulk_events(self, doc: Any) -> None:
        """Pass on events as they were grouped before there were pages."""
        for events in doc.values():
            for event in items_or_none(events) or ():
                self("event", event)

    def bulk_datum(self, doc: Any) -> None:
        """Keep datums as they were grouped before there were pages."""
        self.datum_page(bulk_datum_page(doc))

    def stream_resource(self, doc: Any) -> None:
        """Bring a stream resource up to date."""
        doc = self._legacy.stream_resource(self._patched("stream_resource", own_copy(doc)))
        if isinstance(key := doc["data_key"], str):
            doc["data_key"] = self._renamed_external.get(key, key)
        self.emit("stream_resource", doc)

    def stream_datum(self, doc: Any) -> None:
        """Pass on a stream datum."""
        self.emit("stream_datum", self._patched("stream_datum", own_copy(doc)))

    def leaves_alone(self, descriptor: Any) -> bool:
        """Return True if events of a descriptor need no change, and so need not come here."""
        if not isinstance(descriptor, str | int) or "event" in self.patches:
            return False
        return descriptor in self._changes and self._changes[descriptor].none

    # -- steps ----------------------------------------------------------------------------------

    def _patched(self, kind: str, doc: Document) -> Document:
        """Return the document after its patch, which may change the one it is given.

        Raises
        ------
        _Dropped
            If the patch returns None.
        """
        if self._dropped_uids and self._belongs_to_dropped(doc):
            raise self._drop(kind, doc)
        if kind not in self.patches:
            return doc
        patched = self.patches[kind](doc)
        if patched is None and kind not in ("start", "stop"):
            raise self._drop(kind, doc)
        if not isinstance(patched, Mapping):
            raise InvalidDocument(
                f"The patch of the {kind} document {doc.get('uid', doc.get('datum_id'))!r} returned"
                f" {patched!r}.",
                hint="It must return the document. None drops one, but a run needs start and stop.",
            )
        return dict(patched)

    def _drop(self, kind: str, doc: Document) -> _Dropped:
        self._dropped[kind] += 1
        self._dropped_uids.add(text(doc.get("uid", doc.get("datum_id"))))
        return _Dropped(kind)

    def _belongs_to_dropped(self, doc: Document) -> bool:
        owners = (doc.get(name) for name in ("descriptor", "resource", "stream_resource"))
        return any(isinstance(uid, str) and uid in self._dropped_uids for uid in owners)

    def _changes_of(self, event: Document) -> EventChanges:
        descriptor = event.get("descriptor")
        changes = self._changes.get(descriptor) if isinstance(descriptor, str | int) else None
        return changes or EventChanges(descriptor)

    def _refer(self, datum_id: Any, key: str, changes: EventChanges, seq_num: Any) -> None:
        """Take what an event has in place of external data."""
        stream = changes.stream
        if not isinstance(datum_id, str):
            self._note(
                f"External key {key!r} of stream {stream!r}: values that are neither filled nor the"
                f" id of a datum were not stored (seq_num {seq_num} the first).",
                once=(changes.descriptor, key),
            )
            return
        try:
            self._found += self._legacy.reference(
                datum_id, key, changes.descriptor, stream, seq_num
            )
        except InvalidDocument as error:  # the event itself is stored
            self._note(str(error))

    def _emit_external(self, documents: Iterable[NamedDocument] = ()) -> None:
        """Pass on what old documents turned out to mean; what is wrong with it costs only that.

        If a subscriber fails on one of them, the others are passed on with the next document.
        """
        self._found += documents
        while self._found:
            name, doc = self._found.popleft()
            try:
                self.emit(name, doc)
            except DocumentError as error:
                self._note(str(error))

    def _note(self, note: str, once: Any = None) -> None:
        if once is None or once not in self._noted:
            self._noted.add(once)
            self.notes.append(note)


def _kind(name: Any) -> str:
    """Return the name of a kind of document, which may be given as an enum member."""
    return name if type(name) is str else str(getattr(name, "name", name))
