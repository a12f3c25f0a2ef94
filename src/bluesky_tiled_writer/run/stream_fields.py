"""The columns of one stream: a field per data key and per timestamp, and the nodes they go to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bluesky_tiled_writer.schema import (
    DeclaredKey,
    Field,
    Names,
    Source,
    StorageForm,
    dimension_names,
    parts,
    timestamp_name,
    to_json,
)

from .document_fields import text_name
from .settings import RunSettings

_SEQ_NUM = DeclaredKey("seq_num", False, np.dtype("i8"), (), {})
_TIME = DeclaredKey("time", False, np.dtype("f8"), (), {})


class StreamFields:
    """The fields of one stream, in the order of the columns of its table.

    Parameters
    ----------
    stream : str
        Name of the stream, for notes.
    settings : RunSettings
        Of the run.

    Attributes
    ----------
    notes : list of str
        Names that differ from those of the documents, in words.
    """

    def __init__(self, stream: str, settings: RunSettings) -> None:
        self.notes: list[str] = []
        self._stream = stream
        self._settings = settings
        self._names = Names()
        self._dims: dict[tuple[int, int], str] = {}
        self._fixed = [
            Field(source, declared, name=name, node=name, limits=settings.limits)
            for source, declared, name in (
                (Source.SEQ_NUM, _SEQ_NUM, "seq_num"),
                (Source.TIME, _TIME, "time"),
            )
        ]
        self._data: list[Field] = []
        self._stamps: list[Field] = []

    def __iter__(self) -> Iterator[Field]:
        yield from self._fixed
        yield from self._data
        yield from self._stamps

    def add(self, new: Sequence[DeclaredKey], born: int) -> None:
        """Add a field for the values of each key, and one for their timestamps.

        Parameters
        ----------
        new : sequence of DeclaredKey
            The keys.
        born : int
            Rows that the stream had stored before.
        """
        for declared in new:
            name = self._name(declared.key)
            self._data.append(self._field(Source.DATA, declared, name, born))
        for declared in new:
            stamp = DeclaredKey(declared.key, False, np.dtype("f8"), (), {})
            name = timestamp_name(text_name(declared.key))
            self._stamps.append(self._field(Source.TIMESTAMPS, stamp, name, born))

    def name_node(self, key: str) -> str:
        """Return a name for the node of a key that no other node of the stream has."""
        return self._names.node(self._name(key))

    def _name(self, key: str) -> str:
        name = text_name(key)
        if name != key:
            note = f"Stream {self._stream!r}, key {key!r}: stored under the name {name!r}."
            self.notes.append(note)
        return name

    def _field(self, source: Source, declared: DeclaredKey, name: str, born: int) -> Field:
        reserve = 3 if source is Source.DATA else 0  # for the `ts_` of its timestamps
        is_column = self._names.column(name, reserve=reserve)
        node = self._names.node(name)
        field = Field(
            source,
            declared,
            name=name,
            node=node,
            limits=self._settings.limits,
            is_column=is_column,
            max_list=self._settings.max_array_size,
            born=born,
        )
        if node != name and not field.storage_form.in_table:
            note = f"Stream {self._stream!r}, key {name!r}: stored in the node {node!r}."
            self.notes.append(note)
        return field

    def layout(self) -> dict[str, list[Field]]:
        """Return the nodes of the stream and the fields in each, by all that is known now.

        Tables come last: what a server refuses elsewhere becomes a column.
        """
        layout = {f.node: [f] for f in self if not f.storage_form.in_table and f.known}
        columns = {f.name: f for f in self if f.storage_form.in_table}
        for node, names in parts(list(columns)):
            layout[node] = [columns[name] for name in names]
        return layout

    def describe(self, fields: Sequence[Field]) -> tuple[Mapping[str, Any], tuple[str, ...] | None]:
        """Return the metadata of the node that holds some fields, and names of its dimensions."""
        first = fields[0]
        dims = None
        if first.storage_form.in_table:
            metadata: dict[str, Any] = {
                f.key: f.declared.data_key for f in fields if f.source is Source.DATA
            }
        else:
            metadata = dict(first.declared.data_key)
            dims = dimension_names(first.row_shape, self._dims)
            if first.storage_form is StorageForm.ARRAY:
                dtype = first.node_dtype
                metadata["dtype_numpy"] = str(dtype) if dtype.fields is None else dtype.descr
        plain, _ = to_json(metadata)  # noted with the descriptor
        return plain, dims
