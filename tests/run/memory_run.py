"""A run whose tasks are done in memory: what Tiled would hold of it, without server or thread."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from bluesky_tiled_writer.run import (
    AppendRows,
    Batch,
    CreateRun,
    CreateStream,
    DeclareKeys,
    ExecuteStep,
    ExpectKey,
    ExtendArray,
    ExtendRagged,
    FinishRun,
    RegisterAsset,
    RegisterDatum,
    RunSettings,
    RunWriter,
    StoreRows,
    Stream,
    Task,
    TaskQueue,
    UpdateAsset,
    UpdateMetadata,
)

NodePath = tuple[str, ...]


def take_out(queue: TaskQueue) -> Iterator[Task]:
    """Yield the tasks in order; each is done when the next one is asked for."""
    while tasks := queue.first(1):
        for number, task in tasks.items():
            yield task
            queue.done(number)


class MemoryRun:
    """Documents in, contents of nodes out.

    Attributes
    ----------
    nodes : dict
        By path, a table, a block of rows or a list of ragged rows.
    sources : dict
        By path, the latest data source of an external node.
    metadata : dict
        By path, of the run, its streams and its nodes.
    notes : list of str
        Of the run, once it is stopped.
    """

    def __init__(self, **settings: Any) -> None:
        self.queue = TaskQueue()
        self.writer = RunWriter(self.queue, RunSettings(**settings))
        self.nodes: dict[NodePath, Any] = {}
        self.sources: dict[NodePath, Any] = {}
        self.metadata: dict[NodePath, dict[str, Any]] = {}
        self.notes: list[str] = []

    def emit(self, docs: Iterable[tuple[str, Any]]) -> None:
        for name, doc in docs:
            self.writer(name, copy.deepcopy(doc))

    def deliver(self) -> list[Task]:
        """Do all tasks; return them."""
        self.queue.gather()
        done = []
        for task in take_out(self.queue):
            self._do(task)
            done.append(task)
        return done

    def _do(self, task: Task) -> None:
        match task:
            case ExecuteStep():
                self._execute(task.step)
            case StoreRows():
                self._store(task.stream, task.batch)
            case DeclareKeys():
                task.stream.declare(task.new)
            case ExpectKey():
                task.stream.expect([task.declared])
            case RegisterDatum():
                task.stream.external.key(task.resource).stream_datum(task.resource, task.datum)
            case FinishRun():
                self._finish(task)

    def _finish(self, task: FinishRun) -> None:
        self.notes = list(task.notes)
        for stream in self.queue.streams:
            self._store(stream, Batch([]), last=True)
            for key in stream.external:
                for step in key.steps():
                    self._execute(step)
                key.commit()
            self.notes += stream.notes()
        self.metadata[task.run,]["stop"] = task.stop

    def _store(self, stream: Stream, batch: Batch, *, last: bool = False) -> None:
        plan = stream.plan(batch, last=last)
        if (rebuild := plan.rebuild) is not None:
            contents = {node.name: self.nodes.pop(node.path) for node in rebuild.nodes}
            for node in rebuild.nodes:
                del self.metadata[node.path]
            for step in rebuild.remake(contents):
                self._execute(step)
            if not stream.commit_rebuild(plan):
                return self._store(stream, batch, last=last)
        for step in plan.steps:
            self._execute(step)
        return stream.commit(plan)

    def _execute(self, step: Any) -> None:
        match step:
            case CreateRun():
                self.metadata[step.uid,] = dict(step.metadata)
            case CreateStream():
                self.metadata[step.run, step.name] = dict(step.metadata)
            case UpdateMetadata():
                path = (step.run,) if step.stream is None else (step.run, step.stream)
                self.metadata[path].update(step.values)
            case RegisterAsset() | UpdateAsset():
                self.sources[step.node.path] = step.source
            case AppendRows():
                self._append(step, step.table, lambda old, new: pa.concat_tables([old, new]))
            case ExtendArray():
                self._append(step, step.block, lambda old, new: np.concatenate([old, new]))
            case ExtendRagged():
                self._append(step, list(step.rows.rows), lambda old, new: old + new)

    def _append(self, step: Any, rows: Any, join: Any) -> None:
        path = step.node.path
        if step.start == 0:
            assert path not in self.nodes
            self.nodes[path] = rows
            self.metadata[path] = dict(step.node.metadata)
        else:
            assert step.start == len(self.nodes[path])
            self.nodes[path] = join(self.nodes[path], rows)

    # -- what is in it --------------------------------------------------------------------------

    @property
    def uid(self) -> str:
        return next(path[0] for path in self.metadata)

    def columns(self, stream: str = "primary") -> dict[str, list[Any]]:
        """The table of a stream, as Python values."""
        values: dict[str, list[Any]] = self.nodes[self.uid, stream, "internal"].to_pydict()
        return values

    def contents(self) -> dict[NodePath, Any]:
        """Everything in nodes, comparable."""
        return {path: _plain(content) for path, content in self.nodes.items()}


def _plain(content: Any) -> Any:
    if isinstance(content, pa.Table):
        return repr(content.schema), repr(content.to_pydict())
    if isinstance(content, np.ndarray):
        return content.dtype, content.shape, repr(content.tolist())
    return [(row.dtype, row.shape, repr(row.tolist())) for row in content]
