"""A server in memory: it executes steps as Tiled would, and says what it holds.

It takes a run from documents to rows without HTTP, so that thousands of runs take seconds; and it
fails on demand, before or after a step takes effect, so that what a retry does can be tested.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from bluesky_tiled_writer.errors import (
    DocumentsIncomplete,
    OutOfStep,
    RunComplete,
    RunExists,
    ServerUnreachable,
    StorageError,
    StorageUnsupported,
)
from bluesky_tiled_writer.run import (
    AmendStop,
    AppendRows,
    CheckHeld,
    CheckNodes,
    CloseNode,
    CorrectType,
    CountRows,
    CreateRun,
    CreateStream,
    Discard,
    ExtendArray,
    ExtendRagged,
    Known,
    Rebuild,
    RegisterAsset,
    Step,
    UpdateAsset,
    UpdateMetadata,
    is_made,
)
from bluesky_tiled_writer.schema import Content, ServerLimits

from .memory_node import MemoryNode, needed_limits


class MemoryContainer:
    """A run or a stream."""

    def __init__(self, step: CreateRun | CreateStream) -> None:
        self.metadata = _in_json(step.metadata)
        self.specs = list(step.specs)
        self.access_tags = step.access_tags


class MemoryServer:
    """Runs, streams and nodes in memory.

    Parameters
    ----------
    unsupported : collection of str, optional
        What its database cannot hold, by the names of `ServerLimits.learn`: "u8", "lists",
        "ragged", "ragged u8". Such steps raise `StorageUnsupported`.

    Attributes
    ----------
    faults : list of str
        What happens to the steps to come, from the last item to the first: "before" raises
        `ServerUnreachable` before the step takes effect, "after" once it has, "" does nothing.
        When the list is empty, all goes well.
    containers : dict of tuple to MemoryContainer
        Runs and streams, by path.
    nodes : dict of tuple to MemoryNode
        Nodes that hold data, by path: run, stream, name.
    closed : list of tuple
        The paths that were closed to live subscribers, in order.
    steps : int
        Steps that took effect.
    """

    def __init__(self, unsupported: Sequence[str] = ()) -> None:
        self.faults: list[str] = []
        self.unsupported = frozenset(unsupported)
        self.containers: dict[tuple[str, ...], MemoryContainer] = {}
        self.nodes: dict[tuple[str, ...], MemoryNode] = {}
        self.closed: list[tuple[str, ...]] = []
        self.steps = 0
        self.lock = threading.RLock()

    def new_sink(self, limits: ServerLimits | None = None) -> MemorySink:
        """Return a sink that writes here; a run has one, and a new one after each failure."""
        return MemorySink(self, limits)

    def healthy(self) -> bool:
        """Return True: the server is there."""
        return True

    # -- what it holds --------------------------------------------------------------------------

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """The metadata of all runs, by uid."""
        with self.lock:
            items = list(self.containers.items())
        return {path[0]: item.metadata for path, item in items if len(path) == 1}

    def metadata(self, uid: str, stream: str | None = None) -> dict[str, Any]:
        """Return the metadata of a run, or of one of its streams.

        Raises
        ------
        KeyError
            If there is no such run or stream.
        """
        path = (uid,) if stream is None else (uid, stream)
        return self.containers[path].metadata

    def streams(self, uid: str) -> list[str]:
        """Return the names of the streams of a run, in the order in which they were created."""
        return [path[1] for path in self.containers if len(path) == 2 and path[0] == uid]

    def node(self, uid: str, stream: str, key: str) -> MemoryNode | None:
        """Return a node of a stream; None if it does not exist."""
        return self.nodes.get((uid, stream, key))

    def rows(self, uid: str, stream: str = "primary") -> list[dict[str, Any]]:
        """Return the rows of a stream's table, as dictionaries of all columns of all its parts."""
        parts = [
            node
            for path, node in self.nodes.items()
            if path[:2] == (uid, stream) and node.family == "table"
        ]
        count = min(map(len, parts), default=0)
        return [{k: v for part in parts for k, v in part[row].items()} for row in range(count)]


class MemorySink:
    """Executes steps in a `MemoryServer`, as `run.Sink` asks: a row that is there is not repeated.

    Parameters
    ----------
    server : MemoryServer
        Holds what steps say.
    limits : ServerLimits, optional
        Learns what the server does not hold.
    """

    def __init__(self, server: MemoryServer, limits: ServerLimits | None = None) -> None:
        self.server = server
        self.limits = limits or ServerLimits()
        self._adopted: dict[str, Mapping[str, Any]] = {}
        self._sent: dict[tuple[str, ...], int] = {}  # rows, by node
        self._salvaged: dict[tuple[str, ...], Content] = {}

    def execute(self, step: Step) -> None:
        """Execute a step, or fail as the server's `faults` say.

        Raises
        ------
        StorageError
            As `run.Sink`.
        """
        fault = ""
        if not isinstance(step, Rebuild):  # it has no request of its own
            with self.server.lock:
                fault = self.server.faults.pop() if self.server.faults else ""
        if fault == "before":
            raise ServerUnreachable("The connection was lost on the way to the server.")
        self.act(step)
        if fault == "after":
            raise ServerUnreachable("The connection was lost on the way from the server.")

    def act(self, step: Step) -> None:
        """Execute a step without any fault; override it to see each step."""
        with self.server.lock:
            self._act(step)
            self.server.steps += 1

    def _act(self, step: Step) -> None:
        match step:
            case CreateRun():
                self._create_run(step)
            case CreateStream():
                if (step.run,) not in self.server.containers:
                    raise OutOfStep(f"There is no run {step.run!r}.")
                path = (step.run, step.name)
                self.server.containers.setdefault(path, MemoryContainer(step))
            case UpdateMetadata():
                self._update_metadata(step)
            case AppendRows() | ExtendArray() | ExtendRagged():
                self._append(step)
            case RegisterAsset():
                self._register(step)
            case CorrectType():
                step.found(step.source.structure.data_type)
            case CountRows():
                pass  # there are no files
            case UpdateAsset():
                self._update_asset(step)
            case Rebuild():
                self._rebuild(step)
            case Discard():
                for node in step.nodes:
                    self._delete(node.path)
            case CheckHeld():
                self._check_held(step)
            case CheckNodes():
                self._check_nodes(step)
            case CloseNode():
                self.server.closed.append(tuple(step.path))
            case AmendStop():
                pass

    # -- containers -----------------------------------------------------------------------------

    def _create_run(self, step: CreateRun) -> None:
        there = self.server.containers.get((step.uid,))
        if there is None:
            self.server.containers[(step.uid,)] = MemoryContainer(step)
            return
        if there.metadata["start"] != _in_json(step.metadata["start"]):
            raise RunExists(f"There is another run with the uid {step.uid!r}.")
        if "stop" in there.metadata and not is_made(there.metadata["stop"]):
            raise RunComplete(f"The run {step.uid!r} is stored already.")
        self._adopted[step.uid] = dict(there.metadata)

    def _update_metadata(self, step: UpdateMetadata) -> None:
        path = tuple(part for part in (step.run, step.stream, step.node) if part is not None)
        holder = self.server.nodes if step.node is not None else self.server.containers
        if path not in holder:
            raise OutOfStep(f"There is no {'/'.join(path)}.")
        metadata = holder[path].metadata
        if "stop" in step.values and "notes" not in step.values:
            metadata.pop("notes", None)  # those of a stop document that was made up
        metadata.update(_in_json(step.values))

    def _check_held(self, step: CheckHeld) -> None:
        if (adopted := self._adopted.get(step.run)) is None:
            return
        known = step.documents() if step.documents is not None else Known()
        if "stop" in adopted and adopted["stop"].get("uid") == known.stop:
            raise RunComplete(f"The run {step.run!r} is stored already.")
        for path, node in self.server.nodes.items():
            if path[0] == step.run and not node.in_files:
                held, ours = len(node), known.rows_of(path[1])
                if held > ours:
                    raise DocumentsIncomplete(
                        f"{'/'.join(path)} has {held} rows, but the documents give {ours}."
                    )

    # -- nodes ----------------------------------------------------------------------------------

    def _append(self, step: AppendRows | ExtendArray | ExtendRagged) -> None:
        new, path = MemoryNode.of(step), step.node.path
        for limit in needed_limits(new):
            if limit in self.server.unsupported:
                self.limits.learn(limit)
                raise StorageUnsupported(f"The database cannot hold {limit!r} ({'/'.join(path)}).")
        there = self.server.nodes.get(path)
        if there is not None and there.form != new.form:
            if self._sent.get(path):
                raise TypeError(f"{'/'.join(path)} is {there.form}, and rows are {new.form}.")
            self._delete(path)  # the form that an earlier writer of this run had come to
            there = None
        held = 0 if there is None else len(there)
        if step.start > held:
            raise OutOfStep(f"Rows {held} to {step.start - 1} of {'/'.join(path)} are missing.")
        if there is None:
            self._require_stream(path)
            self.server.nodes[path] = new
        elif there.extend(new, held - step.start):
            pass
        else:
            self._delete(path)
            raise OutOfStep(f"{'/'.join(path)} holds other rows; it is stored again.")
        self._sent[path] = max(self._sent.get(path, 0), step.start + len(new))

    def _require_stream(self, path: tuple[str, ...]) -> None:
        if path[:2] not in self.server.containers:
            raise OutOfStep(f"There is no stream {'/'.join(path[:2])}.")

    def _register(self, step: RegisterAsset) -> None:
        path = step.node.path
        self._require_stream(path)
        there = self.server.nodes.get(path)
        if there is None or there.form != MemoryNode.of(step).form:
            self.server.nodes[path] = MemoryNode.of(step)

    def _update_asset(self, step: UpdateAsset) -> None:
        node = self.server.nodes.get(step.node.path)
        if node is None or not node.in_files:
            raise OutOfStep(f"{'/'.join(step.node.path)} is not registered.")
        node.update_source(step)

    def _delete(self, path: tuple[str, ...]) -> None:
        self.server.nodes.pop(path, None)
        self._sent.pop(path, None)

    def _rebuild(self, step: Rebuild) -> None:
        for node in step.nodes:
            if node.path not in self._salvaged:  # else this is done again, after a failure
                self._salvaged[node.path] = self._content(node.path, step.rows)
        remade = step.remake({node.name: self._salvaged[node.path] for node in step.nodes})
        for node in [*step.nodes, *(append.node for append in remade)]:
            self._delete(node.path)
        for append in remade:
            self.execute(append)
        for node in step.nodes:
            del self._salvaged[node.path]

    def _content(self, path: tuple[str, ...], rows: int) -> Content:
        node = self.server.nodes.get(path)
        if node is None or len(node) < rows:
            raise OutOfStep(f"{'/'.join(path)} has lost rows.")
        return node.read()[:rows]

    def _check_nodes(self, step: CheckNodes) -> None:
        for expected in step.expected:
            found = self.server.nodes.get(expected.node.path)
            if found is None or len(found) != expected.rows or found.columns != expected.columns:
                raise OutOfStep(f"{'/'.join(expected.node.path)} lacks rows or columns.")
        for path, sent in list(self._sent.items()):
            held = len(self.server.nodes.get(path, ()))
            if path[0] != step.run or held == sent:
                continue
            what = f"{'/'.join(path)} holds {held} rows where {sent} were sent"
            if not step.again:
                raise StorageError(f"{what}.")
            self._delete(path)
            raise OutOfStep(f"{what}; it is stored again.")


def _in_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as they come back from a server; a TypeError or ValueError if not JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(metadata, allow_nan=False))
    return plain
