"""Executes the tasks of a run, its streams side by side: rows to steps, steps to the sink."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from bluesky_tiled_writer.errors import DeletionRefused, StorageUnsupported
from bluesky_tiled_writer.journal import DocumentCopies
from bluesky_tiled_writer.run import (
    AppendRows,
    Batch,
    CheckNodes,
    CloseNode,
    CloseRun,
    CreateStream,
    DeclareKeys,
    Discard,
    ExecuteStep,
    ExpectKey,
    ExtendArray,
    ExtendRagged,
    ExternalKey,
    FinishRun,
    Plan,
    RegisterDatum,
    Sink,
    Step,
    StoreRows,
    Stream,
    Task,
    TaskQueue,
    UpdateMetadata,
)
from bluesky_tiled_writer.schema import to_json

from .jobs import RunConcurrently, run_sequentially

NumberedTask = tuple[int, Task]


@dataclass
class Progress:
    """Counts of what the task executor has done.

    Parameters
    ----------
    rows, tasks : int
        Rows stored, and tasks executed before the first one that is left.
    detours : int
        How often rows had to be stored in another form, because Tiled refused the first.
    closed : bool
        True if the run is stored, and its nodes are closed.
    """

    rows: int = 0
    tasks: int = 0
    detours: int = 0
    closed: bool = False


class TaskExecutor:
    """Executes the tasks of one run, in the thread that calls it and those that help it.

    The tasks of a stream follow each other; those of different streams are executed at the same
    time. A task that fails stays in the queue with those that follow it in its stream, and is
    executed again: the sink knows, or asks Tiled, what was stored of it.

    Parameters
    ----------
    sink : Sink
        Executes the steps.
    queue : TaskQueue
        Has the tasks.
    on_stored : callable
        Called when the stop document is stored.
    run_concurrently : callable, optional
        Calls functions that write to different nodes, and may use it themselves.
    copies : DocumentCopies, optional
        The copies of the documents outside of Tiled. They are flushed to disk before anything is
        sent, so that whatever Tiled holds can be sent again.
    """

    def __init__(
        self,
        sink: Sink,
        queue: TaskQueue,
        on_stored: Callable[[], None],
        run_concurrently: RunConcurrently = run_sequentially,
        copies: DocumentCopies | None = None,
    ) -> None:
        self.progress = Progress()
        self._sink = sink
        self._queue = queue
        self._on_stored = on_stored
        self._run_concurrently = run_concurrently
        self._copies = copies or DocumentCopies("")
        self._lock = threading.Lock()  # guards the progress, which several streams make
        self._attempted: dict[str, Plan] = {}  # by stream: it failed, and may have made nodes
        self._closed_nodes: set[tuple[str, ...]] = set()

    def deliver(self, rows: bool = True) -> None:
        """Execute all that waits now; what comes meanwhile is for the next time.

        Parameters
        ----------
        rows : bool
            True to store rows, too, which are collected to be stored together.

        Raises
        ------
        StorageError
            If that fails now, or for good; see `errors`.
        """
        count = self._queue.gather() if rows else len(self._queue)
        self._copies.sync()
        try:
            for lanes in side_by_side(self._queue.first(count)):
                self._run_concurrently([partial(self._execute_in_order, lane) for lane in lanes])
        finally:
            self.progress.tasks = self._queue.passed
        if rows:
            streams = self._queue.streams
            self._register([key for stream in streams for key in stream.external if key.pending])

    def _execute_in_order(self, lane: Sequence[NumberedTask]) -> None:
        for number, task in lane:
            if number not in self._queue:  # the caller dropped what waits
                return
            self._execute(task)
            self._queue.done(number)

    def _execute(self, task: Task) -> None:
        match task:
            case ExecuteStep():
                self._sink.execute(task.step)
            case StoreRows():
                self._store(task, last=False)
            case DeclareKeys():
                task.stream.declare(task.new)
            case ExpectKey():
                task.stream.expect([task.declared])
            case RegisterDatum():
                self._take_datum(task)
            case FinishRun():
                self._finish(task)
            case CloseRun():
                self._close(task)

    # -- rows -----------------------------------------------------------------------------------

    def _store(self, task: StoreRows, *, last: bool) -> None:
        stream = task.stream
        while True:
            plan = stream.plan(task.batch, last=last)
            try:
                self._discard_leftovers(stream, plan)
                if plan.rebuild is not None:
                    self._sink.execute(plan.rebuild)
                    if not stream.commit_rebuild(plan):
                        continue
                for lanes in lanes_of(plan.steps):
                    self._run_concurrently([partial(self._execute_steps, lane) for lane in lanes])
            except StorageUnsupported as error:
                # The server limits have learned of it: the next plan avoids it.
                if isinstance(error, DeletionRefused):
                    attempted = self._attempted.get(stream.name)
                    if not stream.keep(attempted, error.nodes):
                        raise
                with self._lock:
                    self.progress.detours += 1
                continue
            break
        del self._attempted[stream.name]
        stream.commit(plan)
        with self._lock:
            self.progress.rows += len(task.batch)

    def _discard_leftovers(self, stream: Stream, plan: Plan) -> None:
        """Delete nodes that a failed plan may have made in a form that this one does not have.

        Limits may have been learned since, by this stream or by another one.
        """
        attempted = self._attempted.get(stream.name)
        if attempted is not None and (nodes := stream.left_behind(attempted, plan)):
            self._sink.execute(Discard(nodes))
        self._attempted[stream.name] = plan

    def _execute_steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._sink.execute(step)

    # -- files ----------------------------------------------------------------------------------

    def _take_datum(self, task: RegisterDatum) -> None:
        key = task.stream.external.key(task.resource)
        if key.must_register(task.resource):
            self._register([key])
        key.stream_datum(task.resource, task.datum)

    def _register(self, keys: Sequence[ExternalKey]) -> None:
        """Register all files and rows of external keys that wait."""
        self._run_concurrently([partial(self._register_key, key) for key in keys])

    def _register_key(self, key: ExternalKey) -> None:
        while steps := key.steps():
            try:
                for step in steps:
                    self._sink.execute(step)
            except StorageUnsupported as error:
                key.as_bytes(str(error))
                continue
            key.commit()

    # -- the end --------------------------------------------------------------------------------

    def _finish(self, task: FinishRun) -> None:
        streams = self._queue.streams
        left = [StoreRows(stream, Batch([])) for stream in streams]
        self._run_concurrently([partial(self._store, rows, last=True) for rows in left])
        keys = [key for stream in streams for key in stream.external]
        self._register(keys)
        self._run_concurrently([partial(self._describe, key) for key in keys])
        expected = [item for stream in streams for item in stream.expected]
        self._sink.execute(CheckNodes(task.run, self._copies.can_repeat, expected))
        notes = list(task.notes)
        for stream in streams:
            notes += stream.notes()
        values = {"stop": task.stop}
        if notes:
            values["notes"], _ = to_json(list(dict.fromkeys(notes)))
        self._sink.execute(UpdateMetadata(task.run, None, values))
        self._on_stored()

    def _describe(self, key: ExternalKey) -> None:
        """Store what only became known of the files of a key after they were registered."""
        for correct in (key.count_step, key.type_step):
            if (step := correct()) is not None:
                self._sink.execute(step)
        if values := key.new_metadata():
            node = key.node
            self._sink.execute(UpdateMetadata(node.run, node.stream, values, node.name))

    def _close(self, task: CloseRun) -> None:
        streams = self._queue.streams
        self._close_nodes(self._paths(task.run, streams))
        self._close_nodes([(task.run, stream.name) for stream in streams])
        self._close_nodes([(task.run,)])
        self.progress.closed = True

    @staticmethod
    def _paths(run: str, streams: Sequence[Stream]) -> list[tuple[str, ...]]:
        return [(run, stream.name, node) for stream in streams for node in stream.nodes]

    def _close_nodes(self, paths: Sequence[tuple[str, ...]]) -> None:
        left = [path for path in paths if path not in self._closed_nodes]
        self._run_concurrently([partial(self._close_node, path) for path in left])

    def _close_node(self, path: tuple[str, ...]) -> None:
        self._sink.execute(CloseNode(path))
        self._closed_nodes.add(path)


def side_by_side(tasks: Mapping[int, Task]) -> Iterator[list[list[NumberedTask]]]:
    """Yield lanes that may be executed at the same time; those yielded next come after them.

    The tasks of a stream are one lane, in their order. A task of the whole run is alone.
    """
    for is_alone, group in groupby(tasks.items(), lambda item: _stream_of(item[1]) is None):
        if is_alone:
            yield from ([[item]] for item in group)
            continue
        lanes: dict[str | None, list[NumberedTask]] = {}
        for number, task in group:
            lanes.setdefault(_stream_of(task), []).append((number, task))
        yield list(lanes.values())


def _stream_of(task: Task) -> str | None:
    match task:
        case ExecuteStep(CreateStream(name=name)) | ExecuteStep(UpdateMetadata(stream=name)):
            return name
        case DeclareKeys() | ExpectKey() | StoreRows() | RegisterDatum():
            return task.stream.name
    return None


def lanes_of(
    steps: Sequence[AppendRows | ExtendArray | ExtendRagged],
) -> Iterator[list[list[Step]]]:
    """Yield lanes of steps that may be executed at the same time, one for each node.

    Ragged nodes come after the others: a server that fails on tables, too, must not be taken for
    one that cannot hold ragged nodes.
    """
    for is_ragged in (False, True):
        lanes: dict[str, list[Step]] = {}
        for step in steps:
            if isinstance(step, ExtendRagged) is is_ragged:
                lanes.setdefault(step.node.name, []).append(step)
        yield list(lanes.values())
