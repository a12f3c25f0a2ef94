"""The documents of one run, into steps for Tiled."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from event_model import DocumentRouter, RunStart, RunStop

from .batch import Batch
from .errors import InvalidDocument, StorageUnsupported, UnknownReference
from .external import ExternalKey, Resource
from .limits import Limits
from .metadata import to_json
from .path_map import PathMap
from .steps import CloseNodes, CreateRun, CreateStream, Discard, Sink, SpecName, UpdateMetadata
from .stream import Stream

RUN_SPEC: SpecName = ("BlueskyRun", "3.0")
STREAM_SPECS: tuple[SpecName, ...] = (
    ("TiledWriterEventStream", "1.0"),
    ("BlueskyEventStream", "3.0"),
    ("composite", None),
)
"""Ours is first, so that our client opens the stream where it is installed."""

MAX_PENDING_BYTES = 64 * 2**20
"""Bytes of array values that a stream collects at most before it is stored."""

NOTES_KEY = "_run_normalizer_notes"
"""Where a normalizer leaves its notes in the stop document."""

_NO_PATH = re.compile(r"[/?#\x00-\x1f\x7f]")
_NOT_STREAM_METADATA = {"name", "object_keys", "run_start"}


class RunWriter(DocumentRouter):
    """Turns the normalized documents of one run into steps and has a sink carry them out.

    Parameters
    ----------
    sink : Sink
        Carries out the steps.
    limits : Limits
        What the server cannot hold; shared with the sink, which learns it.
    batch_size : int
        Rows that a stream collects before they are stored; 1 or less to store each at once.
    max_array_size : int
        Arrays of at most this many elements go to list columns; 0 for none, -1 for all.
    path_map : PathMap, optional
        From where detectors write to where the server reads.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        limits: Limits,
        batch_size: int,
        max_array_size: int = 0,
        path_map: PathMap | None = None,
    ) -> None:
        super().__init__()
        self._sink = sink
        self._limits = limits
        self._batch_size = batch_size
        self._max_array_size = max_array_size
        self._path_map = path_map or PathMap({})
        self._resources: dict[Any, Resource] = {}
        self._uid = ""
        self._access_tags: Sequence[str] | None = None
        self._streams: dict[str, Stream] = {}
        self._by_descriptor: dict[str, Stream] = {}
        self._notes: list[str] = []

    def __call__(self, name: str, doc: Any, validate: bool = False) -> tuple[str, Any]:
        """Process a document; events take the short way."""
        if name == "event":
            self.event(doc)
            return name, doc
        return super().__call__(name, doc, validate)

    def start(self, doc: RunStart) -> None:
        """Create the container of the run."""
        start: dict[str, Any] = dict(doc)
        self._uid = _path_segment(start, "start", "uid")
        self._access_tags = start.pop("tiled_access_tags", None)
        specs = [_spec(spec) for spec in start.pop("tiled_specs", None) or ()]
        metadata = {"start": self._plain(start, "start")}
        self._sink.carry_out(CreateRun(self._uid, metadata, [*specs, RUN_SPEC], self._access_tags))

    def descriptor(self, doc: Any) -> None:
        """Create the container of a stream, or update the configuration of one that exists."""
        name = _path_segment(doc, "descriptor", "name")
        for field in ("uid", "data_keys"):
            if field not in doc:
                raise InvalidDocument(
                    f"A descriptor document of the stream {name!r} has no {field}.",
                    hint="Its events refer to its uid, and need their data keys declared.",
                )
        if (stream := self._streams.get(name)) is None:
            self._streams[name] = self._by_descriptor[doc["uid"]] = self._new_stream(name, doc)
            return
        self._by_descriptor[doc["uid"]] = stream
        if new := doc["data_keys"].keys() - stream.data_keys.keys():
            self._store(stream)  # rows so far have no such keys
            stream.declare(doc["data_keys"])
            self._notes.append(
                f"Stream {name!r}: a later descriptor ({doc['uid']!r}) added {sorted(new)}."
            )
        update = {"uid": doc["uid"], "time": doc["time"]}
        if configuration := doc.get("configuration"):
            update["configuration"] = configuration
        stream.config_updates.append(self._plain(update, f"descriptor {name}"))
        values: dict[str, Any] = {"_config_updates": list(stream.config_updates)}
        if new:
            values["data_keys"] = self._plain(
                {key: declared.data_key for key, declared in stream.data_keys.items()},
                f"descriptor {name}.data_keys",
            )
        self._sink.carry_out(UpdateMetadata(self._uid, name, values))

    def _new_stream(self, name: str, doc: Mapping[str, Any]) -> Stream:
        stream = Stream(
            self._uid,
            name,
            doc["data_keys"],
            limits=self._limits,
            max_array_size=self._max_array_size,
            access_tags=self._access_tags,
        )
        metadata = {key: value for key, value in doc.items() if key not in _NOT_STREAM_METADATA}
        plain = self._plain(metadata, f"descriptor {name}")
        self._sink.carry_out(CreateStream(self._uid, name, plain, STREAM_SPECS, self._access_tags))
        return stream

    def event(self, doc: Any) -> Any:
        """Take one event into its stream."""
        try:
            stream = self._by_descriptor[doc["descriptor"]]
        except KeyError:
            raise self._unknown_descriptor("event", doc) from None
        if stream.event(doc) >= self._batch_size or stream.pending_bytes > MAX_PENDING_BYTES:
            self._store(stream)

    def event_page(self, doc: Any) -> Any:
        """Take a page of events into its stream."""
        try:
            stream = self._by_descriptor[doc["descriptor"]]
        except KeyError:
            raise self._unknown_descriptor("event_page", doc) from None
        stream.event_page(doc)
        if stream.pending >= self._batch_size or stream.pending_bytes > MAX_PENDING_BYTES:
            self._store(stream)

    def stream_resource(self, doc: Any) -> None:
        """Keep what files there are, until a datum of this run refers to them."""
        doc, original = copy.deepcopy(dict(doc)), None
        if isinstance(uri := doc.get("uri"), str):
            doc["uri"], changed = self._path_map(uri)
            original = uri if changed else None
        self._resources[doc["uid"]] = Resource(doc, original)

    def stream_datum(self, doc: Any) -> None:
        """Take rows that are in files."""
        try:
            stream = self._by_descriptor[doc["descriptor"]]
        except KeyError:
            raise self._unknown_descriptor("stream_datum", doc) from None
        if (resource := self._resources.get(doc.get("stream_resource"))) is None:
            raise UnknownReference(
                f"stream_datum {doc.get('uid')!r} refers to the stream_resource"
                f" {doc.get('stream_resource')!r}, which run {self._uid!r} does not have.",
                hint="Send a stream_resource before its datums.",
            )
        key = stream.external.key(resource)
        if key.must_register(resource):
            self._register(key)
        key.stream_datum(resource, copy.deepcopy(dict(doc)))
        if key.pending >= self._batch_size:
            self._register(key)

    def resource(self, doc: Any) -> None:
        """Note external data that cannot be registered: normalizers make something else of them."""
        self._notes.append(
            f"The files of the resource {doc.get('uid')!r} were not registered: a Resource of old"
            " needs a normalizer."
        )

    def stop(self, doc: RunStop) -> None:
        """Store what is left, then the stop document, and close all nodes to subscribers."""
        stop: dict[str, Any] = dict(doc)
        notes = list(stop.pop(NOTES_KEY, None) or ())
        for stream in self._streams.values():
            self._store(stream, last=True)
        for stream in self._streams.values():
            for key in stream.external:
                self._register(key)
                if values := key.new_metadata():
                    update = UpdateMetadata(self._uid, stream.name, values, key.node.name)
                    self._sink.carry_out(update)
        plain = self._plain(stop, "stop")
        notes += self._notes
        for stream in self._streams.values():
            notes += stream.notes()
        values = {"stop": plain}
        if notes:
            values["notes"], _ = to_json(list(dict.fromkeys(notes)))
        self._sink.carry_out(UpdateMetadata(self._uid, None, values))
        self._sink.carry_out(CloseNodes(self._paths()))

    def _paths(self) -> list[tuple[str, ...]]:
        """Paths of all nodes of the run, children first."""
        paths: list[tuple[str, ...]] = [
            (self._uid, stream.name, node)
            for stream in self._streams.values()
            for node in stream.nodes
        ]
        paths += [(self._uid, name) for name in self._streams]
        return [*paths, (self._uid,)]

    def _store(self, stream: Stream, *, last: bool = False) -> None:
        """Store all rows of a stream that wait."""
        batch = stream.take()
        if len(batch) or last:
            self._store_batch(stream, batch, last)

    def _store_batch(self, stream: Stream, batch: Batch, last: bool) -> None:
        while True:
            plan = stream.plan(batch, last=last)
            try:
                if plan.rebuild is not None:
                    self._sink.carry_out(plan.rebuild)
                    stream.commit_rebuild(plan)
                for step in plan.steps:
                    self._sink.carry_out(step)
            except StorageUnsupported:
                # The limits have learned of it: the next plan works around.
                self._sink.carry_out(Discard(stream.uncommitted(plan)))
                continue
            except BaseException:
                stream.put_back(batch)
                raise
            break
        stream.commit(plan)

    def _register(self, key: ExternalKey) -> None:
        """Register all files and rows of an external key that wait."""
        while steps := key.steps():
            try:
                for step in steps:
                    self._sink.carry_out(step)
            except StorageUnsupported as error:
                key.as_bytes(str(error))
                continue
            key.commit()

    def _plain(self, document: Mapping[str, Any], name: str) -> Any:
        plain, notes = to_json(document, name)
        self._notes += notes
        return plain

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
