"""Executes the tasks of a run, one after the other: rows to steps, steps to the sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bluesky_tiled_writer.errors import StorageUnsupported
from bluesky_tiled_writer.journal import DocumentCopies
from bluesky_tiled_writer.run import (
    AppendRows,
    Batch,
    CheckNodes,
    CloseNode,
    CloseRun,
    DeclareKeys,
    Discard,
    ExecuteStep,
    ExpectKey,
    ExtendArray,
    ExtendRagged,
    ExternalKey,
    FinishRun,
    Node,
    Rechunk,
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

IN_DATABASE = (AppendRows, ExtendRagged)
"""Steps whose rows Tiled keeps in a database."""


@dataclass
class Progress:
    """Counts of what the task executor has done.

    Parameters
    ----------
    rows, tasks : int
        Rows stored, and tasks executed.
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
    """Executes the tasks of one run, in the thread that calls it.

    A task that fails stays the first one, and is executed again: the sink knows, or asks Tiled,
    what was stored of it.

    Parameters
    ----------
    sink : Sink
        Executes the steps.
    queue : TaskQueue
        Has the tasks.
    on_stored : callable
        Called when the stop document is stored.
    run_concurrently : callable, optional
        Calls functions that write to different nodes.
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
        self._to_discard: list[Node] = []  # before anything else is stored
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
        for _ in range(count):
            if (task := self._queue.head()) is None:
                break
            self._execute(task)
            self._queue.done(task)
            self.progress.tasks += 1
        if rows:
            for stream in self._queue.streams:
                self._register([key for key in stream.external if key.pending])

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
            self._discard()
            plan = stream.plan(task.batch, last=last)
            try:
                if plan.rebuild is not None:
                    self._sink.execute(plan.rebuild)
                    if not stream.commit_rebuild(plan):
                        continue
                self._run_concurrently(self._lanes(plan.steps))
            except StorageUnsupported:
                # The server limits have learned of it: the next plan avoids it.
                self.progress.detours += 1
                self._to_discard += stream.uncommitted(plan)
                continue
            break
        stream.commit(plan)
        self.progress.rows += len(task.batch)

    def _discard(self) -> None:
        """Delete what a plan left behind that was given up; if that fails, it is still to do."""
        if self._to_discard:
            self._sink.execute(Discard(self._to_discard))
            self._to_discard = []

    def _lanes(
        self, steps: Sequence[AppendRows | ExtendArray | ExtendRagged]
    ) -> list[Callable[[], None]]:
        """Return functions that may run concurrently: steps on one node keep their order.

        Tables and ragged nodes are in one database, and are written one by one: on DuckDB all
        requests to a server share a connection, and so get into each other's transactions.
        """
        database = [step for step in steps if isinstance(step, IN_DATABASE)]
        # Tables first: a server that fails on them, too, must not be taken for one that cannot
        # hold ragged nodes.
        database.sort(key=lambda step: isinstance(step, ExtendRagged))
        lanes: dict[str, list[Step]] = {"": [*database]} if database else {}
        for step in steps:
            if not isinstance(step, IN_DATABASE):
                lanes.setdefault(step.node.name, []).append(step)
        return [self._lane(lane) for lane in lanes.values()]

    def _lane(self, steps: Sequence[Step]) -> Callable[[], None]:
        def execute() -> None:
            for step in steps:
                self._sink.execute(step)

        return execute

    # -- files ----------------------------------------------------------------------------------

    def _take_datum(self, task: RegisterDatum) -> None:
        key = task.stream.external.key(task.resource)
        if key.must_register(task.resource):
            self._register([key])
        key.stream_datum(task.resource, task.datum)

    def _register(self, keys: Sequence[ExternalKey]) -> None:
        """RegisterDatum all files and rows of external keys that wait."""
        self._run_concurrently([lambda key=key: self._register_key(key) for key in keys])  # type: ignore[misc]

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
        for stream in streams:
            self._store(StoreRows(stream, Batch([])), last=True)
        self._register([key for stream in streams for key in stream.external])
        for stream in streams:
            for key in stream.external:
                for correct in (key.count_step, key.type_step):
                    if (step := correct()) is not None:
                        self._sink.execute(step)
                if values := key.new_metadata():
                    update = UpdateMetadata(task.run, stream.name, values, key.node.name)
                    self._sink.execute(update)
        expected = [item for stream in streams for item in stream.expected]
        check = CheckNodes(task.run, self._copies.can_repeat, expected)
        self._sink.execute(check)
        if self._copies.journaled:  # in case that the process ends meanwhile
            self._sink.execute(Rechunk(task.run))
            self._sink.execute(check)
        notes = list(task.notes)
        for stream in streams:
            notes += stream.notes()
        values = {"stop": task.stop}
        if notes:
            values["notes"], _ = to_json(list(dict.fromkeys(notes)))
        self._sink.execute(UpdateMetadata(task.run, None, values))
        self._on_stored()

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
