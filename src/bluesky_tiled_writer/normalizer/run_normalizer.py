"""Documents of any vintage of the event model, into those of today."""

from __future__ import annotations

import copy
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from event_model import (
    DocumentRouter,
    unpack_datum_page,
    unpack_event_page,
)

from bluesky_tiled_writer.errors import DocumentError, InvalidDocument
from bluesky_tiled_writer.schema import NOTES_KEY

from .legacy import LegacyResources
from .upgrade import (
    EXTERNAL,
    EXTERNAL_ARRAY,
    Document,
    is_whole,
    name_lists,
    partly_filled,
    rename,
    shallow_copy,
    take_out,
    update_data_key,
    validate,
)

DocumentPatch = Callable[[Document], Document]
Subscriber = Callable[[str, Document], Any]

RESERVED_KEYS = re.compile(r"time|seq_num|internal(_\d+)?")
"""Data keys that would be taken for columns or nodes of the layout in Tiled."""


@dataclass(frozen=True)
class _StreamFacts:
    """What the normalizer has to do to the events of one descriptor."""

    stream: str
    renamed: Mapping[str, str]
    external: frozenset[str]

    @property
    def nothing(self) -> bool:
        return not self.renamed and not self.external


class RunNormalizer(DocumentRouter):
    """Brings the documents of one run to the latest schema and passes them on.

    Subclass it to mend the documents of a beamline: override `start`, `descriptor`, `event`, ...,
    call `emit` or the method of the base class, and hand the class to
    ``TiledWriter(client, normalizer=...)``. For smaller mends give `patches`.

    Parameters
    ----------
    patches : dict of str to callable, optional
        By document name, a function that takes a document of that kind and returns the one to use
        instead. It gets a copy that it may change; of an event, the values are not copied.
    spec_to_mimetype : dict of str to str, optional
        MIME types for the specs of old Resource documents, in addition to the known ones.

    Attributes
    ----------
    patches : dict
        As given.
    notes : list of str
        What was changed beyond the schema, for the metadata of the run.
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
        self._facts: dict[str, _StreamFacts] = {}
        self._noted: set[Any] = set()
        self._found: deque[tuple[str, Document]] = deque()
        self._renamed_external: dict[str, str] = {}
        self._subscribers: dict[int, tuple[str, Subscriber]] = {}
        self._for_events: tuple[Subscriber, ...] = ()
        self._untouched: set[str] = set()
        self._tokens = count()
        self._sees_events = type(self).event is not RunNormalizer.event

    def __call__(self, name: str, doc: Any, validate: bool = False) -> tuple[str, Any]:
        """Process a document; events take the short way."""
        if name == "event":
            self.event(doc)
            return name, doc
        return super().__call__(name, doc, validate)

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
        self._subscribers[token] = (str(getattr(name, "name", name)), func)
        self._sort_subscribers()
        return token

    def unsubscribe(self, token: int) -> None:
        """Stop passing documents to the function that was given this token."""
        self._subscribers.pop(token, None)
        self._sort_subscribers()

    def _sort_subscribers(self) -> None:
        wanting = self._subscribers.values()
        self._for_events = tuple(func for name, func in wanting if name in ("all", "event"))

    def emit(self, name: Any, doc: Any) -> None:
        """Pass a normalized document on, once it is valid.

        Raises
        ------
        InvalidDocument
            If a document other than an event breaks the schema of the event model. Events are
            checked against their descriptor by the stream that takes them.
        """
        if name == "event":
            for func in self._for_events:
                func(name, doc)
            return
        kind: str = name if type(name) is str else name.name
        if kind not in ("event", "event_page"):
            validate(kind, doc)
        for wanted, func in list(self._subscribers.values()):
            if wanted in ("all", kind):
                func(kind, doc)
            elif wanted == "event" and kind == "event_page":
                for event in unpack_event_page(doc):
                    func("event", event)

    # -- documents ------------------------------------------------------------------------------

    def start(self, doc: Any) -> None:
        """Pass on a start document."""
        self.emit("start", self._patched("start", doc))

    def stop(self, doc: Any) -> None:
        """Pass on a stop document, with the notes on this run."""
        doc = self._patched("stop", doc)
        documents, notes = self._legacy.late()
        self.notes += notes
        self._emit_external(documents)
        doc[NOTES_KEY] = list(self.notes)
        self.emit("stop", doc)

    def descriptor(self, doc: Any) -> None:
        """Bring a descriptor up to date: names, types, shapes."""
        doc = self._patched("descriptor", doc)
        data_keys = doc.get("data_keys")
        if not isinstance(data_keys, dict):
            raise InvalidDocument(
                f"The descriptor {doc.get('uid')!r} of {doc.get('name')!r} has no data_keys.",
                hint="It needs a dictionary of data keys, perhaps an empty one.",
            )
        renamed = self._rename_reserved(doc)
        for data_key in data_keys.values():
            if "external" in data_key and data_key["external"] is None:
                data_key["external"] = EXTERNAL
            internal_array = data_key.get("dtype") == "array" and "external" not in data_key
            update_data_key(data_key, None if internal_array else EXTERNAL_ARRAY)
        for configuration in (doc.get("configuration") or {}).values():
            for data_key in (configuration.get("data_keys") or {}).values():
                update_data_key(data_key, EXTERNAL_ARRAY)
        for object_name, keys in (doc.get("object_keys") or {}).items():
            for key in keys:
                if key in data_keys:
                    data_keys[key]["object_name"] = object_name
        external = frozenset(key for key, spec in data_keys.items() if "external" in spec)
        uid, stream = doc.get("uid", ""), str(doc.get("name", ""))
        self._facts[uid] = _StreamFacts(stream, renamed, external)
        self._renamed_external.update((old, new) for old, new in renamed.items() if new in external)
        if not renamed and not external:
            self._untouched.add(uid)
        self.emit("descriptor", doc)

    def event(self, doc: Any) -> Any:
        """Pass on an event: as it is, unless there is something to patch, rename or leave out."""
        descriptor = doc.get("descriptor")
        if self.leaves_alone(descriptor):
            self.emit("event", doc)
            return
        patch = self.patches.get("event")
        facts = self._facts.get(descriptor)
        references: Document = {}
        doc = shallow_copy(doc)
        if patch is not None:
            doc = patch(doc)
        if facts is not None and is_whole(doc):
            rename(doc, facts.renamed)
            filled = doc.pop("filled", None) or {}
            references = take_out(doc, {k for k in facts.external if not filled.get(k)})
        self.emit("event", doc)
        if references:
            for key, datum_id in references.items():
                self._refer(datum_id, key, doc, doc.get("seq_num"))
            self._emit_external()

    def event_page(self, doc: Any) -> Any:
        """Pass on a page of events, as a page where no event has to be looked at."""
        facts = self._facts.get(doc.get("descriptor"))
        references: Document = {}
        if patch := self.patches.get("event_page"):
            doc = patch(shallow_copy(doc))
        if (
            "event" in self.patches
            or self._sees_events
            or partly_filled(doc, facts.external if facts else ())
        ):
            for event in unpack_event_page(doc):
                self.event(event)
            return
        if facts is not None and not facts.nothing and is_whole(doc):
            doc = shallow_copy(doc)
            rename(doc, facts.renamed)
            filled = doc.pop("filled", None) or {}
            references = take_out(doc, {k for k in facts.external if not any(filled.get(k) or ())})
        self.emit("event_page", doc)
        for key, datum_ids in references.items():
            for datum_id, seq_num in zip(datum_ids, doc.get("seq_num", ()), strict=False):
                self._refer(datum_id, key, doc, seq_num)
        self._emit_external()

    def resource(self, doc: Any) -> None:
        """Keep a resource until events refer to its datums."""
        self._emit_external(self._legacy.resource(self._patched("resource", doc)))

    def datum(self, doc: Any) -> Any:
        """Keep a datum until events refer to it."""
        doc = self._legacy.marked(doc)
        if patch := self.patches.get("datum"):
            doc = patch(doc)
        self._emit_external(self._legacy.datum(doc))

    def datum_page(self, doc: Any) -> None:
        """Keep the datums of a page, as a page where no datum has to be looked at."""
        doc = self._patched("datum_page", doc)
        if "datum" in self.patches or type(self).datum is not RunNormalizer.datum:
            for datum in unpack_datum_page(doc):
                self.datum(datum)
            return
        self._emit_external(self._legacy.datum_page(doc))

    def stream_resource(self, doc: Any) -> None:
        """Bring a stream resource up to date."""
        doc = self._legacy.stream_resource(self._patched("stream_resource", doc))
        doc["data_key"] = self._renamed_external.get(doc["data_key"], doc["data_key"])
        self.emit("stream_resource", doc)

    def stream_datum(self, doc: Any) -> None:
        """Pass on a stream datum."""
        self.emit("stream_datum", self._patched("stream_datum", doc))

    def leaves_alone(self, descriptor: str) -> bool:
        """Whether there is nothing to patch, rename or leave out in events of a descriptor."""
        return descriptor in self._untouched and "event" not in self.patches

    # -- steps ----------------------------------------------------------------------------------

    def _patched(self, name: str, doc: Any) -> Document:
        doc = copy.deepcopy(dict(doc))
        patch = self.patches.get(name)
        return doc if patch is None else patch(doc)

    def _rename_reserved(self, doc: Document) -> dict[str, str]:
        """Rename data keys that would be taken for something else in Tiled."""
        data_keys: Document = doc["data_keys"]
        stamps = {f"ts_{key}" for key in data_keys}
        renamed: dict[str, str] = {}
        for key in list(data_keys):
            if not RESERVED_KEYS.fullmatch(key) and key not in stamps:
                continue
            new = f"{key}_"
            while new in data_keys or new in stamps:
                new += "_"
            renamed[key] = new
            data_keys[new] = data_keys.pop(key)
            self.notes.append(f"Renamed data_key {key!r} to {new!r} in stream {doc.get('name')}")
        if renamed:
            for keys in name_lists(doc):
                keys[:] = [renamed.get(key, key) for key in keys]
        return renamed

    def _refer(self, datum_id: Any, key: str, event: Document, seq_num: Any) -> None:
        """Take what an event has in place of external data."""
        descriptor = event["descriptor"]
        stream = self._facts[descriptor].stream
        if not isinstance(datum_id, str):
            self._note(
                f"External key {key!r} of stream {stream!r}: values that are neither filled nor the"
                f" id of a datum were not stored (seq_num {seq_num} the first).",
                once=(descriptor, key),
            )
            return
        try:
            self._found += self._legacy.reference(datum_id, key, descriptor, stream, seq_num)
        except InvalidDocument as error:  # the event itself is stored
            self._note(str(error))

    def _emit_external(self, documents: Iterable[tuple[str, Document]] = ()) -> None:
        """Pass on what old documents turned out to mean; what is wrong with it costs only that.

        Should Tiled fail on one of them, those after it are passed on with the next document.
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
