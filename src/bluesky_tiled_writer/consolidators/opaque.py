"""Files that Tiled hands out as they are, without looking inside."""

from __future__ import annotations

from tiled.structures.bytes import BytesStructure
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import DataSource, Management

from .files import Document, Patch
from .mimetypes import BYTES
from .numbered import NumberedFiles


class BytesConsolidator(NumberedFiles):
    """Registers opaque files: the one of the URI, or one an index where there is a template.

    Parameters
    ----------
    stream_resource : mapping
        The first StreamResource of the key.
    descriptor : mapping, optional
        Not needed: an opaque file has no shape.
    """

    supported_mimetypes = {BYTES}  # noqa: RUF012 - ClassVar in the base

    def __init__(self, stream_resource: Document, descriptor: Document | None = None) -> None:
        super().__init__(stream_resource)
        self._begin(self._series_of(stream_resource, number_needed=False))

    def consume_stream_datum(self, doc: Document) -> Patch:
        """Register the files of the indices of a StreamDatum.

        Returns
        -------
        Patch
            The range of indices.
        """
        start, stop = self._range(doc, "indices")
        self._add_files(doc, start, stop)
        return Patch(shape=(stop - start,), offset=(start,))

    def update_from_stream_resource(self, stream_resource: Document) -> None:
        """Go on with the files of another StreamResource of the same key.

        Raises
        ------
        InvalidDocument
            If they are of another type, or their template cannot be filled in.
        """
        series = self._series_of(stream_resource, number_needed=False)
        self._take_over(stream_resource)
        self._begin(series)

    def get_data_source(self) -> DataSource:
        """Compose what is registered in Tiled: a copy, which further documents do not change."""
        return DataSource(
            mimetype=self.mimetype,
            assets=list(self.assets),
            structure_family=StructureFamily.bytes,
            structure=BytesStructure(),
            parameters={},
            properties={},
            management=Management.external,
        )
