"""A node in memory: rows of a table, of an array or of a ragged array, or a data source."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from bluesky_tiled_writer.run import (
    AppendRows,
    ExtendArray,
    ExtendRagged,
    RegisterAsset,
    UpdateAsset,
)
from bluesky_tiled_writer.schema import Content, NestedRow, Row, ragged_name


@dataclass
class MemoryNode:
    """The contents of one node, as Tiled would hold them.

    Parameters
    ----------
    form : tuple
        The structure family, and what all rows have in common: the schema of a table; the type
        and the shape of a row of an array or ragged array; the MIME type of files.
    rows : list
        One item a row: a dict of a table, a numpy array of an array or ragged array. Empty for
        files.
    metadata : dict
        Of the node.
    access_tags : sequence of str, optional
        Of the node.
    dims : tuple of str, optional
        Names of its dimensions.
    source : DataSource, optional
        The files, and the structure that the documents give them.
    patches : list of tuple
        Shape and offset of each block of an array in files that subscribers were told of.
    """

    form: tuple[Any, ...]
    rows: list[Any] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    access_tags: Sequence[str] | None = None
    dims: tuple[str, ...] | None = None
    source: Any = None
    patches: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    @classmethod
    def of(cls, step: AppendRows | ExtendArray | ExtendRagged | RegisterAsset) -> MemoryNode:
        """Return the node that a step would create if there were none."""
        node = step.node
        made = cls((), [], dict(node.metadata), node.access_tags, node.dims)
        match step:
            case AppendRows():
                made.form = ("table", step.table.schema)
                made.rows = step.table.to_pylist()
            case ExtendArray():
                made.form = ("array", step.block.dtype, step.block.shape[1:])
                made.rows = list(np.array(step.block))  # a copy, since the caller's may change
            case ExtendRagged():
                made.form = ("ragged", step.rows.dtype, tuple(step.rows.shape))
                made.rows = [_copy(row) for row in step.rows.rows]
            case RegisterAsset():
                made.form = ("files", step.source.structure_family, step.source.mimetype)
                made.source = dataclasses.replace(step.source, assets=list(step.source.assets))
        return made

    @property
    def columns(self) -> list[str] | None:
        """Names of the columns of a table; None for any other node."""
        return list(self.form[1].names) if self.form[0] == "table" else None

    @property
    def family(self) -> str:
        """The structure family: table, array or ragged; that of the data source for files."""
        return str(self.source.structure_family.value if self.in_files else self.form[0])

    @property
    def in_files(self) -> bool:
        """True if the rows are in files."""
        return bool(self.form[0] == "files")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.rows[row]

    def read(self) -> Content:
        """Return the rows as Tiled's client gives them.

        Returns
        -------
        pyarrow.Table, numpy.ndarray of shape (rows, ...), or list of numpy.ndarray

        Raises
        ------
        TypeError
            If they are in files: open those by `testing.open_files`.
        """
        match self.form:
            case ("table", schema):
                return pa.Table.from_pylist(self.rows, schema=schema)
            case ("array", dtype, shape):
                return np.array(self.rows, dtype).reshape(len(self.rows), *shape)
            case ("ragged", *_):
                return list(self.rows)
        raise TypeError("The rows are in files.")

    def extend(self, new: MemoryNode, skip: int) -> bool:
        """Append the rows of another node, of which the first `skip` must be the last ones here.

        Returns
        -------
        bool
            False if they are not, so that the nodes do not fit together.
        """
        start = len(self) - skip
        for mine, theirs in zip(self.rows[start:], new.rows, strict=False):
            if not same_value(mine, theirs):
                return False
        self.rows += new.rows[skip:]
        return True

    def update_source(self, step: UpdateAsset) -> None:
        """Take more files or rows; fewer than are known are those of an earlier step."""
        if _extent(step.source) >= _extent(self.source):
            self.source = dataclasses.replace(step.source, assets=list(step.source.assets))
        if step.shape is not None and step.offset is not None:
            self.patches.append((step.shape, step.offset))


def _extent(source: Any) -> tuple[int, int]:
    shape = getattr(source.structure, "shape", None) or (0,)
    return shape[0], len(source.assets)


def _copy(row: Row) -> Row:
    return row if isinstance(row, NestedRow) else np.array(row)


def needed_limits(node: MemoryNode) -> list[str]:
    """Return what the database must hold for a node, by the names of `ServerLimits.learn`."""
    match node.form:
        case ("table", schema):
            names = ["u8"] if pa.uint64() in schema.types else []
            return [*names, *(["lists"] if any(map(pa.types.is_list, schema.types)) else [])]
        case ("ragged", dtype, _):
            return [ragged_name(dtype)]
    return []


def same_value(mine: Any, theirs: Any) -> bool:
    """Return True if two values are equal, NaN being equal to NaN."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return mine.keys() == theirs.keys() and all(same_value(mine[k], theirs[k]) for k in mine)
    if isinstance(mine, list) and isinstance(theirs, list):
        return len(mine) == len(theirs) and all(map(same_value, mine, theirs))
    if isinstance(mine, NestedRow) and isinstance(theirs, NestedRow):
        return mine.dtype == theirs.dtype and same_value(mine.tolist(), theirs.tolist())
    if isinstance(mine, np.ndarray) or isinstance(theirs, np.ndarray):
        ours, other = np.asarray(mine), np.asarray(theirs)
        if ours.dtype != other.dtype or ours.shape != other.shape:
            return False
        return ours.tobytes() == other.tobytes() or bool(
            np.array_equal(ours, other, equal_nan=ours.dtype.kind in "fc")
        )
    return bool(mine == theirs) or (mine != mine and theirs != theirs)
