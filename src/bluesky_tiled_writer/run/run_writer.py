"""The documents of one run, into tasks for its delivery."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from event_model import DocumentRouter, RunStart, RunStop

from bluesky_tiled_writer.consolidators import PathMap
from bluesky_tiled_writer.errors import InvalidDocument, UnknownReference
from bluesky_tiled_writer.schema import NOTES_KEY, DeclaredKey, ServerLimits, to_json

from .event_buffer import EventBuffer
from .external import Resource
from .steps import CreateRun, CreateStream, SpecName, UpdateMetadata
from .stream import Stream
from .task_queue import (
    CloseRun,
    DeclareKeys,
    ExecuteStep,
    ExpectKey,
    FinishRun,
    RegisterDatum,
    TaskQueue,
)

RUN_SPEC: SpecName = ("BlueskyRun", "3.0")
STREAM_SPECS: tuple[SpecName, ...] = (
    ("TiledWriterEventStream", "1.0"),
    ("BlueskyEventStream", "3.0"),
    ("composite", None),
)
"""Ours is first, so that our client opens the stream where it is installed."""

READY_BYTES = 16 * 2**20
"""Bytes of rows that a stream collects, unless it is said otherwise, before they are stored."""

_NO_PATH = re.compile(r"[/?#\x00-\x1f\x7f]")
_NOT_STREAM_METADATA = {"name", "object_keys", "run_start"}


class _Incoming:
    """A stream as seen by the thread that has the documents."""

    def __init__(
        self, name: str, stream: Stream, queue: TaskQueue, batch_size: int, ready_bytes: int
    ) -> None:
        self.name = name
        self.stream = stream
        self.buffer = EventBuffer(name, self._on_internal, queue.lock, batch_size, ready_bytes)
        self.config_updates: list[Mapping[str, Any]] = []
        self._queue = queue

    def declare(self, data_keys: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Take the data keys of a descriptor; gives those that are new."""
        new = [
            DeclaredKey.from_data_key(key, data_key)
            for key, data_key in data_keys.items()
            if key not in self.buffer.data_keys
        ]
        if new:
            self.cut()
            for declared in new:
                self.buffer.declare(declared)
            self._queue.add(DeclareKeys(self.stream, new))
        return [declared.key for declared in new]

    def _on_internal(self, declared: DeclaredKey) -> None:
        self.cut()
        self.buffer.expect(declared)
        self._queue.add(ExpectKey(self.stream, declared))

    def cut(self) -> None:
        """Have the rows so far stored before what follows."""
        self._queue.cut(self.stream, self.buffer)


class RunWriter(DocumentRouter):
    """Turns the normalized documents of one run into tasks.

    Parameters
    ----------
    queue : TaskQueue
        Gets the tasks.
    on_ready : callable
        Called when a stream has as many rows as should be stored together, and whenever it has
        as many more.
    limits : ServerLimits
        What the server cannot hold; shared with the sink, which learns it.
    batch_size : int
        Rows that should be stored together.
    max_array_size : int
        Arrays of at most this many elements go to list columns; 0 for none, -1 for all.
    path_map : PathMap, optional
        From where detectors write to where the server reads.
    ready_bytes : int
        Bytes of rows that a stream collects before `on_ready` is called.
    """

    def __init__(
        self,
        queue: TaskQueue,
        on_ready: Callable[[], None],
        *,
        limits: ServerLimits,
        batch_size: int,
        max_array_size: int = 0,
        path_map: PathMap | None = None,
        ready_bytes: int = READY_BYTES,
    ) -> None:
        super().__init__()
        self.notes: list[str] = []
        self._queue = queue
        self._on_ready = on_ready
        self._limits = limits
        self._batch_size = batch_size
        self._ready_bytes = ready_bytes
        self._max_array_size = max_array_size
        self._path_map = path_map or PathMap({})
        self._resources: dict[Any, Resource] = {}
        self._uid = ""
        self._access_tags: Sequence[str] | None = None
        self._streams: dict[str, _Incoming] = {}
        self._by_descriptor: dict[str, _Incoming] = {}

    @property
    def started(self) -> bool:
        """Whether there was a start document."""
        return bool(self._uid)

    @property
    def num_events(self) -> dict[str, int]:
        """Rows of each stream that came so far."""
        return {name: incoming.buffer.rows for name, incoming in self._streams.items()}

    def __call__(self, name: str, doc: Any, validate: bool = False) -> tuple[str, Any]:
        """Process a document; events take the short way."""
        if name != "event":
            return super().__call__(name, doc, validate)
        try:
            buffer = self._by_descriptor[doc["descriptor"]].buffer
        except KeyError:
            raise self._unknown_descriptor("event", doc) from None
        if buffer.event(doc):
            self._on_ready()
        return name, doc

    def buffer(self, descriptor: str) -> EventBuffer | None:
        """What takes the events of a descriptor; None if there was no such descriptor."""
        incoming = self._by_descriptor.get(descriptor)
        return None if incoming is None else incoming.buffer

    def start(self, doc: RunStart) -> None:
        """Create the container of the run."""
        start: dict[str, Any] = dict(doc)
        self._uid = _path_segment(start, "start", "uid")
        self._access_tags = start.pop("tiled_access_tags", None)
        specs = [_spec(spec) for spec in start.pop("tiled_specs", None) or ()]
        metadata = {"start": self._plain(start, "start")}
        step = CreateRun(self._uid, metadata, [*specs, RUN_SPEC], self._access_tags)
        self._queue.add(ExecuteStep(step))

    def descriptor(self, doc: Any) -> None:
        """Create the container of a stream, or update the configuration of one that exists."""
        name = _path_segment(doc, "descriptor", "name")
        for field in ("uid", "data_keys"):
            if field not in doc:
                raise InvalidDocument(
                    f"A descriptor document of the stream {name!r} has no {field}.",
                    hint="Its events refer to its uid, and need their data keys declared.",
                )
        if (incoming := self._streams.get(name)) is None:
            self._streams[name] = self._by_descriptor[doc["uid"]] = self._open(name, doc)
            return
        self._by_descriptor[doc["uid"]] = incoming
        if new := incoming.declare(doc["data_keys"]):
            self.notes.append(
                f"Stream {name!r}: a later descriptor ({doc['uid']!r}) added {sorted(new)}."
            )
        update = {"uid": doc["uid"], "time": doc["time"]}
        if configuration := doc.get("configuration"):
            update["configuration"] = configuration
        incoming.config_updates.append(self._plain(update, f"descriptor {name}"))
        values: dict[str, Any] = {"_config_updates": list(incoming.config_updates)}
        if new:
            values["data_keys"] = self._plain(
                {key: declared.data_key for key, declared in incoming.buffer.data_keys.items()},
                f"descriptor {name}.data_keys",
            )
        self._queue.add(ExecuteStep(UpdateMetadata(self._uid, name, values)))

    def _open(self, name: str, doc: Mapping[str, Any]) -> _Incoming:
        stream = Stream(
            self._uid,
            name,
            limits=self._limits,
            max_array_size=self._max_array_size,
            access_tags=self._access_tags,
        )
        incoming = _Incoming(name, stream, self._queue, self._batch_size, self._ready_bytes)
        metadata = {key: value for key, value in doc.items() if key not in _NOT_STREAM_METADATA}
        plain = self._plain(metadata, f"descriptor {name}")
        step = CreateStream(self._uid, name, plain, STREAM_SPECS, self._access_tags)
        self._queue.add(ExecuteStep(step))
        incoming.declare(doc["data_keys"])
        self._queue.open(stream, incoming.buffer)
        return incoming

    def event(self, doc: Any) -> Any:
        """Take one event into its stream."""
        self("event", doc)

    def event_page(self, doc: Any) -> Any:
        """Take a page of events into its stream."""
        if self._incoming("event_page", doc).buffer.event_page(doc):
            self._on_ready()

    def stream_resource(self, doc: Any) -> None:
        """Keep what files there are, until a datum of this run refers to them."""
        doc, original = copy.deepcopy(dict(doc)), None
        if isinstance(uri := doc.get("uri"), str):
            doc["uri"], changed = self._path_map(uri)
            original = uri if changed else None
        self._resources[doc["uid"]] = Resource(doc, original)

    def stream_datum(self, doc: Any) -> None:
        """Take rows that are in files."""
        incoming = self._incoming("stream_datum", doc)
        if (resource := self._resources.get(doc.get("stream_resource"))) is None:
            raise UnknownReference(
                f"stream_datum {doc.get('uid')!r} refers to the stream_resource"
                f" {doc.get('stream_resource')!r}, which run {self._uid!r} does not have.",
                hint="Send a stream_resource before its datums.",
            )
        self._queue.add(RegisterDatum(incoming.stream, resource, copy.deepcopy(dict(doc))))

    def resource(self, doc: Any) -> None:
        """Note external data that cannot be registered: normalizers make something else of them."""
        self.notes.append(
            f"The files of the resource {doc.get('uid')!r} were not registered: a Resource of old"
            " needs a normalizer."
        )

    def stop(self, doc: RunStop) -> None:
        """StoreRows what is left, then the stop document, and close all nodes to subscribers."""
        stop: dict[str, Any] = dict(doc)
        notes = list(stop.pop(NOTES_KEY, None) or ())
        for incoming in self._streams.values():
            incoming.cut()
        plain = self._plain(stop, "stop")
        self._queue.add(FinishRun(self._uid, plain, [*notes, *self.notes]))
        self._queue.add(CloseRun(self._uid))

    def _plain(self, document: Mapping[str, Any], name: str) -> Any:
        plain, notes = to_json(document, name)
        self.notes += notes
        return plain

    def _incoming(self, kind: str, doc: Any) -> _Incoming:
        try:
            return self._by_descriptor[doc["descriptor"]]
        except KeyError:
            raise self._unknown_descriptor(kind, doc) from None

    def _unknown_descriptor(self, kind: str, doc: Any) -> InvalidDocument | UnknownReference:
        if "descriptor" not in doc:
            return InvalidDocument(
                f"{kind} {doc.get('uid')!r} has no descriptor.",
                hint="It needs the uid of the descriptor of its stream.",
            )
        return UnknownReference(
            f"{kind} {doc.get('uid')!r} refers to the descriptor {doc['descriptor']!r},"
            f" which run {self._uid!r} does not have.",
            hint="Send the descriptor of a stream before its events.",
        )


def _path_segment(doc: Mapping[str, Any], kind: str, field: str) -> str:
    """A uid or a name that becomes part of a path in Tiled."""
    value = doc.get(field)
    if isinstance(value, str) and value not in ("", ".", "..") and not _NO_PATH.search(value):
        return value
    raise InvalidDocument(
        f"The {kind} document {doc.get('uid')!r} has the {field} {value!r}, which cannot be part"
        " of a path.",
        hint="It must be text that is not empty, not '.' or '..', and has no slash, question"
        " mark, hash or control character.",
    )


def _spec(spec: Any) -> SpecName:
    """A spec as users give it: a name, or a mapping with a name and a version."""
    if isinstance(spec, str):
        return (spec, None)
    if isinstance(spec, Mapping):
        return (spec["name"], spec.get("version"))
    return (spec.name, spec.version)
