"""The columns of one stream: a field per data key and per timestamp, and the nodes they go to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from bluesky_tiled_writer.schema import (
    ROW_NUMBER,
    TEXT,
    DeclaredKey,
    Field,
    Names,
    RowNumbers,
    RowOrder,
    ServerLimits,
    Source,
    StorageForm,
    dimension_names,
    further_parts,
    parts,
    timestamp_name,
    to_json,
)

from .document_fields import text_name
from .settings import RunSettings

AnyField: TypeAlias = Field | RowNumbers
"""The content of a node: the values of a key, or the numbers of the rows."""
_VERBATIM = "_verbatim"
"""Ends the name of the column with the values of a key that are not stored as they came.

It begins with `ts_`, since readers take any other column for the data of a key.
"""

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
    fixed : list of Field
        Those of `seq_num` and `time`.
    """

    def __init__(self, stream: str, settings: RunSettings) -> None:
        self.notes: list[str] = []
        self._stream = stream
        self._settings = settings
        # Other streams may learn of limits while this one plans, but a plan is for one set of them.
        self._limits = ServerLimits()
        self.refresh_limits()
        self._names = Names()
        self._dims: dict[tuple[int, int], str] = {}
        self._row_numbers: dict[str, RowNumbers] = {}  # by the table that has them
        self._unsorted = False
        self.fixed = [
            Field(source, declared, name=name, node=name, limits=self._limits)
            for source, declared, name in (
                (Source.SEQ_NUM, _SEQ_NUM, "seq_num"),
                (Source.TIME, _TIME, "time"),
            )
        ]
        self._data: list[Field] = []
        self._stamps: list[Field] = []
        self._verbatim: dict[str, Field] = {}
        self._names_wanted: dict[Field, str] = {}

    def __iter__(self) -> Iterator[Field]:
        yield from self.fixed
        yield from self._data
        yield from self._stamps
        yield from self.verbatim

    @property
    def may_delete(self) -> bool:
        """False if nodes cannot be written anew, since the login may not delete them."""
        return self._limits.may_delete

    def refresh_limits(self) -> None:
        """Take note of what the server refused until now, before a plan."""
        self._limits.take_over(self._settings.limits)

    @property
    def verbatim(self) -> Iterator[Field]:
        """The fields for values that are not stored as they came."""
        # Not in the order in which they were added, which depends on how rows were batched.
        yield from sorted(self._verbatim.values(), key=lambda field: field.name)

    def add(self, new: Sequence[DeclaredKey], born: int) -> None:
        """Add a field for the values of each key, and one for their timestamps.

        Parameters
        ----------
        new : sequence of DeclaredKey
            The keys.
        born : int
            Rows that the stream had stored before.
        """
        fields = [
            self._field(Source.DATA, declared, self._name(declared.key), born) for declared in new
        ]
        self._data += fields
        for field in fields:
            name = text_name(field.key)
            stamp = DeclaredKey(timestamp_name(name), False, np.dtype("f8"), (), {})
            # Readers look for the timestamps of a column under its own name.
            column = timestamp_name(field.name if field.storage_form.in_table else name)
            stamps = self._field(Source.TIMESTAMPS, stamp, stamp.key, born, column, field.key)
            self._stamps.append(stamps)

    def keep_verbatim(self, key: str) -> Field:
        """Add a field for values that are not stored as they came, unless the key has one."""
        if key in self._verbatim:
            return self._verbatim[key]
        name = timestamp_name(text_name(key)) + _VERBATIM
        # A data key may have the name.
        candidates = (name, f"{name}_", f"{name}__")
        free = next(filter(None, map(self._names.column, candidates)), None)
        self._verbatim[key] = field = Field(
            Source.VERBATIM,
            DeclaredKey(key, False, TEXT, (), {}),
            name=free or name,
            node=self._names.node(free or name),
            limits=self._limits,
            is_column=free is not None,
        )
        where = field.name if free else field.node
        self.notes.append(
            f"Stream {self._stream!r}, key {key!r}: all values that are not stored as they came"
            f" are in {where!r}, as JSON."
        )
        return field

    def name_node(self, key: str) -> str:
        """Return a name for the node of a key that no other node of the stream has."""
        name = self._name(key)
        node = self._names.node(name)
        if node != name:
            self.notes.append(self._stored_in(name, "node", node))
        return node

    def _name(self, key: str) -> str:
        name = text_name(key)
        if name != key:
            note = f"Stream {self._stream!r}, key {key!r}: stored under the name {name!r}."
            self.notes.append(note)
        return name

    def _field(
        self,
        source: Source,
        declared: DeclaredKey,
        name: str,
        born: int,
        wanted: str | None = None,
        key: str | None = None,
    ) -> Field:
        reserve = 3 if source is Source.DATA else 0  # for the `ts_` of its timestamps
        column = self._names.column(wanted or name, reserve=reserve)
        node = self._names.node(name)
        field = Field(
            source,
            declared,
            # Where no node can hold the values, they are text in a column.
            name=column or self._names.substitute(name),
            node=node,
            limits=self._limits,
            is_column=column is not None,
            max_list=self._settings.max_array_size,
            born=born,
            key=key,
        )
        self._names_wanted[field] = name
        return field

    def naming_notes(self) -> list[str]:
        """Say which keys are stored under other names, once the form of all of them is known."""
        notes = []
        for field, name in self._names_wanted.items():
            in_table = field.storage_form.in_table
            if (stored_as := field.name if in_table else field.node) != name:
                what = "column" if in_table else "node"
                notes.append(self._stored_in(name, what, stored_as))
        return notes

    def _stored_in(self, name: str, what: str, stored_as: str) -> str:
        return f"Stream {self._stream!r}, key {name!r}: stored in the {what} {stored_as!r}."

    def layout(
        self, order: RowOrder, kept: Mapping[str, Sequence[AnyField]]
    ) -> dict[str, Sequence[AnyField]]:
        """Return the nodes of the stream and the fields in each, by all that is known now.

        Tables come last: what a server refuses elsewhere becomes a column. One whose columns do
        not give the order of the rows has their numbers as the last column.

        Parameters
        ----------
        order : RowOrder
            Of the rows.
        kept : mapping of str to sequence
            Nodes that stay as they are, and their fields. Other columns go to further tables.
        """
        tables = {node: fields for node, fields in kept.items() if fields[0].storage_form.in_table}
        layout: dict[str, Sequence[AnyField]] = {
            f.node: [f] for f in self if not f.storage_form.in_table and f.known
        }
        layout |= tables
        self._unsorted = any(map(partial(_lacks_order, order), tables.values()))
        held = {field for fields in tables.values() for field in fields}
        columns = {f.name: f for f in self if f.storage_form.in_table and f not in held}
        for node, names in further_parts(list(columns), tables) if tables else parts(list(columns)):
            fields: list[AnyField] = [columns[name] for name in names]
            if order.columns(names) is None:
                fields.append(self._numbers(node))
            layout[node] = fields
        self._row_numbers = {n: f for n, f in self._row_numbers.items() if f in layout.get(n, ())}
        return layout

    def server_notes(self) -> list[str]:
        """Say what the server cannot do for this stream, which has rows."""
        notes = [
            f"Stream {self._stream!r}, key {field.key!r}: its arrays are text, as JSON, since the"
            " server has no node for arrays such as these."
            for field in self._data
            if field.storage_form is StorageForm.JSON
        ]
        if not self._settings.limits.has_order:
            notes.append(
                f"Stream {self._stream!r}: the server does not sort the rows of the table, and may"
                " return them in another order than they were measured; sort them by `time`."
            )
        if self._unsorted:
            notes.append(
                f"Stream {self._stream!r}: no column of an event tells the order of its rows, and"
                " the login may not delete the table, to write it anew with one that does."
            )
        if any(field.leaves_out for field in self):
            notes.append(
                f"Stream {self._stream!r}: types and shapes stay those of the first rows, since the"
                " login may not delete nodes (scopes delete:node and delete:revision), which"
                " writing them anew takes."
            )
        return notes

    @property
    def row_numbers(self) -> list[RowNumbers]:
        """The fields with the numbers of the rows that the last layout has."""
        return list(self._row_numbers.values())

    def _numbers(self, node: str) -> RowNumbers:
        if node not in self._row_numbers:
            name = ROW_NUMBER + node.removeprefix("internal")
            while not self._names.column(name):
                name += "_"
            self._row_numbers[node] = RowNumbers(name)
            self.notes.append(
                f"Stream {self._stream!r}: the table {node!r} has the column {name!r}, since no"
                " column of an event tells the order of its rows."
            )
        return self._row_numbers[node]

    def describe(
        self, fields: Sequence[AnyField]
    ) -> tuple[Mapping[str, Any], tuple[str, ...] | None]:
        """Return the metadata of the node that holds some fields, and names of its dimensions."""
        first = fields[0]
        dims = None
        if isinstance(first, RowNumbers) or first.storage_form.in_table:
            metadata: dict[str, Any] = {
                f.key: _described(f.declared, f.name) for f in fields if f.source is Source.DATA
            }
        else:
            metadata = _described(first.declared, first.node)
            dims = dimension_names(first.row_shape, self._dims)
            if first.storage_form is StorageForm.ARRAY:
                dtype = first.node_dtype
                metadata["dtype_numpy"] = str(dtype) if dtype.fields is None else dtype.descr
        plain, _ = to_json(metadata)  # noted with the descriptor
        return plain, dims


def _lacks_order(order: RowOrder, fields: Sequence[AnyField]) -> bool:
    numbered = isinstance(fields[-1], RowNumbers)
    return not numbered and order.columns([field.name for field in fields]) is None


def _described(declared: DeclaredKey, stored_as: str) -> dict[str, Any]:
    """Return what the descriptor says of a key, and the key if it is stored under another name."""
    described = dict(declared.data_key)
    return described if stored_as == declared.key else {**described, "data_key": declared.key}
