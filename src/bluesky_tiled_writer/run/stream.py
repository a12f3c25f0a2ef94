"""One stream of a run: plans the steps that store its rows.

`Stream.plan` decides which steps store a batch; `commit` is told once they were executed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
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
    Parsed,
    RaggedRows,
    RowNumbers,
    RowOrder,
    SeqNums,
    Source,
)

from .batch import Batch
from .external import ExternalKeys
from .plan import Plan
from .settings import RunSettings
from .steps import AppendRows, Expected, ExtendArray, ExtendRagged, Node, Rebuild
from .stream_fields import AnyField, StreamFields
from .verbatim import VerbatimValues

logger = logging.getLogger("bluesky_tiled_writer")


class Stream:
    """The event data of one stream.

    Parameters
    ----------
    run : str
        Uid of the run.
    name : str
        Name of the stream.
    settings : RunSettings
        Of the run: its `limits` and `max_array_size`.
    access_tags : sequence of str, optional
        Set on every node.
    """

    def __init__(
        self,
        run: str,
        name: str,
        settings: RunSettings,
        access_tags: Sequence[str] | None = None,
    ) -> None:
        self.run = run
        self.name = name
        self.stored = 0
        self.data_keys: dict[str, DeclaredKey] = {}
        self._access_tags = access_tags
        self._fields = StreamFields(name, settings)
        self.external = ExternalKeys(run, name, self.data_keys, self._fields.name_node, access_tags)
        self._signatures: dict[str, Any] = {}
        self._contents: dict[str, Sequence[AnyField]] = {}  # of the same nodes
        self._seq_nums = SeqNums()
        self._order = RowOrder()
        self._deviations = Deviations()
        self._verbatim = VerbatimValues(self._fields, self._deviations)
        self._missing_noted: set[Field] = set()

    def declare(self, new: Sequence[DeclaredKey]) -> None:
        """Take the data keys of a descriptor that no earlier one had."""
        self.data_keys.update((declared.key, declared) for declared in new)
        self.expect([declared for declared in new if not declared.external])

    def expect(self, new: Sequence[DeclaredKey]) -> None:
        """Add fields for keys whose values come with the events from here on."""
        self._fields.refresh_limits()
        self._fields.add(new, born=self.stored)

    def plan(self, batch: Batch, *, last: bool = False) -> Plan:
        """Decide how to store a batch.

        Parameters
        ----------
        batch : Batch
            Rows to store, perhaps none.
        last : bool
            True if no more will come, so that every key gets its storage form now.

        Returns
        -------
        Plan
            For `commit`, once its steps were executed. A plan may be dropped and made anew: what
            was learned of the values while planning stays true.
        """
        self._fields.refresh_limits()
        kept = {} if self._fields.may_delete else self._fix_forms()
        deviations, start = Deviations(), self.stored
        parsed, chunks = self._encode(batch, deviations, last)
        late = self._verbatim.add_fields(deviations, start)
        for field in self._verbatim:
            parsed[field] = self._verbatim.parsed(field, deviations, start, start + len(batch))
            chunks[field] = field.pack(parsed[field], start, Deviations())
        order = self._order.after(*(parsed[field] for field in self._fields.fixed))
        layout = self._fields.layout(order, kept)
        for numbers in self._fields.row_numbers:
            parsed[numbers] = chunks[numbers] = numbers.batch(start, len(batch))
        forms = {name: [(f.name, f.signature) for f in fields] for name, fields in layout.items()}
        outdated = [
            name
            for name, form in self._signatures.items()
            if name not in kept and (forms.get(name) != form or name in late)
        ]
        rebuilt = [
            name
            for name, fields in layout.items()
            if name in outdated or (name not in self._signatures and self._moves_in(fields))
        ]
        rebuilt_deviations = Deviations()
        rebuild = self._rebuild(
            outdated, {n: layout[n] for n in rebuilt}, order, rebuilt_deviations
        )
        steps = []
        for name, fields in layout.items():
            if start and name not in self._signatures and name not in rebuilt:
                before = [
                    self._verbatim.before(field, start)
                    if isinstance(field, Field) and field.source is Source.VERBATIM
                    else field.absent(start)
                    for field in fields
                ]
                steps.append(self._append(name, fields, before, 0, order))
            if len(batch):
                batches = [chunks[field] for field in fields]
                steps.append(self._append(name, fields, batches, start, order))
        return Plan(
            rebuild=rebuild,
            rebuilt=rebuilt,
            rebuilt_deviations=rebuilt_deviations,
            steps=steps,
            batch=batch,
            deviations=deviations,
            parsed=parsed,
            layout=layout,
            forms=forms,
            order=order,
        )

    def _fix_forms(self) -> Mapping[str, Sequence[AnyField]]:
        """Let all nodes stay as they are from now on; return them, and the fields in each."""
        for fields in self._contents.values():
            for field in fields:
                field.fix_form()
        return self._contents

    def keep(self, attempted: Plan | None, nodes: Sequence[Node]) -> bool:
        """Take note that nodes cannot be deleted, of which a failed plan may have made some.

        Returns
        -------
        bool
            False if they are of no use, since their form is not known any more.
        """
        self._fields.refresh_limits()
        for name in {node.name for node in nodes} - self._signatures.keys():
            if attempted is None or name not in attempted.layout:
                return False
            if [(f.name, f.signature) for f in attempted.layout[name]] != attempted.forms[name]:
                return False
            self._settle_in(attempted, name)
        return True

    def _encode(
        self, batch: Batch, deviations: Deviations, last: bool
    ) -> tuple[dict[AnyField, Parsed], dict[AnyField, Chunk]]:
        """Parse the values of a batch, and bring them into the forms that hold all values."""
        start = self.stored
        fields = [field for field in self._fields if field.source is not Source.VERBATIM]
        parsed: dict[AnyField, Parsed] = {
            field: self._absorb(field, batch.column(field.source, field.key), start, deviations)
            for field in fields
        }
        if last and (start or len(batch)):
            for field in fields:
                field.settle()
            self._keep_missing()
        known = [field for field in fields if field.known or field.storage_form.in_table]
        return parsed, {field: field.pack(parsed[field], start, deviations) for field in known}

    def _absorb(
        self, field: Field, values: Sequence[Any], start: int, deviations: Deviations
    ) -> Parsed:
        try:
            return field.absorb(values, start, deviations)
        except Exception:
            # An object whose methods raise costs its key these rows, and nothing else.
            logger.exception("Stream %r: values of %r could not be read", self.name, field.key)
            for row_number, value in enumerate(values, start):
                deviations.add(field.label, Deviation.LEFT_OUT, row_number, value)
            return field.absorb([None] * len(values), start, deviations)

    def _keep_missing(self) -> None:
        """Take note of the rows without a value, once the forms of all keys are settled."""
        for field in self._fields:
            if field not in self._missing_noted and (missing := field.missing):
                self._missing_noted.add(field)
                parts = [part for rows in missing for part in self._seq_nums.split(rows)]
                self._deviations.add_missing(field.label, parts)

    def commit_rebuild(self, plan: Plan) -> bool:
        """Take note that the rebuild of a plan was executed.

        Returns
        -------
        bool
            True if the plan goes on. False if values were found that are to be kept beside their
            key, so that the batch needs another plan.
        """
        for name in list(self._signatures):
            if plan.forms.get(name) != self._signatures[name]:
                del self._signatures[name], self._contents[name]
        for name in plan.rebuilt:
            self._settle_in(plan, name)
        return self._verbatim.commit_rebuild(plan.rebuilt, plan.rebuilt_deviations)

    def commit(self, plan: Plan) -> None:
        """Take note that the steps of a plan were executed."""
        for field, parsed in plan.parsed.items():
            field.remember_blank(parsed, self.stored)
        self._seq_nums.extend(_integers(plan.batch.column(Source.SEQ_NUM), self.stored))
        self.stored += len(plan.batch)
        self._order = plan.order
        self._deviations.update(plan.deviations)
        for field in plan.parsed:
            if field.source is Source.VERBATIM:
                self._deviations.forget(field.key)
        if self.stored:
            for name in plan.layout:
                self._settle_in(plan, name)

    def _settle_in(self, plan: Plan, name: str) -> None:
        is_new = self._signatures.get(name) != plan.forms[name]
        self._signatures[name], self._contents[name] = plan.forms[name], plan.layout[name]
        for field in plan.layout[name]:
            field.stored_in = name
            if is_new:
                field.remember_form()

    def left_behind(self, attempted: Plan, plan: Plan) -> list[Node]:
        """Return nodes that an earlier plan may have made in a form that this one does not have."""
        return [
            self._node(name)
            for name, form in attempted.forms.items()
            if name not in self._signatures and plan.forms.get(name) != form
        ]

    def notes(self) -> list[str]:
        """Return what was not stored as it came, in words, once all rows are stored."""
        self._keep_missing()
        rows = self._deviations.notes(self.name, self._seq_nums.__getitem__)
        of_server = self._fields.server_notes() if self.stored else []
        return [
            *self._fields.notes,
            *self._fields.naming_notes(),
            *rows,
            *self.external.notes(),
            *of_server,
        ]

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes that hold data."""
        return [*self._signatures, *self.external.nodes]

    @property
    def expected(self) -> list[Expected]:
        """The rows that nodes with data in Tiled should hold, by what was committed."""
        return [
            Expected(self._node(name), self.stored, _columns(form))
            for name, form in self._signatures.items()
        ]

    @staticmethod
    def _moves_in(fields: Sequence[AnyField]) -> bool:
        return any(field.stored_in is not None for field in fields)

    def _rebuild(
        self,
        outdated: Sequence[str],
        wanted: Mapping[str, Sequence[AnyField]],
        order: RowOrder,
        deviations: Deviations,
    ) -> Rebuild | None:
        """Return a step that writes nodes anew whose form has changed, or whose keys moved."""
        if not outdated:
            return None

        def remake(
            contents: Mapping[str, Content],
        ) -> list[AppendRows | ExtendArray | ExtendRagged]:
            again = self._again(wanted.values(), contents, deviations)
            return [
                self._append(name, fields, [again[field] for field in fields], 0, order)
                for name, fields in wanted.items()
            ]

        return Rebuild([self._node(name) for name in outdated], self.stored, remake)

    def _again(
        self,
        nodes: Iterable[Sequence[AnyField]],
        contents: Mapping[str, Content],
        deviations: Deviations,
    ) -> dict[AnyField, Chunk]:
        """Return the rows of all fields of some nodes, in the forms that they have now."""
        fields = [field for node in nodes for field in node]
        # What the new form of a key does not hold exactly is kept with what is kept of it already.
        fields.sort(key=lambda field: field.source is Source.VERBATIM)
        again: dict[AnyField, Chunk] = {}
        for field in fields:
            if isinstance(field, Field) and field.source is Source.VERBATIM:
                again[field] = self._verbatim.again(field, contents, deviations, self.stored)
            elif field.stored_in is None:
                again[field] = field.absent(self.stored)
            else:
                again[field] = field.again(contents[field.stored_in], deviations)
        return again

    def _append(
        self,
        name: str,
        fields: Sequence[AnyField],
        chunks: Sequence[Chunk],
        start: int,
        order: RowOrder,
    ) -> AppendRows | ExtendArray | ExtendRagged:
        # Only the step with row 0 creates the node, and needs its metadata.
        node = self._node(name, fields if start == 0 else ())
        if fields[0].storage_form.in_table:
            names = [field.name for field in fields]
            table = pa.Table.from_arrays(list(chunks), names=names)
            # The number of the row is the last column, if there is one.
            numbered = (names[-1],) if isinstance(fields[-1], RowNumbers) else ()
            by = order.columns(names) or numbered or order.best_columns(names)
            return AppendRows(node, start, table, by)
        (chunk,) = chunks
        if isinstance(chunk, RaggedRows):
            return ExtendRagged(node, start, chunk)
        assert isinstance(chunk, np.ndarray)
        return ExtendArray(node, start, chunk)

    def _node(self, name: str, fields: Sequence[AnyField] = ()) -> Node:
        if not fields:
            return Node(self.run, self.name, name)
        metadata, dims = self._fields.describe(fields)
        return Node(self.run, self.name, name, metadata, self._access_tags, dims)


def _integers(seq_nums: Sequence[Any], start: int) -> Sequence[int]:
    """Return `seq_num` as integers, for notes; row numbers where a document has anything else."""
    try:
        integers = np.asarray(seq_nums, dtype=np.int64)
    except Exception:  # any object may be in its place
        integers = np.array(())
    if integers.shape == (len(seq_nums),):
        return integers  # type: ignore[return-value]
    return [start + i + 1 for i in range(len(seq_nums))]


def _columns(form: Any) -> list[str] | None:
    """Return the names in the signature of a table; None for that of another node."""
    return [name for name, _ in form] if isinstance(form[0][1], pa.DataType) else None
