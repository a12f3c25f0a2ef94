"""One stream of a run: its fields, the rows that wait, and the plan of how to store them.

Nothing here talks to Tiled. `plan` decides which steps store a batch; `commit` is told that they
were carried out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from bluesky_tiled_writer.schema import (
    Chunk,
    Content,
    DeclaredKey,
    Deviation,
    Deviations,
    Field,
    Names,
    Parsed,
    RaggedRows,
    SeqNums,
    ServerLimits,
    Source,
    StorageForm,
    dimension_names,
    parts,
    timestamp_name,
    to_json,
)

from .batch import Batch
from .external import ExternalKeys
from .steps import AppendRows, ExtendArray, ExtendRagged, Node, Rebuild

logger = logging.getLogger("bluesky_tiled_writer")

_SEQ_NUM = DeclaredKey("seq_num", False, np.dtype("i8"), (), {})
_TIME = DeclaredKey("time", False, np.dtype("f8"), (), {})


@dataclass(frozen=True)
class Plan:
    """The steps that store a batch, and what is true once they are carried out.

    `rebuild` comes first and has a commit of its own: should one of `steps` be refused, what was
    rebuilt stays as it is then.
    """

    rebuild: Rebuild | None
    rebuilt: Sequence[str]
    rebuilt_deviations: Deviations
    steps: Sequence[AppendRows | ExtendArray | ExtendRagged]
    batch: Batch
    deviations: Deviations
    parsed: Mapping[Field, Parsed]
    layout: Mapping[str, Sequence[Field]]
    signatures: Mapping[str, Any]


class Stream:
    """The event data of one stream.

    Parameters
    ----------
    run : str
        Uid of the run.
    name : str
        Name of the stream.
    limits : ServerLimits
        What the server cannot hold.
    max_array_size : int
        Arrays of at most this many elements go to list columns; 0 for none, -1 for all.
    access_tags : sequence of str, optional
        Set on every node.
    """

    def __init__(
        self,
        run: str,
        name: str,
        *,
        limits: ServerLimits,
        max_array_size: int = 0,
        access_tags: Sequence[str] | None = None,
    ) -> None:
        self.run = run
        self.name = name
        self.stored = 0
        self._limits = limits
        self._max_list = max_array_size
        self._access_tags = access_tags
        self._names = Names()
        self._dims: dict[tuple[int, int], str] = {}
        self._signatures: dict[str, Any] = {}
        self._seq_nums = SeqNums()
        self._deviations = Deviations()
        self._notes: list[str] = []
        self.data_keys: dict[str, DeclaredKey] = {}
        self.external = ExternalKeys(run, name, self.data_keys, self._names.node, access_tags)
        self._data: list[Field] = []
        self._stamps: list[Field] = []
        self._fixed = [
            self._own_field(Source.SEQ_NUM, _SEQ_NUM),
            self._own_field(Source.TIME, _TIME),
        ]

    # -- what the descriptors say ---------------------------------------------------------------

    def declare(self, new: Sequence[DeclaredKey]) -> None:
        """Take data keys of a descriptor that no earlier one had."""
        self.data_keys.update((declared.key, declared) for declared in new)
        self.expect([declared for declared in new if not declared.external])

    def expect(self, new: Sequence[DeclaredKey]) -> None:
        """Make room for keys whose values come with the events."""
        for declared in new:
            self._data.append(self._new_field(Source.DATA, declared, declared.key))
        for declared in new:
            self._add_timestamps(declared)

    def _add_timestamps(self, declared: DeclaredKey) -> None:
        stamp = DeclaredKey(declared.key, False, np.dtype("f8"), (), {})
        name = timestamp_name(declared.key)
        self._stamps.append(self._new_field(Source.TIMESTAMPS, stamp, name))

    def _new_field(self, source: Source, declared: DeclaredKey, name: str) -> Field:
        reserve = 3 if source is Source.DATA else 0  # for the `ts_` of its timestamps
        is_column = self._names.column(name, reserve=reserve)
        node = self._names.node(name)
        field = Field(
            source,
            declared,
            name=name,
            node=node,
            limits=self._limits,
            is_column=is_column,
            max_list=self._max_list,
            born=self.stored,
        )
        if node != name and not field.storage_form.in_table:
            self._notes.append(f"Stream {self.name!r}, key {name!r}: stored in the node {node!r}.")
        return field

    def _own_field(self, source: Source, declared: DeclaredKey) -> Field:
        return Field(source, declared, name=declared.key, node=declared.key, limits=self._limits)

    @property
    def _fields(self) -> list[Field]:
        return [*self._fixed, *self._data, *self._stamps]

    # -- rows -----------------------------------------------------------------------------------

    def plan(self, batch: Batch, *, last: bool = False) -> Plan:
        """Decide how to store a batch.

        Parameters
        ----------
        batch : Batch
            Rows to store, perhaps none.
        last : bool
            Whether no more will come, so that every key gets its place now.

        Returns
        -------
        Plan
            To be given to `commit` when its steps are carried out. A plan may be dropped and made
            anew: what it has learned of the values stays true.
        """
        deviations, start = Deviations(), self.stored
        parsed = {
            field: self._absorb(field, batch.column(field.source, field.key), start, deviations)
            for field in self._fields
        }
        if last and (start or len(batch)):
            for field in self._fields:
                field.settle()
        layout = self._layout()
        signatures = {
            name: [(f.name, f.signature) for f in fields] for name, fields in layout.items()
        }
        outdated = [name for name, form in self._signatures.items() if signatures.get(name) != form]
        rebuilt = [
            name
            for name, fields in layout.items()
            if name in outdated or (name not in self._signatures and self._moves_in(fields))
        ]
        rebuilt_deviations = Deviations()
        rebuild = self._rebuild(outdated, {n: layout[n] for n in rebuilt}, rebuilt_deviations)
        steps = []
        for name, fields in layout.items():
            chunks = [field.pack(parsed[field], start, deviations) for field in fields]
            if start and name not in self._signatures and name not in rebuilt:
                before = [field.absent(start) for field in fields]
                steps.append(self._append(name, fields, before, 0))
            if len(batch):
                steps.append(self._append(name, fields, chunks, start))
        return Plan(
            rebuild,
            rebuilt,
            rebuilt_deviations,
            steps,
            batch,
            deviations,
            parsed,
            layout,
            signatures,
        )

    def _absorb(
        self, field: Field, values: Sequence[Any], start: int, deviations: Deviations
    ) -> Parsed:
        try:
            return field.absorb(values, start, deviations)
        except Exception:
            # An object that does not behave costs its key these rows, and nothing else.
            logger.exception("Stream %r: values of %r could not be read", self.name, field.key)
            for row_number, value in enumerate(values, start):
                deviations.add(field.key, Deviation.LEFT_OUT, row_number, value)
            return field.absorb([None] * len(values), start, deviations)

    def commit_rebuild(self, plan: Plan) -> None:
        """Take note that the rebuild of a plan is carried out."""
        for name in list(self._signatures):
            if plan.signatures.get(name) != self._signatures[name]:
                del self._signatures[name]
        for name in plan.rebuilt:
            self._settle_in(plan, name)
        self._deviations.update(plan.rebuilt_deviations)

    def commit(self, plan: Plan) -> None:
        """Take note that the steps of a plan are carried out."""
        for field, parsed in plan.parsed.items():
            field.remember_blank(parsed, self.stored)
        self._seq_nums.extend(_integers(plan.batch.column(Source.SEQ_NUM), self.stored))
        self.stored += len(plan.batch)
        self._deviations.update(plan.deviations)
        if self.stored:
            for name in plan.layout:
                self._settle_in(plan, name)

    def _settle_in(self, plan: Plan, name: str) -> None:
        self._signatures[name] = plan.signatures[name]
        for field in plan.layout[name]:
            field.stored_in = name

    def uncommitted(self, plan: Plan) -> list[Node]:
        """Nodes that the steps of a plan may have made, and that another plan may not want."""
        return [self._node(name) for name in plan.layout if name not in self._signatures]

    def notes(self) -> list[str]:
        """What was not stored as it came, in words; once all rows are stored."""
        for field in self._fields:
            field.note_missing(self._deviations)
        rows = self._deviations.notes(self.name, self._seq_nums.__getitem__)
        return [*self._notes, *rows, *self.external.notes()]

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes that hold data."""
        return [*self._signatures, *self.external.nodes]

    def _layout(self) -> dict[str, list[Field]]:
        """The nodes of the stream and the fields in each, as they have to be now.

        Tables come last: what a server refuses elsewhere becomes a column.
        """
        fields = self._fields
        layout = {f.node: [f] for f in fields if not f.storage_form.in_table and f.known}
        columns = {f.name: f for f in fields if f.storage_form.in_table}
        for node, names in parts(list(columns)):
            layout[node] = [columns[name] for name in names]
        return layout

    @staticmethod
    def _moves_in(fields: Sequence[Field]) -> bool:
        return any(field.stored_in is not None for field in fields)

    def _rebuild(
        self, outdated: Sequence[str], wanted: Mapping[str, Sequence[Field]], deviations: Deviations
    ) -> Rebuild | None:
        """Replace the nodes whose form has changed, and those whose keys moved elsewhere."""
        if not outdated:
            return None

        def remake(
            contents: Mapping[str, Content],
        ) -> list[AppendRows | ExtendArray | ExtendRagged]:
            return [
                self._append(name, fields, self._again(fields, contents, deviations), 0)
                for name, fields in wanted.items()
            ]

        return Rebuild([self._node(name) for name in outdated], self.stored, remake)

    def _again(
        self, fields: Sequence[Field], contents: Mapping[str, Content], deviations: Deviations
    ) -> list[Chunk]:
        return [
            field.absent(self.stored)
            if field.stored_in is None
            else field.again(contents[field.stored_in], deviations)
            for field in fields
        ]

    def _append(
        self, name: str, fields: Sequence[Field], chunks: Sequence[Chunk], start: int
    ) -> AppendRows | ExtendArray | ExtendRagged:
        # A node is made with its row 0: what that takes is not worked out for every batch.
        node = self._node(name, fields if start == 0 else ())
        if fields[0].storage_form.in_table:
            table = pa.Table.from_arrays(list(chunks), names=[field.name for field in fields])
            return AppendRows(node, start, table)
        (chunk,) = chunks
        if isinstance(chunk, RaggedRows):
            return ExtendRagged(node, start, chunk)
        assert isinstance(chunk, np.ndarray)
        return ExtendArray(node, start, chunk)

    def _node(self, name: str, fields: Sequence[Field] = ()) -> Node:
        if not fields:
            return Node(self.run, self.name, name)
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
        return Node(self.run, self.name, name, plain, self._access_tags, dims)


def _integers(seq_nums: Sequence[Any], start: int) -> Sequence[int]:
    """`seq_num` as it is meant to be; row_numbers where a document has something else."""
    try:
        return np.asarray(seq_nums, dtype=np.int64)  # type: ignore[return-value]
    except (TypeError, ValueError, OverflowError):
        return [start + i + 1 for i in range(len(seq_nums))]
