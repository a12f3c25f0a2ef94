"""`TaskExecutor`: what an attempt leaves is undone; streams go side by side, each in order."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from documents import RunBuilder, data_key

from bluesky_tiled_writer.delivery import Sender, Settings
from bluesky_tiled_writer.delivery.pipeline import Pipeline
from bluesky_tiled_writer.errors import ServerUnreachable
from bluesky_tiled_writer.run import (
    AppendRows,
    CheckNodes,
    CloseNode,
    CreateRun,
    CreateStream,
    Discard,
    ExtendArray,
    ExtendRagged,
    RunSettings,
    Step,
)
from bluesky_tiled_writer.testing import MemoryServer, MemorySink

LENGTHS = [2, 0, 3, 1]


class FailingSink(MemorySink):
    """Fails once at the first step of a kind."""

    def __init__(self, server: MemoryServer, kind: type, settings: Settings) -> None:
        super().__init__(server, settings.run.limits)
        self.kind = kind
        self.failed = False

    def act(self, step: Step) -> None:
        if isinstance(step, self.kind) and not self.failed:
            self.failed = True
            raise ServerUnreachable("The server closed the connection.")
        super().act(step)


def ragged_run() -> RunBuilder:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "a": data_key("array", [None], dtype_numpy="<f8")})
    for i, length in enumerate(LENGTHS):
        run.event("primary", {"x": i, "a": [float(i)] * length})
    run.stop()
    return run


def feed(pipeline: Pipeline, run: RunBuilder) -> None:
    for name, doc in run.docs:
        pipeline.feed(name, copy.deepcopy(doc))


def test_a_node_that_could_not_be_deleted_at_once_is_deleted_later() -> None:
    settings = Settings(run=RunSettings(), normalizer=None)
    server = MemoryServer(unsupported=["ragged"])
    pipeline = Pipeline(settings, FailingSink(server, Discard, settings))
    run = ragged_run()
    feed(pipeline, run)
    with pytest.raises(ServerUnreachable):
        pipeline.deliver()
    pipeline.deliver()
    rows = server.rows(run.uid)
    assert [json.loads(row["a"]) for row in rows] == [[float(i)] * n for i, n in enumerate(LENGTHS)]
    assert "stop" in server.metadata(run.uid)


def test_the_check_before_the_stop_knows_all_nodes_and_columns() -> None:
    seen: list[CheckNodes] = []

    class Sink(MemorySink):
        def act(self, step: Step) -> None:
            if isinstance(step, CheckNodes):
                seen.append(step)
            super().act(step)

    settings = Settings(run=RunSettings(), normalizer=None)
    pipeline = Pipeline(settings, Sink(MemoryServer()))
    feed(pipeline, ragged_run())
    pipeline.deliver()
    found = {item.node.name: (item.rows, item.columns) for item in seen[0].expected}
    columns = ["seq_num", "time", "x", "ts_x", "ts_a"]
    assert found == {"internal": (4, columns), "a": (4, None)}


def test_steps_on_one_node_are_in_one_lane() -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 1})
    run.descriptor("primary", {"x": "number", "c": data_key("array", [2], dtype_numpy="<f8")})
    run.event("primary", {"x": 2, "c": [1, 2]})
    run.stop()

    def backwards(functions: Sequence[Callable[[], None]]) -> None:
        for function in reversed(functions):
            function()

    server = MemoryServer()
    settings = Settings(run=RunSettings(), normalizer=None)
    pipeline = Pipeline(settings, server.new_sink(), run_concurrently=backwards)
    feed(pipeline, run)
    pipeline.deliver()
    node = server.node(run.uid, "primary", "c")
    assert node is not None
    assert [list(row) for row in node.read()][1] == [1, 2]


# -- streams side by side -------------------------------------------------------------------------

STREAMS = ["baseline", "monitor", "primary"]


def run_of_streams(rows: int = 2) -> RunBuilder:
    run = RunBuilder()
    run.start()
    for stream in STREAMS:
        run.descriptor(stream, {"x": "number", "image": data_key("array", [2], dtype_numpy="<f8")})
    for stream in STREAMS:
        for i in range(rows):
            run.event(stream, {"x": i, "image": [float(i), 0.0]})
    run.stop()
    return run


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender(lambda: True, 1.0)
    sender._run = lambda: None  # type: ignore[method-assign]
    yield sender
    sender._workers.release()()


class RecordingSink(MemorySink):
    """Records the steps that take effect; a step may wait, or fail, before."""

    def __init__(self, server: MemoryServer, before: Callable[[Step], None]) -> None:
        super().__init__(server)
        self.before = before
        self.steps: list[Step] = []

    def act(self, step: Step) -> None:
        self.before(step)
        super().act(step)
        self.steps.append(step)


def stream_of(step: Step) -> str | None:
    match step:
        case CreateStream():
            return step.name
        case AppendRows() | ExtendArray():
            return step.node.stream
    return None


@pytest.mark.parametrize("kind", [CreateStream, AppendRows, ExtendArray, CloseNode])
def test_streams_do_not_wait_for_each_other(sender: Sender, kind: type) -> None:
    barrier = threading.Barrier(len(STREAMS), timeout=10.0)

    def meet(step: Step) -> None:
        if isinstance(step, kind) and not (isinstance(step, CloseNode) and len(step.path) < 2):
            barrier.wait()

    server = MemoryServer()
    sink = RecordingSink(server, meet)
    settings = Settings(run=RunSettings(), normalizer=None)
    pipeline = Pipeline(settings, sink, run_concurrently=sender.run_concurrently)
    run = run_of_streams()
    feed(pipeline, run)
    pipeline.deliver()
    for stream in STREAMS:
        of_stream = [type(step) for step in sink.steps if stream_of(step) == stream]
        assert of_stream[0] is CreateStream
        assert sorted(of_stream[1:], key=str) == sorted([AppendRows, ExtendArray], key=str)
        assert [row["x"] for row in server.rows(run.uid, stream)] == [0, 1]
    assert server.closed[-1] == (run.uid,)
    assert set(server.closed[-4:-1]) == {(run.uid, stream) for stream in STREAMS}
    assert pipeline.progress.rows == 2 * len(STREAMS)
    assert pipeline.progress.tasks == 1 + 3 * len(STREAMS) + 2


def test_a_stream_that_fails_holds_up_no_other_and_nothing_is_sent_twice(sender: Sender) -> None:
    all_at_work = threading.Barrier(len(STREAMS), timeout=10.0)
    broken = True

    def fail(step: Step) -> None:
        if broken and isinstance(step, AppendRows):
            all_at_work.wait()
            if step.node.stream == "monitor":
                raise ServerUnreachable("The server closed the connection.")

    server = MemoryServer()
    sink = RecordingSink(server, fail)
    settings = Settings(run=RunSettings(), normalizer=None)
    pipeline = Pipeline(settings, sink, run_concurrently=sender.run_concurrently)
    run = run_of_streams()
    stop = run.docs.pop()
    feed(pipeline, run)
    with pytest.raises(ServerUnreachable):
        pipeline.deliver()
    assert [len(server.rows(run.uid, stream)) for stream in STREAMS] == [2, 0, 2]
    assert pipeline.pending.rows == 2
    tasks = pipeline.progress.tasks
    run.docs.clear()
    for stream in STREAMS:
        run.event(stream, {"x": 2, "image": [2.0, 0.0]})
    feed(pipeline, run)
    with pytest.raises(ServerUnreachable):
        pipeline.deliver()
    assert [len(server.rows(run.uid, stream)) for stream in STREAMS] == [3, 0, 3]
    # What others store is no progress of the stream that fails: it must be given up in the end.
    assert pipeline.progress.tasks == tasks
    broken = False
    pipeline.feed(*stop)
    pipeline.deliver()
    for stream in STREAMS:
        assert [row["x"] for row in server.rows(run.uid, stream)] == [0, 1, 2]
        node = server.node(run.uid, stream, "image")
        assert node is not None
        assert [row[0] for row in node.read()] == [0, 1, 2]
    appends = [step for step in sink.steps if isinstance(step, AppendRows)]
    assert sum(len(step.table) for step in appends) == 3 * len(STREAMS)
    assert "stop" in server.metadata(run.uid)


def test_streams_that_meet_the_same_limit_at_the_same_time_both_go_around_it(
    sender: Sender,
) -> None:
    barrier = threading.Barrier(2, timeout=10.0)
    met: set[str] = set()

    def meet(step: Step) -> None:
        if isinstance(step, ExtendRagged) and step.node.stream not in met:
            met.add(step.node.stream)
            barrier.wait()

    server = MemoryServer(unsupported=["ragged"])
    sink = RecordingSink(server, meet)
    settings = Settings(run=RunSettings(limits=sink.limits), normalizer=None)
    pipeline = Pipeline(settings, sink, run_concurrently=sender.run_concurrently)
    run = RunBuilder()
    run.start()
    for stream in ("one", "two"):
        run.descriptor(stream, {"a": data_key("array", [None], dtype_numpy="<f8")})
        for length in LENGTHS:
            run.event(stream, {"a": [1.0] * length})
    run.stop()
    feed(pipeline, run)
    pipeline.deliver()
    for stream in ("one", "two"):
        rows = [json.loads(row["a"]) for row in server.rows(run.uid, stream)]
        assert rows == [[1.0] * length for length in LENGTHS]
        assert server.node(run.uid, stream, "a") is None


def test_what_another_stream_has_learned_leaves_nothing_behind() -> None:
    """The first attempt fails for another reason, and the second has a form without the node."""
    server = MemoryServer()
    settings = Settings(run=RunSettings(), normalizer=None)

    def fail(step: Step) -> None:
        if isinstance(step, ExtendRagged) and settings.run.limits.learn("ragged"):
            MemorySink.act(sink, step)  # it took effect
            raise ServerUnreachable("The server closed the connection.")

    sink = RecordingSink(server, fail)
    pipeline = Pipeline(settings, sink)
    run = ragged_run()
    feed(pipeline, run)
    with pytest.raises(ServerUnreachable):
        pipeline.deliver()
    assert server.node(run.uid, "primary", "a") is not None
    pipeline.deliver()
    assert server.node(run.uid, "primary", "a") is None
    table = server.node(run.uid, "primary", "internal")
    assert table is not None
    assert set(table.metadata) == {"x", "a"}
    rows = server.rows(run.uid)
    assert [json.loads(row["a"]) for row in rows] == [[float(i)] * n for i, n in enumerate(LENGTHS)]


def test_rows_that_were_dropped_meanwhile_are_not_sent() -> None:
    server = MemoryServer()

    def drop(step: Step) -> None:
        if isinstance(step, CreateStream) and step.name == "baseline":
            pipeline.clear()

    sink = RecordingSink(server, drop)
    pipeline = Pipeline(Settings(run=RunSettings(), normalizer=None), sink)
    feed(pipeline, run_of_streams())
    pipeline.deliver()
    assert [type(step) for step in sink.steps] == [CreateRun, CreateStream]
