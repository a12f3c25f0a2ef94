"""Does the tasks of a run, one after the other: rows into steps, steps to the sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from .backlog import Backlog, Close, Declare, Expect, Finish, Perform, Register, Store, Task
from .batch import Batch
from .errors import StorageUnsupported
from .external import ExternalKey
from .jobs import Together, one_by_one
from .keeping import Keeping
from .metadata import to_json
from .steps import (
    AppendRows,
    CheckNodes,
    CloseNode,
    Discard,
    ExtendRagged,
    Rechunk,
    Sink,
    Step,
    UpdateMetadata,
)
from .stream import Stream

IN_DATABASE = (AppendRows, ExtendRagged)
"""Steps whose rows Tiled keeps in a database."""


class Delivery:
    """Does the tasks of one run, in the thread that calls it.

    A task that fails stays the first one, and is done again from where it failed: what was stored
    of it is known, or the sink finds out.

    Parameters
    ----------
    sink : Sink
        Carries out the steps.
    backlog : Backlog
        Has the tasks.
    on_stored : callable
        Called when the stop document is stored.
    together : callable, optional
        Calls functions that write to different nodes.
    keeping : Keeping, optional
        Keeps the documents of the run meanwhile. What is sent is on the disk before, so that
        whatever Tiled holds can be sent again.

    Attributes
    ----------
    rows, tasks : int
        Rows stored, and tasks done, so far.
    detours : int
        How often rows had to be stored otherwise, since Tiled turned out not to hold a type.
    closed : bool
        Whether the run is stored, and all done.
    """

    def __init__(
        self,
        sink: Sink,
        backlog: Backlog,
        on_stored: Callable[[], None],
        together: Together = one_by_one,
        keeping: Keeping | None = None,
    ) -> None:
        self.rows = 0
        self.tasks = 0
        self.detours = 0
        self.closed = False
        self._sink = sink
        self._backlog = backlog
        self._on_stored = on_stored
        self._together = together
        self._keeping = keeping or Keeping("")
        self._told: set[tuple[str, ...]] = set()  # nodes whose subscribers know of the end

    def deliver(self, rows: bool = True) -> None:
        """Do all that waits now; what comes meanwhile is for the next time.

        Parameters
        ----------
        rows : bool
            Whether this includes rows that are collected to be stored together.

        Raises
        ------
        StorageError
            If it cannot be done now, or at all; see `errors`.
        """
        count = self._backlog.gather() if rows else len(self._backlog)
        self._keeping.sync()
        for _ in range(count):
            if (task := self._backlog.head()) is None:
                break
            self._do(task)
            self._backlog.done(task)
            self.tasks += 1
        if rows:
            for stream in self._backlog.streams:
                self._register([key for key in stream.external if key.pending])
        self._sink.settle()

    def _do(self, task: Task) -> None:
        match task:
            case Perform():
                self._sink.carry_out(task.step)
            case Store():
                self._store(task, last=False)
            case Declare():
                task.stream.declare(task.new)
            case Expect():
                task.stream.expect([task.declared])
            case Register():
                self._take_datum(task)
            case Finish():
                self._finish(task)
            case Close():
                self._close(task)

    # -- rows -----------------------------------------------------------------------------------

    def _store(self, task: Store, *, last: bool) -> None:
        stream = task.stream
        while True:
            plan = stream.plan(task.batch, last=last)
            try:
                if plan.rebuild is not None:
                    self._sink.carry_out(plan.rebuild)
                    stream.commit_rebuild(plan)
                self._together(self._lanes(plan.steps))
            except StorageUnsupported:
                # The limits have learned of it: the next plan works around.
                self.detours += 1
                self._sink.carry_out(Discard(stream.uncommitted(plan)))
                continue
            break
        stream.commit(plan)
        self.rows += len(task.batch)

    def _lanes(self, steps: Sequence[Step]) -> list[Callable[[], None]]:
        """What may go on at the same time.

        Tables and ragged nodes are kept in one database, and must go one by one: on DuckDB all
        requests to a server share a connection, and so get into each other's transactions.
        """
        database: list[Step] = [step for step in steps if isinstance(step, IN_DATABASE)]
        # Tables first: a server that refuses them, too, is not taken for one without ragged nodes.
        database.sort(key=lambda step: isinstance(step, ExtendRagged))
        lanes: list[list[Step]] = [database] if database else []
        lanes += [[step] for step in steps if not isinstance(step, IN_DATABASE)]
        return [self._lane(lane) for lane in lanes]

    def _lane(self, steps: Sequence[Step]) -> Callable[[], None]:
        def carry_out() -> None:
            for step in steps:
                self._sink.carry_out(step)

        return carry_out

    # -- files ----------------------------------------------------------------------------------

    def _take_datum(self, task: Register) -> None:
        key = task.stream.external.key(task.resource)
        if key.must_register(task.resource):
            self._register([key])
        key.stream_datum(task.resource, task.datum)

    def _register(self, keys: Sequence[ExternalKey]) -> None:
        """Register all files and rows of external keys that wait."""
        self._together([lambda key=key: self._register_key(key) for key in keys])  # type: ignore[misc]

    def _register_key(self, key: ExternalKey) -> None:
        while steps := key.steps():
            try:
                for step in steps:
                    self._sink.carry_out(step)
            except StorageUnsupported as error:
                key.as_bytes(str(error))
                continue
            key.commit()

    # -- the end --------------------------------------------------------------------------------

    def _finish(self, task: Finish) -> None:
        streams = self._backlog.streams
        for stream in streams:
            self._store(Store(stream, Batch([])), last=True)
        self._register([key for stream in streams for key in stream.external])
        for stream in streams:
            for key in stream.external:
                if values := key.new_metadata():
                    update = UpdateMetadata(task.run, stream.name, values, key.node.name)
                    self._sink.carry_out(update)
        check = CheckNodes(task.run, again=self._keeping.can_repeat)
        self._sink.carry_out(check)
        if self._keeping.journaled:  # should the process end in between
            self._sink.carry_out(Rechunk(task.run))
            self._sink.carry_out(check)
        notes = list(task.notes)
        for stream in streams:
            notes += stream.notes()
        values = {"stop": task.stop}
        if notes:
            values["notes"], _ = to_json(list(dict.fromkeys(notes)))
        self._sink.carry_out(UpdateMetadata(task.run, None, values))
        self._on_stored()

    def _close(self, task: Close) -> None:
        streams = self._backlog.streams
        self._close_nodes(self._paths(task.run, streams))
        self._close_nodes([(task.run, stream.name) for stream in streams])
        self._close_nodes([(task.run,)])
        self.closed = True

    @staticmethod
    def _paths(run: str, streams: Sequence[Stream]) -> list[tuple[str, ...]]:
        return [(run, stream.name, node) for stream in streams for node in stream.nodes]

    def _close_nodes(self, paths: Sequence[tuple[str, ...]]) -> None:
        left = [path for path in paths if path not in self._told]
        self._together([partial(self._close_node, path) for path in left])

    def _close_node(self, path: tuple[str, ...]) -> None:
        self._sink.carry_out(CloseNode(path))
        self._told.add(path)
