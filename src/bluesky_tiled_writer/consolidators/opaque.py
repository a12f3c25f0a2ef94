"""Files that Tiled serves as they are, without opening them."""

from __future__ import annotations

from tiled.structures.bytes import BytesStructure
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import DataSource, Management

from .files import Patch, StreamDocument
from .mimetypes import BYTES
from .numbered import NumberedFiles


class BytesConsolidator(NumberedFiles):
    """Registers opaque files: the file of the URI, or one for each index if there is a template.

    Parameters
    ----------
    stream_resource : mapping
        The first StreamResource of the key.
    descriptor : mapping, optional
        Not needed: an opaque file has no shape.
    """

    supported_mimetypes = {BYTES}  # noqa: RUF012 - ClassVar in the base

    def __init__(
        self, stream_resource: StreamDocument, descriptor: StreamDocument | None = None
    ) -> None:
        super().__init__(stream_resource)
        self._begin(self._series_of(stream_resource, number_needed=False))

    def consume_stream_datum(self, doc: StreamDocument) -> Patch:
        """Register the files of the indices of a StreamDatum.

        Returns
        -------
        Patch
            The range of indices.
        """
        start, stop = self._range(doc, "indices")
        self._add_files(doc, start, stop)
        return Patch(shape=(stop - start,), offset=(start,))

    def update_from_stream_resource(self, stream_resource: StreamDocument) -> None:
        """Continue with the files of another StreamResource of the same key.

        Raises
        ------
        InvalidDocument
            If they are of another type, or their template cannot be filled in.
        """
        series = self._series_of(stream_resource, number_needed=False)
        self._take_over(stream_resource)
        self._begin(series)

    def get_data_source(self) -> DataSource:
        """Return the data source to register: a copy, which further documents do not change."""
        return DataSource(
            mimetype=self.mimetype,
            assets=list(self.assets),
            structure_family=StructureFamily.bytes,
            structure=BytesStructure(),
            parameters={},
            properties={},
            management=Management.external,
        )
