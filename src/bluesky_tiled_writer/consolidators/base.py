"""Files that hold an array: one row, or a few, for each index of a StreamDatum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from tiled.structures.array import ArrayStructure
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import DataSource, Management

from .files import ExternalFiles, Patch, StreamDocument, text_field
from .opening import open_data_source
from .row_map import RowMap
from .shapes import counts, data_type, pieces, shape_of_datum

JoinMethod = Literal["stack", "concat"]


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
        Sizes of the chunks of the whole array along its first dimensions; others are not chunked.
    data_type : BuiltinDtype or StructDtype
        Type of the elements; float64 where the descriptor does not say.
    dims : tuple of str
        Names of the dimensions, if the descriptor has any.
    orig_chunks : tuple of tuple of int, optional
        Chunks of the files, where they differ from those of the array.

    Raises
    ------
    InvalidDocument
        If the key is not in the descriptor, or not as an array of a fixed shape; or if a
        parameter of the StreamResource makes no sense. The message names key and resource.
    """

    supported_mimetypes = {"application/octet-stream"}  # noqa: RUF012 - ClassVar in the base
    join_method: JoinMethod = "stack"
    join_chunks: bool = True

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
            self.data_type = data_type(data_key.get("dtype_numpy"))
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
        self._num_rows = 0  # with those that no sequence number stands for
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
        start, stop = self._range(doc, "indices")
        first, last = self._range(doc, "seq_nums")
        rows = self.shape[0]
        self._num_rows += stop - start
        self._seqnums_to_indices_map.add(first, start, min(stop - start, last - first))
        shape = self.shape
        return Patch(shape=(shape[0] - rows, *shape[1:]), offset=(rows, *(0 for _ in shape[1:])))

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
        if self.join_method == "concat" and self.datum_shape:
            return (self._num_rows * self.datum_shape[0], *self.datum_shape[1:])
        return (self._num_rows, *self.datum_shape)

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
        chunks = [
            *map(pieces, shape[:chunked], self.chunk_shape),
            *((size,) for size in shape[chunked:]),
        ]
        separate = self.join_method == "concat" and not self.join_chunks
        if separate and chunked and self.datum_shape:
            once = pieces(self.datum_shape[0], self.chunk_shape[0])
            chunks[0] = once * self._num_rows or (0,)
        return tuple(chunks)

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
            if not isinstance(multiplier, int) or multiplier < 1:
                raise self._invalid(
                    f"its multiplier (frame_per_point) is {multiplier!r}",
                    hint="It must be an integer of at least 1.",
                )
            self.metadata["frame_per_point"] = multiplier
        return shape_of_datum(declared, multiplier, stacked=self.join_method == "stack")

    def _chunk_shape(self) -> tuple[int, ...]:
        value = self._sres_parameters.get("chunk_shape", ())
        try:
            sizes = counts(value)
        except TypeError:
            sizes = (0,)
        if any(size < 1 for size in sizes):
            raise self._invalid(
                f"its chunk_shape is {value!r}",
                hint="Every size of a chunk must be an integer and at least 1.",
            )
        return sizes
