"""The parts that a run goes through, put together: documents in, steps to Tiled out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from event_model import DocumentRouter

from bluesky_tiled_writer.consolidators import PathMap
from bluesky_tiled_writer.journal import DocumentCopies
from bluesky_tiled_writer.normalizer import RunNormalizer
from bluesky_tiled_writer.run import READY_BYTES, Known, RunWriter, Sink, TaskQueue
from bluesky_tiled_writer.schema import ServerLimits

from .jobs import RunConcurrently, run_sequentially
from .task_executor import TaskExecutor


@dataclass(frozen=True)
class Settings:
    """What of the settings of a writer a run depends on; see `TiledWriter`."""

    new_sink: Callable[[ServerLimits], Sink]
    limits: ServerLimits = field(default_factory=ServerLimits)
    normalizer: type[DocumentRouter] | None = RunNormalizer
    patches: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    spec_to_mimetype: Mapping[str, str] = field(default_factory=dict)
    batch_size: int = 10_000
    max_array_size: int = 0
    path_map: PathMap = field(default_factory=lambda: PathMap({}))


class Pipeline:
    """A run on its way from documents to Tiled; one that failed is replaced by a new one.

    Parameters
    ----------
    settings : Settings
        Of the writer.
    on_ready : callable
        Called when there is enough to store.
    on_stored : callable
        Called when the stop document is stored.
    together : callable, optional
        Calls functions that write to different nodes.
    max_pending_bytes : int, optional
        Bytes of rows that may wait. A quarter of them are enough to store, and about as much as
        there may be beyond them before that is noticed.
    keeping : DocumentCopies, optional
        Keeps the documents meanwhile.

    Attributes
    ----------
    straight : dict of str to callable
        By uid of a descriptor, what takes its events where nothing has to be done to them before:
        `EventBuffer.event`, after which `on_ready` may have to be called. Others go to `feed`.
    """

    def __init__(
        self,
        settings: Settings,
        on_ready: Callable[[], None],
        on_stored: Callable[[], None],
        run_concurrently: RunConcurrently = run_sequentially,
        max_pending_bytes: int | None = None,
        copies: DocumentCopies | None = None,
    ) -> None:
        self.queue = TaskQueue()
        self.writer = RunWriter(
            self.queue,
            on_ready,
            limits=settings.limits,
            batch_size=settings.batch_size,
            max_array_size=settings.max_array_size,
            path_map=settings.path_map,
            ready_bytes=min(READY_BYTES, (max_pending_bytes or 4 * READY_BYTES) // 4),
        )
        sink = settings.new_sink(settings.limits)
        self.delivery = TaskExecutor(sink, self.queue, on_stored, run_concurrently, copies)
        self.straight: dict[str, Callable[[Any], bool]] = {}
        self._first: Any = self.writer
        if settings.normalizer is not None:
            self._first = settings.normalizer(
                patches=dict(settings.patches),
                spec_to_mimetype=dict(settings.spec_to_mimetype),  # type: ignore[call-arg]
            )
            self._first.subscribe(self.writer.__call__)  # bound: Python calls it faster

    def feed(self, name: str, doc: Any) -> None:
        """Take a document."""
        self._first(name, doc)
        if name == "descriptor":
            self._go_straight(doc.get("uid"))

    def _go_straight(self, descriptor: Any) -> None:
        """Have its events skip a normalizer that does nothing to them; a user's class may look."""
        first = self._first
        plain = type(first) is RunNormalizer and first.leaves_alone(descriptor)
        buffer = self.writer.buffer(descriptor)
        if buffer is not None and (plain or first is self.writer):
            self.straight[descriptor] = buffer.event


ROWS_AT_ONCE = 50_000
"""Documents that are counted before what was kept of them is forgotten."""


def count_rows(documents: Iterable[tuple[str, Any]], settings: Settings) -> Known:
    """How many rows of each stream the documents of a run make that go through a pipeline."""
    pipeline = Pipeline(settings, lambda: None, lambda: None)
    stop = None
    for number, (name, doc) in enumerate(documents, 1):
        if name == "stop":
            stop = doc.get("uid")
        with suppress(Exception):  # it makes no rows then
            pipeline.feed(name, doc)
        if number % ROWS_AT_ONCE == 0:
            pipeline.queue.gather()
            pipeline.queue.forget_tasks()
    return Known(pipeline.writer.num_events, stop)
