"""A node in memory, stored and rebuilt as a stream does it: to see what a field makes of values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bluesky_tiled_writer.schema.data_key import DeclaredKey, Source
from bluesky_tiled_writer.schema.field import Field
from bluesky_tiled_writer.schema.limits import ServerLimits
from bluesky_tiled_writer.schema.notes import Deviations
from bluesky_tiled_writer.schema.ragged_rows import RaggedRows

from .values import in_batches


class Node:
    """The rows of one field.

    Parameters
    ----------
    data_key : dict
        What the descriptor says of it.
    refused : iterable of str
        What the server has refused before.
    options
        Of the field.
    """

    def __init__(self, data_key, *, refused=(), **options):
        limits = ServerLimits()
        for what in refused:
            limits.learn(what)
        declared = DeclaredKey.from_data_key("x", data_key)
        self.field = Field(Source.DATA, declared, name="x", node="x", limits=limits, **options)
        self.deviations = Deviations()
        self.content = None
        self.count = 0
        self.rebuilt = 0
        self._signature = None

    def store(self, values, *, last=False):
        field, start = self.field, self.count
        noted = Deviations()
        parsed = field.absorb(values, start, noted)
        if last:
            field.settle()
        if field.known:
            if self._signature is None and start:
                self.content = readable(field.absent(start))
            elif self._signature not in (None, field.signature):
                self.rebuilt += 1
                self.content = readable(field.again(self.content, noted))
            self._signature = field.signature
            chunk = readable(field.pack(parsed, start, noted))
            self.content = joined(self.content, chunk)
        field.remember_blank(parsed, start)
        self.deviations.update(noted)
        self.count += len(values)

    @property
    def rows(self):
        """The rows as plain values, with None for an empty cell and for NaN."""
        content = self.content
        if isinstance(content, pa.Table):
            return plain(content["x"].to_pylist())
        return plain([row.tolist() for row in content])

    @property
    def notes(self):
        """The notes of the field, sorted: their order is of no importance."""
        deviations = Deviations()
        deviations.update(self.deviations)
        rows = [range(row, row + 1) for part in self.field.missing for row in part]
        deviations.add_missing(self.field.label, rows)
        return sorted(deviations.notes("s", int))


def stored(data_key, values, sizes=(), **options):
    """Store values in batches of these sizes."""
    node = Node(data_key, **options)
    batches = list(in_batches(values, sizes))
    for i, (_, batch) in enumerate(batches):
        node.store(batch, last=i == len(batches) - 1)
    return node


def readable(chunk):
    """Return what is sent as it is read back: tables go through pandas, which knows no null."""
    if isinstance(chunk, RaggedRows):
        return list(chunk.rows)
    if isinstance(chunk, pa.Array):
        if pa.types.is_integer(chunk.type) and chunk.null_count:
            chunk = chunk.cast(pa.float64())
        return pa.table({"x": chunk})
    return chunk


def joined(before, after):
    if before is None:
        return after
    if isinstance(before, list):
        return before + after
    if isinstance(before, pa.Table):
        return pa.concat_tables([before, after], promote_options="permissive")
    return np.concatenate([before, after])


def plain(value):
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if value != value else value
