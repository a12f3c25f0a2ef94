"""Steps: what to do in Tiled, as facts that travel from a run to the sink.

A `Stream` decides on them, a `TaskExecutor` hands them over in order, and a `Sink` executes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from bluesky_tiled_writer.schema import BY_SEQ_NUM, Content, RaggedRows

if TYPE_CHECKING:
    from tiled.structures.data_source import DataSource

Metadata = Mapping[str, Any]
SpecName = tuple[str, str | None]
"""Name and version of a Tiled spec."""


@dataclass(frozen=True)
class Claim:
    """The right of a process to write a run that others may have, too.

    `token` stands for its copy of the documents, whatever process goes on with that. `documents`
    returns how many documents have come; infinity if no more will come.
    """

    token: str
    documents: Callable[[], float]


@dataclass(frozen=True)
class CreateRun:
    """Create the container of a run; without a claim, no other process writes it."""

    uid: str
    metadata: Metadata
    specs: Sequence[SpecName]
    access_tags: Sequence[str] | None = None
    claim: Claim | None = None


@dataclass(frozen=True)
class CreateStream:
    """Create the container of a stream."""

    run: str
    name: str
    metadata: Metadata
    specs: Sequence[SpecName]
    access_tags: Sequence[str] | None = None


@dataclass(frozen=True)
class UpdateMetadata:
    """Set top-level keys of the metadata of a run (`stream` is None), a stream or a node of it."""

    run: str
    stream: str | None
    values: Metadata
    node: str | None = None


@dataclass(frozen=True)
class Node:
    """A node of a stream that holds data.

    `metadata`, `access_tags` and `dims` are used when it is created, which is with its first rows.
    """

    run: str
    stream: str
    name: str
    metadata: Metadata = field(default_factory=dict, compare=False)
    access_tags: Sequence[str] | None = field(default=None, compare=False)
    dims: tuple[str, ...] | None = field(default=None, compare=False)

    @property
    def path(self) -> tuple[str, str, str]:
        """The path below the root of the writer."""
        return (self.run, self.stream, self.name)


@dataclass(frozen=True)
class AppendRows:
    """Append a table to a table node; its first row has the row number `start` in its stream.

    Sorted by the columns `order`, its rows and all before them are in the order of measurement.
    """

    node: Node
    start: int
    table: pa.Table
    order: tuple[str, ...] = BY_SEQ_NUM


@dataclass(frozen=True)
class ExtendArray:
    """Append a block, shape (rows, ...), to an array node; its first row has row number `start`."""

    node: Node
    start: int
    block: np.ndarray


@dataclass(frozen=True)
class ExtendRagged:
    """Append rows of varying lengths to a ragged node; the first has the row number `start`."""

    node: Node
    start: int
    rows: RaggedRows


@dataclass(frozen=True)
class RegisterAsset:
    """Create a node whose data are in the files of `source`."""

    node: Node
    source: DataSource


@dataclass(frozen=True)
class UpdateAsset:
    """Update a node to more files, or more rows in them: `source` describes all of them.

    In an array, the new block has the shape `shape` and is at `offset`.
    """

    node: Node
    source: DataSource
    shape: tuple[int, ...] | None = None
    offset: tuple[int, ...] | None = None


@dataclass(frozen=True)
class CorrectType:
    """Register the type of the elements that the files have, where no descriptor gives it.

    `found` is called with it, if it can be found out. Files are opened for that, if this computer
    has them: so the run must have stopped.
    """

    node: Node
    source: DataSource
    found: Callable[[Any], None]


@dataclass(frozen=True)
class CountRows:
    """Open the files of a node, if this computer has them, since their rows matter.

    `found` is called with the shapes of their data, and returns the data source to register
    instead; None if it stays as it is. The run must have stopped.
    """

    node: Node
    source: DataSource
    found: Callable[[Sequence[tuple[int, ...]]], DataSource | None]


@dataclass(frozen=True)
class Rebuild:
    """Replace nodes whose form no longer fits: read them, delete them, write them anew.

    `remake` takes what the nodes hold of the first `rows` rows of their stream, by name, and
    returns the steps that store it again.
    """

    nodes: Sequence[Node]
    rows: int
    remake: Callable[[Mapping[str, Content]], Sequence[AppendRows | ExtendArray | ExtendRagged]]


@dataclass(frozen=True)
class Discard:
    """Delete those of these nodes that exist: their rows will be stored elsewhere."""

    nodes: Sequence[Node]


@dataclass(frozen=True)
class Known:
    """The sum of the documents of a run: rows by stream, and the uid of the stop document.

    If `all_come`, they are not known yet, but whatever Tiled holds of the run will come again.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    stop: str | None = None
    all_come: bool = False

    def rows_of(self, stream: str) -> float:
        """Return how many rows of a stream Tiled may hold."""
        return math.inf if self.all_come else self.rows.get(stream, 0)


@dataclass(frozen=True)
class CheckHeld:
    """Make sure that Tiled holds no more rows of a run than can be sent again.

    `documents` returns how many those are; it is called only if Tiled had the run already. Without
    it the documents are not known yet, and Tiled may not hold any row.
    """

    run: str
    documents: Callable[[], Known] | None = None


@dataclass(frozen=True)
class Expected:
    """The rows that a node should hold and, if it is a table, its columns."""

    node: Node
    rows: int
    columns: Sequence[str] | None = None


@dataclass(frozen=True)
class CheckNodes:
    """Make sure that all nodes of a run hold what its streams have, and hold it once.

    What was sent is compared with `expected`; and, if any request went unanswered, what Tiled holds
    with what was sent. A node that differs is deleted, to be stored again, if `again` is True: all
    documents are still at hand then.
    """

    run: str
    again: bool
    expected: Sequence[Expected] = ()


@dataclass(frozen=True)
class AmendStop:
    """Put the stop document of a run in the place of one that was made for it, with notes.

    Nothing is done to a run that Tiled does not have.
    """

    run: str
    stop: Metadata
    notes: Sequence[str]


@dataclass(frozen=True)
class CloseNode:
    """Tell live subscribers of a run, a stream or a node that no more will come."""

    path: tuple[str, ...]


Step = (
    CreateRun
    | CreateStream
    | UpdateMetadata
    | AppendRows
    | ExtendArray
    | ExtendRagged
    | RegisterAsset
    | UpdateAsset
    | CorrectType
    | CountRows
    | Rebuild
    | Discard
    | CheckHeld
    | CheckNodes
    | AmendStop
    | CloseNode
)


class Sink(Protocol):
    """Executes steps.

    A row is known by its row number: rows that a node holds already are not sent again, so that
    executing a step twice counts once. This also holds after a failure, and for a new sink that
    does not know yet what Tiled holds, provided that it gets the steps from the run's first on.
    """

    def execute(self, step: Step) -> None:
        """Execute one step.

        Raises
        ------
        StorageError
            If Tiled refused, or could not be asked; see `errors`. The same step may be executed
            again; after `OutOfStep`, only by a new sink, after all steps before it.
        """
        ...
