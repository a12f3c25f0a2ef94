"""Files that hold an array: one row, or a few, for each index of a StreamDatum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from tiled.structures.array import ArrayStructure
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import DataSource, Management

from .files import ExternalFiles, Patch, StreamDocument, counted_on, text_field
from .frames import Frames, Selection
from .opening import open_data_source
from .row_map import RowMap
from .shapes import count, counts, data_type, pieces, shape_of_datum

JoinMethod = Literal["stack", "concat"]

_USUAL_TYPES = {"integer": "<i8", "boolean": "|b1"}


class ConsolidatorBase(ExternalFiles):
    """Joins the data that StreamDatums report of one key to one array in Tiled.

    Subclass it for a format of your own: name its `supported_mimetypes`, and override what
    differs, most often `adapter_parameters`, or `consume_stream_datum` where datums bring files.

    Parameters
    ----------
    stream_resource : mapping
        The first StreamResource of the key. Of its `parameters`, ``join_method``, ``join_chunks``,
        ``chunk_shape`` and ``multiplier`` are used here.
    descriptor : mapping
        The descriptor of the stream, or what Tiled keeps of it: its `data_keys` are needed.

    Attributes
    ----------
    join_method : {"stack", "concat"}
        Stack datums along a new first dimension, or append each along its own first dimension.
    join_chunks : bool
        When appending, let chunks go on across datums; False to begin a new chunk with each.
    datum_shape : tuple of int
        Shape of the data of one index.
    chunk_shape : tuple of int
        Sizes of the chunks of the whole array along its first dimensions; others are not chunked,
        nor are those of size 0.
    data_type : BuiltinDtype or StructDtype
        Type of the elements; that of its JSON type where the descriptor does not say more.
    dims : tuple of str
        Names of the dimensions, if the descriptor has any.
    orig_chunks : tuple of tuple of int, optional
        Chunks of the files, where they differ from those of the array.
    frames : Frames
        Which frames of which file the rows are.
    type_declared : bool
        True if the descriptor gives the type of the elements.

    Raises
    ------
    InvalidDocument
        If the key is not in the descriptor, or not as an array of a fixed shape; or if a
        parameter of the StreamResource makes no sense. The message names key and resource.
    """

    supported_mimetypes = {"application/octet-stream"}  # noqa: RUF012 - ClassVar in the base
    join_method: JoinMethod = "stack"
    join_chunks: bool = True
    selection: Selection = Selection.NOTHING
    """Which frames the adapter in Tiled can leave out, repeat or reorder."""

    def __init__(self, stream_resource: StreamDocument, descriptor: StreamDocument) -> None:
        super().__init__(stream_resource)
        self._add_asset(self.uri)
        parameters = self._sres_parameters
        self.join_method = parameters.get("join_method", self.join_method)
        self.join_chunks = parameters.get("join_chunks", self.join_chunks)
        if self.join_method not in get_args(JoinMethod):
            raise self._invalid(
                f"its join_method is {self.join_method!r}", hint="Use 'stack' or 'concat'."
            )
        data_key = self._declaration(descriptor)
        self.datum_shape = self._datum_shape(data_key)
        self.chunk_shape = self._chunk_shape()
        try:
            self.type_declared = bool(data_key.get("dtype_numpy"))
            self.data_type = data_type(data_key.get("dtype_numpy") or _usual_type(data_key))
        except (TypeError, ValueError) as error:
            raise self._invalid(
                f"Tiled cannot serve the type {data_key.get('dtype_numpy')!r} ({error})",
                hint="Mend the dtype_numpy of the data key, perhaps with patches={'descriptor':.}",
            ) from error
        self.orig_chunks: tuple[tuple[int, ...], ...] | None = None
        dims = data_key.get("dims")
        self.dims: tuple[str, ...] = tuple(dims) if isinstance(dims, list | tuple) else ()
        if self.dims and self.join_method == "stack":
            self.dims = ("time", *self.dims)
        self.frames = Frames(self._selection())
        self._files: dict[str, int] = {self.uri: 0}  # by URI, in the order of their data
        self._uri_of: dict[Any, str] = {self._sres_uid: self.uri}  # by uid of the StreamResource
        self._first_indices: dict[Any, int] = {self._sres_uid: 0}  # that of frame 0, likewise
        self._skipped = 0
        self._counted_on: dict[Any, tuple[int, int]] = {}  # file and index, by StreamResource
        self._lengths_seen: Sequence[int] = ()  # frames in the files, once they were opened
        self._seqnums_to_indices_map = RowMap()

    @classmethod
    def get_supported_mimetype(cls, sres: StreamDocument) -> str:
        """Return the MIME type of a StreamResource; this class itself takes any.

        Raises
        ------
        InvalidDocument
            If it is none of a subclass.
        """
        if cls is ConsolidatorBase:
            return text_field(sres, "mimetype")
        return super().get_supported_mimetype(sres)

    # -- documents ------------------------------------------------------------------------------

    def consume_stream_datum(self, doc: StreamDocument) -> Patch:
        """Account for the rows of a StreamDatum.

        Returns
        -------
        Patch
            The block of the array that they fill.

        Raises
        ------
        InvalidDocument
            If its indices or sequence numbers are not ranges.
        """
        start, stop = self._frames_of_events(doc)
        first, _ = self._range(doc, "seq_nums")
        rows = self.shape[0]
        self._locate(doc.get("stream_resource"), start, stop - start)
        self._skipped += self._range(doc, "indices")[1] - stop
        self._seqnums_to_indices_map.add(first, start, stop - start)
        shape = self.shape
        return Patch(
            shape=(max(shape[0] - rows, 0), *shape[1:]),
            offset=(min(rows, shape[0]), *(0 for _ in shape[1:])),
        )

    def _frames_of_events(self, doc: StreamDocument) -> tuple[int, int]:
        """Return the indices of a StreamDatum without those that belong to no event.

        Test frames have indices, but no sequence numbers. A StreamDatum that a device left to
        the RunEngine to number, which did not, has 0 and 0: all of its frames count.
        """
        start, stop = self._range(doc, "indices")
        first, last = self._range(doc, "seq_nums")
        return start, stop if first == last == 0 else min(stop, start + last - first)

    def _locate(self, uid: Any, start: int, length: int) -> None:
        """Find the file that a StreamDatum is about, and which of its frames."""
        if uid not in self._uri_of:
            uid = self._sres_uid
        file = self._files[self._uri_of[uid]]
        if uid not in self._first_indices and length:
            self._first_indices[uid] = first = self._first_index(file, start)
            if first:
                self._counted_on[uid] = file, first
        if start < self._first_indices.get(uid, 0):
            self._first_indices[uid] = 0
            self._counted_on.pop(uid, None)
            self._note_recount(uid)
        index = start - self._first_indices.get(uid, 0)
        self.frames.add(file, index, length, solid=self._rows_per_index() > 1)

    def _first_index(self, file: int, start: int) -> int:
        """Return the index that stands for frame 0 of a file, by the first that refers to it.

        Indices count from 0 in each file, unless they go on where those of earlier files end.
        The indices of legacy Resources always count from 0.
        """
        goes_on = not self.frames.length(file) and start == self.frames.total
        return start if goes_on and not self._sres_parameters.get("spec") else 0

    @property
    def rows_matter(self) -> bool:
        """True if the files are to be opened when the run stops, to count their rows."""
        return False

    def take_shapes(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Take the shapes of the data in the files; return True if the data source has changed."""
        return False

    def late_notes(self) -> list[str]:
        """Return notes that may only be made when the run stops."""
        notes = []
        for uid, (file, start) in self._counted_on.items():
            needed = start + self.frames.length(file)
            if file < len(self._lengths_seen) and self._lengths_seen[file] < needed:
                continue  # it has no frames but those that were counted on
            notes.append(counted_on(self.data_key, uid, start))
        return notes

    def _take_over(self, stream_resource: StreamDocument) -> None:
        super()._take_over(stream_resource)
        self._files.setdefault(self.uri, len(self._files))
        if self._uri_of.get(self._sres_uid) != self.uri:
            self._uri_of[self._sres_uid] = self.uri
            self._first_indices.pop(self._sres_uid, None)

    def update_from_stream_resource(self, stream_resource: StreamDocument) -> None:
        """Continue with the files of another StreamResource of the same key.

        Raises
        ------
        InvalidDocument
            If they cannot be joined; always, in this class, which knows no format.
        """
        raise self._invalid(
            f"{type(self).__name__} cannot join the files of several stream resources",
            hint="Override update_from_stream_resource in the class for this MIME type.",
            uid=stream_resource.get("uid"),
        )

    # -- the data source ------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array so far; its first dimension grows with each datum."""
        rows = self.frames.rows
        if self.join_method == "concat" and self.datum_shape:
            return (rows * self.datum_shape[0], *self.datum_shape[1:])
        return (rows, *self.datum_shape)

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the chunks along each dimension, as dask writes them.

        Raises
        ------
        InvalidDocument
            If `chunk_shape` has more dimensions than the array.
        """
        shape = self.shape
        chunked = len(self.chunk_shape)
        if chunked > len(shape):
            raise self._invalid(
                f"its chunk_shape {self.chunk_shape} has more dimensions than the array, {shape}",
                hint="The first size counts rows, the others follow the shape of the data key.",
            )
        sizes = [size or whole for size, whole in zip(self.chunk_shape, shape, strict=False)]
        chunks = [
            *map(pieces, shape[:chunked], sizes),
            *((size,) for size in shape[chunked:]),
        ]
        separate = self.join_method == "concat" and not self.join_chunks
        if separate and chunked and self.datum_shape:
            once = pieces(self.datum_shape[0], self.chunk_shape[0] or self.datum_shape[0])
            chunks[0] = once * self.frames.rows or (0,)
        return tuple(chunks)

    @property
    def _num_rows(self) -> int:
        """The number of indices so far, with those that no sequence number stands for."""
        return self.frames.count + self._skipped

    @property
    def has_skips(self) -> bool:
        """True if the files hold rows that no sequence number stands for."""
        return self._num_rows > len(self._seqnums_to_indices_map)

    def adapter_parameters(self) -> dict[str, Any]:
        """Return the parameters that the adapter in Tiled needs to read the files."""
        return {}

    def structure(self) -> ArrayStructure:
        """Return the structure of the array so far."""
        shape = self.shape
        dims = self.dims if len(self.dims) == len(shape) else None
        return ArrayStructure(data_type=self.data_type, shape=shape, chunks=self.chunks, dims=dims)

    def get_data_source(self) -> DataSource:
        """Return the data source to register: a copy, which further documents do not change.

        Raises
        ------
        InvalidDocument
            If the files cannot be described.
        """
        return DataSource(
            mimetype=self.mimetype,
            assets=list(self.assets),
            structure_family=StructureFamily.array,
            structure=self.structure(),
            parameters=self.adapter_parameters(),
            properties={"chunks": self.orig_chunks} if self.orig_chunks else {},
            management=Management.external,
        )

    def init_adapter(self, adapter_class: Any = None) -> Any:
        """Return Tiled's adapter on the files; for tests and exploration, never while writing.

        Parameters
        ----------
        adapter_class : type, optional
            Adapter to use instead of Tiled's own for the MIME type.
        """
        return open_data_source(self.get_data_source(), adapter_class)

    # -- reading the documents ------------------------------------------------------------------

    def _declaration(self, descriptor: StreamDocument) -> StreamDocument:
        data_keys: StreamDocument = descriptor.get("data_keys") or {}
        if self.data_key not in data_keys:
            raise self._invalid(
                "its stream has no such data key",
                hint=f"The descriptor declares {sorted(data_keys)}.",
            )
        declaration: StreamDocument = data_keys[self.data_key]
        if not isinstance(declaration, Mapping):
            raise self._invalid(
                f"its data key is {declaration!r}",
                hint="It needs a mapping that declares an array, with its shape.",
            )
        return declaration

    def _datum_shape(self, data_key: StreamDocument) -> tuple[int, ...]:
        try:
            declared = counts(data_key.get("shape"))
        except TypeError:
            raise self._invalid(
                f"its shape is {data_key.get('shape')!r}, but {self.mimetype} needs a fixed one",
                hint="Give every size in the descriptor, perhaps with patches={'descriptor': ...}.",
            ) from None
        multiplier = self._sres_parameters.get("multiplier")
        if multiplier:
            frames = count(multiplier)
            if frames is None or frames < 1:
                raise self._invalid(
                    f"its multiplier (frame_per_point) is {multiplier!r}",
                    hint="It must be an integer of at least 1.",
                )
            multiplier = self.metadata["frame_per_point"] = frames
        return shape_of_datum(declared, multiplier, stacked=self.join_method == "stack")

    def _chunk_shape(self) -> tuple[int, ...]:
        value = self._sres_parameters.get("chunk_shape", ())
        try:
            sizes = counts(value)
        except TypeError:
            sizes = (-1,)
        if any(size < 0 for size in sizes):
            raise self._invalid(
                f"its chunk_shape is {value!r}",
                hint="Every size of a chunk must be an integer, or 0 if it is not chunked.",
            )
        return sizes

    def _selection(self) -> Selection:
        """Return what the adapter can do: a class whose datums bring files has one for each row."""
        brings_files = type(self).consume_stream_datum is not ConsolidatorBase.consume_stream_datum
        if self.selection is Selection.NOTHING and brings_files:
            return Selection.ANY
        return self.selection

    def _rows_per_index(self) -> int:
        """Return how many rows of the files stand for one index.

        Files have a row for each index, or they have the frames of all indices one after another.
        The chunks tell, which have as many dimensions as the files; else the documents suggest it.
        """
        shape, chunked = self.datum_shape, len(self.chunk_shape)
        if not shape or shape[0] == 1:
            return 1
        if self.join_method == "concat":
            return shape[0]
        if chunked == len(shape) + 1:
            return 1
        images = len(shape) > 2 and shape[-1] > 4  # a smaller one is for colors
        if self.metadata.get("frame_per_point") == shape[0] or chunked == len(shape) > 1 or images:
            return shape[0]
        return 1


def _usual_type(data_key: StreamDocument) -> str:
    dtype = data_key.get("dtype")
    return _USUAL_TYPES.get(dtype, "<f8") if isinstance(dtype, str) else "<f8"
