"""The documents of one run, into tasks for its delivery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from event_model import DocumentRouter

from bluesky_tiled_writer.errors import InvalidDocument, UnknownReference
from bluesky_tiled_writer.schema import NOTES_KEY, DeclaredKey, Names, is_addressable, to_json

from .document_fields import (
    mapping,
    own_copy,
    read_access_tags,
    read_data_key,
    read_range,
    read_specs,
    reference,
    run_uid,
    stream_name,
    text_name,
)
from .event_buffer import EventBuffer
from .external import Resource
from .settings import RunSettings
from .steps import Claim, CreateRun, CreateStream, SpecName, UpdateMetadata
from .stream import Stream
from .task_queue import CloseRun, DeclareKeys, ExecuteStep, FinishRun, RegisterDatum, TaskQueue

RUN_SPEC: SpecName = ("BlueskyRun", "3.0")
STREAM_SPECS: tuple[SpecName, ...] = (
    ("TiledWriterEventStream", "1.0"),
    ("BlueskyEventStream", "3.0"),
    ("composite", None),
)
"""Ours is first, so that our client opens the stream where it is installed."""

_NOT_STREAM_METADATA = {"name", "object_keys", "run_start"}


@dataclass(frozen=True)
class RunSummary:
    """A summary of the documents of a run, for people.

    Parameters
    ----------
    scan_id, plan_name : Any
        As in the start document, where anything may stand; None if there is none.
    streams : mapping of str to int
        Rows that came so far, by stream.
    """

    scan_id: Any = None
    plan_name: Any = None
    streams: Mapping[str, int] = field(default_factory=dict)


class _OpenStream:
    """A stream as the thread that has the documents sees it."""

    def __init__(self, stream: Stream, buffer: EventBuffer) -> None:
        self.stream = stream
        self.buffer = buffer
        self.config_updates: list[Mapping[str, Any]] = []


class RunWriter(DocumentRouter):
    """Turns the normalized documents of one run into tasks.

    Parameters
    ----------
    queue : TaskQueue
        Gets the tasks.
    settings : RunSettings
        Of the run.
    claim : Claim, optional
        What entitles this process to write the run.

    Attributes
    ----------
    notes : list of str
        What was not stored as it came; they become metadata of the run.
    """

    def __init__(self, queue: TaskQueue, settings: RunSettings, claim: Claim | None = None) -> None:
        super().__init__()
        self.notes: list[str] = []
        self._queue = queue
        self._settings = settings
        self._claim = claim
        self._resources: dict[Any, Resource] = {}
        self._uid = ""
        self._names: tuple[Any, Any] = (None, None)
        self._access_tags: Sequence[str] | None = None
        self._streams: dict[str, _OpenStream] = {}
        self._stream_names: dict[str, str] = {}  # those in Tiled, by those of the documents
        self._by_descriptor: dict[Any, _OpenStream] = {}
        self._ready = False

    @property
    def started(self) -> bool:
        """True once there was a start document."""
        return bool(self._uid)

    @property
    def uid(self) -> str:
        """Uid of the run; empty before its start document."""
        return self._uid

    @property
    def num_events(self) -> dict[str, int]:
        """Rows that came so far, by stream."""
        streams = list(self._streams.items())  # at once: another thread may open one
        return {name: open_stream.buffer.rows for name, open_stream in streams}

    @property
    def summary(self) -> RunSummary:
        """A summary of the documents so far, for people."""
        return RunSummary(*self._names, self.num_events)

    def take_ready(self) -> bool:
        """Return True if, since the last call, a stream got enough rows to be stored together.

        Events that were given to a `buffer` directly do not count: `EventBuffer.event` says so.
        """
        ready, self._ready = self._ready, False
        return ready

    def buffer(self, descriptor: Any) -> EventBuffer | None:
        """Return what takes the events of a descriptor; None if there was no such descriptor."""
        open_stream = self._by_descriptor.get(descriptor)
        return None if open_stream is None else open_stream.buffer

    # -- run and streams ------------------------------------------------------------------------

    def start(self, doc: Any) -> None:
        """Create the container of the run.

        Raises
        ------
        InvalidDocument
            If its uid cannot be part of a path.
        """
        start = dict(mapping("start", doc))
        uid = run_uid(start)
        specs, about_specs = read_specs(start.pop("tiled_specs", None))
        self._access_tags, about_tags = read_access_tags(start.pop("tiled_access_tags", None))
        self.notes += about_specs + about_tags
        metadata = {"start": self._plain(start, "start")}
        specs = [spec for spec in specs if spec != RUN_SPEC]
        specs.append(RUN_SPEC)
        step = CreateRun(uid, metadata, specs, self._access_tags, self._claim)
        self._queue.add(ExecuteStep(step))
        self._uid = uid
        self._names = metadata["start"].get("scan_id"), metadata["start"].get("plan_name")

    def descriptor(self, doc: Any) -> None:
        """Create the container of a stream, or update the configuration of one that exists.

        Raises
        ------
        InvalidDocument
            If it has no name, no uid, or no data keys.
        """
        name = self._stream_name(stream_name(mapping("descriptor", doc)))
        uid = reference(doc, "descriptor", "uid", "Its events refer to its uid.")
        if not isinstance(data_keys := doc.get("data_keys"), Mapping):
            raise InvalidDocument(
                f"The descriptor document {uid!r} of the stream {name!r} has the data_keys"
                f" {data_keys!r}.",
                hint="They must be a mapping, perhaps an empty one, that declares the keys of its"
                " events.",
            )
        self._check_started("descriptor", uid)
        if (open_stream := self._streams.get(name)) is None:
            self._streams[name] = self._by_descriptor[uid] = self._open(name, doc)
        else:
            self._by_descriptor[uid] = open_stream
            self._update(open_stream, name, doc)

    def _stream_name(self, given: str) -> str:
        """Return the name of a stream in Tiled: another one, with a note, if it would not open."""
        if given not in self._stream_names:
            name = given if is_addressable(given) else Names().node(given)
            while name in self._stream_names.values():
                name += "_"
            if name != given:
                self.notes.append(f"Stream {given!r}: stored as the stream {name!r}.")
            self._stream_names[given] = name
        return self._stream_names[given]

    def _open(self, name: str, doc: Mapping[str, Any]) -> _OpenStream:
        stream = Stream(self._uid, name, self._settings, self._access_tags)
        open_stream = _OpenStream(stream, EventBuffer(name, self._settings, self._queue.lock))
        metadata = {key: value for key, value in doc.items() if key not in _NOT_STREAM_METADATA}
        metadata["data_keys"] = {
            key: data_key if isinstance(data_key, Mapping) else {}
            for key, data_key in doc["data_keys"].items()
        }
        plain = self._plain(metadata, f"descriptor {name}")
        step = CreateStream(self._uid, name, plain, STREAM_SPECS, self._access_tags)
        self._queue.add(ExecuteStep(step))
        self._declare(open_stream, doc["data_keys"])
        self._queue.open(stream, open_stream.buffer)
        return open_stream

    def _update(self, open_stream: _OpenStream, name: str, doc: Mapping[str, Any]) -> None:
        if new := self._declare(open_stream, doc["data_keys"]):
            self.notes.append(
                f"Stream {name!r}: a later descriptor ({doc['uid']!r}) added"
                f" {sorted(map(text_name, new))}."
            )
        fields = ("uid", "time", "configuration")
        update = {field: doc[field] for field in fields if field in doc}
        plain = self._plain(update, f"descriptor {name}")
        if not plain.get("configuration"):
            plain.pop("configuration", None)
        open_stream.config_updates.append(plain)
        values: dict[str, Any] = {"_config_updates": list(open_stream.config_updates)}
        if new:
            data_keys = open_stream.buffer.data_keys
            values["data_keys"] = self._plain(
                {key: declared.data_key for key, declared in data_keys.items()},
                f"descriptor {name}.data_keys",
            )
        self._queue.add(ExecuteStep(UpdateMetadata(self._uid, name, values)))

    def _declare(self, open_stream: _OpenStream, data_keys: Mapping[Any, Any]) -> list[Any]:
        """Take the data keys of a descriptor; return those that are new."""
        stream, buffer = open_stream.stream, open_stream.buffer
        new: list[DeclaredKey] = []
        for key, data_key in data_keys.items():
            if key in buffer.data_keys:
                continue
            declared, notes = read_data_key(stream.name, key, data_key)
            new.append(declared)
            self.notes += notes
        if new:
            self._queue.cut(stream, buffer)
            for declared in new:
                buffer.declare(declared)
            self._queue.add(DeclareKeys(stream, new))
        return [declared.key for declared in new]

    def stop(self, doc: Any) -> None:
        """Store what is left, then the stop document, and close all nodes to subscribers."""
        stop = dict(mapping("stop", doc))
        self._check_started("stop", stop.get("uid"))
        notes = stop.pop(NOTES_KEY, [])
        notes = [*map(str, notes)] if isinstance(notes, list | tuple) else [str(notes)]
        for open_stream in self._streams.values():
            self._queue.cut(open_stream.stream, open_stream.buffer)
        plain = self._plain(stop, "stop")
        self._queue.add(FinishRun(self._uid, plain, [*notes, *self.notes]))
        self._queue.add(CloseRun(self._uid))

    # -- rows -----------------------------------------------------------------------------------

    def event(self, doc: Any) -> Any:
        """Take one event into its stream."""
        self._ready |= self._stream_of("event", doc).buffer.event(doc)

    def event_page(self, doc: Any) -> Any:
        """Take a page of events into its stream."""
        self._ready |= self._stream_of("event_page", doc).buffer.event_page(doc)

    def stream_resource(self, doc: Any) -> None:
        """Keep the files of a data key, until a datum of this run refers to them.

        Raises
        ------
        InvalidDocument
            If it does not say which files they are, or of which data key.
        """
        kind = "stream_resource"
        doc = own_copy(mapping(kind, doc))
        uid = reference(doc, kind, "uid", "Its datums refer to its uid.")
        reference(doc, kind, "data_key", "It must name the data key that its files belong to.")
        uri = doc.get("uri")
        if not isinstance(uri, str) or not uri:
            raise InvalidDocument(
                f"The stream_resource document {uid!r} of {doc['data_key']!r} has the uri {uri!r}.",
                hint="It must be the URI of a file or a directory.",
            )
        if not isinstance(doc.get("parameters"), Mapping | NoneType):
            self.notes.append(
                f"The stream_resource {uid!r} of {doc['data_key']!r} has the parameters"
                f" {doc['parameters']!r}, which were not used."
            )
            doc["parameters"] = {}
        doc["data_key"] = str(doc["data_key"])  # as the data keys of a descriptor
        doc["uri"], changed = self._settings.path_map(uri)
        self._resources[uid] = Resource(doc, uri if changed else None)

    def stream_datum(self, doc: Any) -> None:
        """Take rows that are in files.

        Raises
        ------
        InvalidDocument
            If its indices are no range.
        UnknownReference
            If this run does not have its descriptor or its stream_resource.
        """
        kind = "stream_datum"
        open_stream = self._stream_of(kind, doc)
        uid = reference(doc, kind, "stream_resource", "It must be the uid of a stream_resource.")
        if (resource := self._resources.get(uid)) is None:
            raise UnknownReference(
                f"stream_datum {doc.get('uid')!r} refers to the stream_resource {uid!r}, which run"
                f" {self._uid!r} does not have.",
                hint="Send a stream_resource before its datums.",
            )
        if (indices := read_range(doc, "indices")) is None:
            raise InvalidDocument(
                f"stream_datum {doc.get('uid')!r} has the indices {doc.get('indices')!r}.",
                hint="They must be a start and a stop, which are integers and in this order.",
            )
        if (seq_nums := read_range(doc, "seq_nums")) is None:
            seq_nums = {name: index + 1 for name, index in indices.items()}
            self._note(
                f"Stream datums of the stream_resource {uid!r} have no seq_nums that are a range:"
                " these were taken to count from 1, as indices count from 0."
            )
        datum = {**own_copy(doc), "indices": indices, "seq_nums": seq_nums}
        if open_stream.buffer.has_marks:  # nodes are named in the order of the documents
            self._queue.cut(open_stream.stream, open_stream.buffer)
        self._queue.add(RegisterDatum(open_stream.stream, resource, datum))

    def resource(self, doc: Any) -> None:
        """Note files that cannot be registered: a normalizer makes stream resources of them."""
        self.notes.append(
            f"The files of the resource {mapping('resource', doc).get('uid')!r} were not"
            " registered: Resource documents need a normalizer."
        )

    # -- steps ----------------------------------------------------------------------------------

    def _plain(self, document: Mapping[str, Any], name: str) -> Any:
        plain, notes = to_json(document, name)
        self.notes += notes
        return plain

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _check_started(self, kind: str, uid: Any) -> None:
        if not self._uid:
            raise UnknownReference(
                f"The {kind} document {uid!r} comes before the start document of its run.",
                hint="Send the start document of a run first.",
            )

    def _stream_of(self, kind: str, doc: Any) -> _OpenStream:
        try:
            return self._by_descriptor[doc["descriptor"]]
        except (KeyError, TypeError):
            pass
        if "descriptor" not in mapping(kind, doc):
            raise InvalidDocument(
                f"{kind} {doc.get('uid')!r} has no descriptor.",
                hint="It needs the uid of the descriptor of its stream.",
            )
        raise UnknownReference(
            f"{kind} {doc.get('uid')!r} refers to the descriptor {doc['descriptor']!r},"
            f" which run {self._uid!r} does not have.",
            hint="Send the descriptor of a stream before its events.",
        )
