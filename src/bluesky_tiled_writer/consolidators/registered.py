"""Files that another Tiled server has registered already, to be registered in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiled.structures.core import STRUCTURE_TYPES, StructureFamily
from tiled.structures.data_source import DataSource, Management

from .files import Patch, StreamDocument

REGISTERED = "registered"
"""Key of a StreamResource: its data source in another catalog, and the metadata of that node."""


class RegisteredFiles:
    """The files of one key as they were registered: same files, same structure, same parameters.

    What was found out by opening the files need not be found out again, and a key keeps the
    frames that its events refer to.

    Parameters
    ----------
    stream_resource : mapping
        A StreamResource with `REGISTERED`, which holds the JSON of a `DataSource` under
        ``data_source``, and ``metadata``.
    """

    type_declared = True
    rows_matter = False

    def __init__(self, stream_resource: StreamDocument) -> None:
        registered = stream_resource[REGISTERED]
        source = DataSource.from_json(registered["data_source"])
        family = StructureFamily(source.structure_family)
        if isinstance(source.structure, Mapping):
            source.structure = STRUCTURE_TYPES[family].from_json(source.structure)
        source.structure_family, source.management = family, Management.external
        source.id = None
        for asset in source.assets:
            asset.id = None
        self._source = source
        self.data_key = stream_resource["data_key"]
        self.mimetype = source.mimetype
        self.metadata: dict[str, Any] = dict(registered["metadata"])
        self.notes: list[str] = []

    def consume_stream_datum(self, doc: StreamDocument) -> Patch | None:
        """Return the block of the array that is new to live subscribers: all of it."""
        shape = getattr(self._source.structure, "shape", None)
        return None if shape is None else Patch(shape=tuple(shape), offset=(0,) * len(shape))

    def get_data_source(self) -> DataSource:
        """Return the data source to register."""
        return self._source
