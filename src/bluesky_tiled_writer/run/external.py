"""The external keys of one stream: their files, and how much of them is registered.

No file is opened. `ExternalKey.steps` decides what to register; `commit` is told once it was done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bluesky_tiled_writer.consolidators import (
    EVENT_ROWS,
    BytesConsolidator,
    ConsolidatorBase,
    Frames,
    Patch,
    consolidator_factory,
    opaque_consolidator,
    usable_dims,
)
from bluesky_tiled_writer.errors import DocumentError
from bluesky_tiled_writer.schema import DeclaredKey, to_json

from .steps import CorrectType, CountRows, Metadata, Node, RegisterAsset, UpdateAsset

if TYPE_CHECKING:
    from tiled.structures.data_source import DataSource

ORIGINAL_URIS = "original_uris"
"""Key in the metadata of a node: the URIs of its resources before `path_map` changed them."""


@dataclass(frozen=True)
class Resource:
    """A StreamResource, and its URI before `path_map` changed it."""

    doc: Mapping[str, Any]
    original_uri: str | None = None

    @property
    def uid(self) -> Any:
        """Its uid."""
        return self.doc.get("uid")


class ExternalKeys:
    """The external keys of one stream that have files so far.

    Parameters
    ----------
    run, stream : str
        Uid of the run, and name of the stream.
    data_keys : mapping of str to DeclaredKey
        All data keys that the descriptors of the stream declare; it may grow.
    name_node : callable
        Returns a name for the node of a key that no other node has.
    access_tags : sequence of str, optional
        Set on every node.
    """

    def __init__(
        self,
        run: str,
        stream: str,
        data_keys: Mapping[str, DeclaredKey],
        name_node: Callable[[str], str],
        access_tags: Sequence[str] | None = None,
    ) -> None:
        self._run = run
        self._stream = stream
        self._data_keys = data_keys
        self._name_node = name_node
        self._access_tags = access_tags
        self._keys: dict[str, ExternalKey] = {}
        self._dims: dict[str, int] = {}  # sizes, by the names that keys have claimed

    def __iter__(self) -> Iterator[ExternalKey]:
        return iter(self._keys.values())

    def key(self, resource: Resource) -> ExternalKey:
        """Return the key that a resource belongs to; its node has a name from now on."""
        key = resource.doc["data_key"]
        if key not in self._keys:
            name = self._name_node(key)
            node = Node(self._run, self._stream, name, access_tags=self._access_tags)
            self._keys[key] = ExternalKey(key, node, self._data_keys, self._dims)
        return self._keys[key]

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes that were created."""
        return [key.node.name for key in self if key.registered]

    def notes(self) -> list[str]:
        """Return what was not registered as the documents have it, in words."""
        return [note for key in self for note in key.notes()]


class ExternalKey:
    """The files of one external key, which become one node.

    A key whose files cannot be described is given up with a note, and costs the run nothing else.

    Parameters
    ----------
    key : str
        The data key.
    node : Node
        The node for its data.
    data_keys : mapping of str to DeclaredKey
        All data keys that the descriptors of the stream declare.
    dims : dict of str to int, optional
        The sizes that names of dimensions have in the stream; gets those of this key.
    """

    def __init__(
        self,
        key: str,
        node: Node,
        data_keys: Mapping[str, DeclaredKey],
        dims: dict[str, int] | None = None,
    ) -> None:
        self.node = node
        self.registered = False
        self.pending = 0
        self._key = key
        self._data_keys = data_keys
        self._dims = {} if dims is None else dims
        self._consolidator: Any = None
        self._resources: dict[Any, Resource] = {}
        # Kept until the node is registered, which may have to be of another kind than planned.
        self._datums: list[tuple[Resource, Mapping[str, Any]]] = []
        self._patches: list[Patch] = []
        self._rows = 0
        self._given_up: str | None = None
        self._metadata: dict[str, Any] | None = None  # that the node was created with
        self._notes: list[str] = []
        self._type_found = False

    def must_register(self, resource: Resource) -> bool:
        """Return True if what is pending must be registered before a datum of this resource.

        The server decides whether the files of the first resource are an array or bytes, which
        those of a second one must be, too, however many rows make a batch.
        """
        return self.pending > 0 and not self.registered and resource.uid not in self._resources

    def stream_datum(self, resource: Resource, doc: Mapping[str, Any]) -> None:
        """Take a StreamDatum, which must not change afterwards; ignored if the key is given up."""
        if self._given_up is not None:
            return
        try:
            self._consume(resource, doc)
        except Exception as error:  # a beamline's own class may raise anything
            datums = list(self._datums)
            self._give_up(error, resource)
            self._begin_again(datums)

    def _begin_again(self, datums: Sequence[tuple[Resource, Mapping[str, Any]]]) -> None:
        """Take the datums before a failure again, which left the consolidator in an unknown state.

        Once the node is registered they are no longer kept, and nothing more can be registered.
        """
        if self.registered:
            return
        self._consolidator, self._resources = None, {}
        try:
            for resource, doc in datums:
                self._consume(resource, doc)
        except Exception:
            self._drop_pending()

    def _consume(self, resource: Resource, doc: Mapping[str, Any]) -> None:
        if self._consolidator is None:
            data_keys = {str(key): declared.data_key for key, declared in self._data_keys.items()}
            self._consolidator = self._new_consolidator(resource.doc, {"data_keys": data_keys})
        elif resource.uid not in self._resources:
            self._consolidator.update_from_stream_resource(self._as_before(resource.doc))
        self._resources[resource.uid] = resource
        if (patch := self._consolidator.consume_stream_datum(doc)) is not None:
            self._patches.append(patch)  # a class for `bluesky.consolidators` returns none
        self.pending += max(1, doc["indices"]["stop"] - doc["indices"]["start"])
        if not self.registered:
            if not self._datums:
                with suppress(Exception):  # which `steps` meets, too
                    # Now, since keys are registered in any order.
                    self._with_dims(self._consolidator.get_data_source())
            self._datums.append((resource, doc))

    @staticmethod
    def _new_consolidator(resource: Mapping[str, Any], descriptor: Mapping[str, Any]) -> Any:
        if isinstance(resource.get("mimetype"), str):
            return consolidator_factory(resource, descriptor)
        return opaque_consolidator(resource, "the document has no MIME type that is text")

    def _as_before(self, stream_resource: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return another StreamResource of the key, as bytes if the first one became bytes."""
        mimetype = stream_resource.get("mimetype")
        files = self._consolidator
        if isinstance(files, BytesConsolidator) and files.metadata.get("mimetype") == mimetype:
            return {**stream_resource, "mimetype": files.mimetype}
        return stream_resource

    def steps(self) -> list[RegisterAsset | UpdateAsset]:
        """Decide how to register what is pending."""
        if not self.pending:
            return []
        try:
            source = self._with_dims(self._consolidator.get_data_source())
            patch = Patch.combine_patches(self._patches) if self._patches else None
            metadata = self._current_metadata()
            metadata.pop(EVENT_ROWS, None)  # it changes until the run stops
        except Exception as error:
            self._give_up(error)
            return []
        steps: list[RegisterAsset | UpdateAsset] = []
        if not self.registered:
            steps.append(RegisterAsset(replace(self.node, metadata=metadata), source))
            if self._metadata is None:
                self._metadata = metadata
        is_array = source.structure_family == "array"
        if is_array:  # also right after the creation, to tell live subscribers of the block
            block = (tuple(patch.shape), tuple(patch.offset)) if patch else (None, None)
            steps.append(UpdateAsset(self.node, source, *block))
        elif self.registered:
            steps.append(UpdateAsset(self.node, source))
        return steps

    def _with_dims(self, source: DataSource) -> DataSource:
        """Give an array names of dimensions that can be read beside those of the other keys."""
        structure = source.structure
        declared = getattr(self._consolidator, "dims", None) or getattr(structure, "dims", None)
        if source.structure_family != "array" or not declared:
            return source
        dims = usable_dims(declared, structure.shape, self.node.name, self._dims)
        return replace(source, structure=replace(structure, dims=dims))

    def commit(self) -> None:
        """Take note that the steps were executed."""
        self.registered = True
        self._rows += self.pending
        self._drop_pending()

    def as_bytes(self, reason: str) -> None:
        """Register the files as bytes instead; give the key up if they are bytes already."""
        datums, self._datums = self._datums, []
        first, _ = datums[0]
        try:
            if isinstance(self._consolidator, BytesConsolidator):
                raise ValueError(reason)
            self._consolidator = opaque_consolidator(first.doc, reason)
        except Exception as error:
            self._give_up(error, first)
            return
        self._patches, self._resources, self.pending = [], {first.uid: first}, 0
        for resource, doc in datums:
            self.stream_datum(resource, doc)

    def type_step(self) -> CorrectType | None:
        """Decide whether the type must be looked up in the files: no descriptor gives it."""
        if not self.registered or getattr(self._consolidator, "type_declared", True):
            return None
        return CorrectType(self.node, self._consolidator.get_data_source(), self._take_type)

    def count_step(self) -> CountRows | None:
        """Decide whether the rows in the files matter: they may be more than were announced."""
        if not self.registered or not getattr(self._consolidator, "rows_matter", False):
            return None
        return CountRows(self.node, self._consolidator.get_data_source(), self._take_shapes)

    def _take_shapes(self, shapes: Sequence[tuple[int, ...]]) -> DataSource | None:
        if not self._consolidator.take_shapes(shapes):
            return None
        return self._with_dims(self._consolidator.get_data_source())

    def _take_type(self, _: Any) -> None:
        self._type_found = True

    # -- metadata and notes ---------------------------------------------------------------------

    def new_metadata(self) -> Metadata:
        """Return metadata that became known, or changed, after the node was created."""
        if not self.registered or self._metadata is None:
            return {}
        current = self._current_metadata()
        return {
            name: value
            for name, value in current.items()
            if name not in self._metadata or self._metadata[name] != value
        }

    def _current_metadata(self) -> dict[str, Any]:
        metadata = dict(getattr(self._consolidator, "metadata", None) or {})
        resources = self._resources.values()
        if originals := [r.original_uri for r in resources if r.original_uri is not None]:
            metadata[ORIGINAL_URIS] = originals
        if (frames := self._frames) is not None and not frames.exact:
            metadata[EVENT_ROWS] = frames.of_events()
        plain, notes = to_json(metadata, f"{self.node.stream}/{self._key}")
        self._notes += notes
        return dict(plain)

    @property
    def _frames(self) -> Frames | None:
        """The frames of the rows; None for bytes, and for a beamline's own class without them."""
        frames = getattr(self._consolidator, "frames", None)
        return frames if isinstance(frames, Frames) else None

    def notes(self) -> list[str]:
        """Return what was not registered as the documents have it, in words."""
        notes = [*self._notes, *map(str, getattr(self._consolidator, "notes", None) or ())]
        if self.registered and isinstance(self._consolidator, ConsolidatorBase):
            notes += self._consolidator.late_notes()
        if self.registered and self._frames is not None and (text := self._frames.deviation()):
            notes.append(f"External key {self._key!r} of stream {self.node.stream!r}: {text}")
        if not self._type_found and self.type_step() is not None:
            notes.append(
                f"External key {self._key!r} of stream {self.node.stream!r}: no descriptor gives"
                " the type of its elements, and it could not be found out; it was guessed."
            )
        if self._given_up is not None:
            rows = f"{self._rows} of its rows" if self._rows else "none of its rows"
            notes.append(
                f"External key {self._key!r} of stream {self.node.stream!r}: {rows} were"
                f" registered, since its files could not be described. {self._given_up}"
            )
        elif self.registered and self.node.name != self._key:
            notes.append(
                f"Stream {self.node.stream!r}, key {self._key!r}: stored in the node"
                f" {self.node.name!r}."
            )
        return notes

    def _give_up(self, error: Exception, resource: Resource | None = None) -> None:
        uids = [resource.uid] if resource is not None else list(self._resources)
        which = f"stream resource {', '.join(map(repr, uids))}"
        what = (
            str(error) if isinstance(error, DocumentError) else f"{type(error).__name__}: {error}"
        )
        self._given_up = what if repr(uids[0]) in what else f"({which}) {what}"
        self._drop_pending()

    def _drop_pending(self) -> None:
        self.pending = 0
        self._patches.clear()
        self._datums.clear()
