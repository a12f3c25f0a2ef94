"""`TaskExecutor`: what an attempt leaves behind is undone, steps on a node keep their order."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence

import pytest
from documents import RunBuilder, data_key

from bluesky_tiled_writer.delivery import Settings
from bluesky_tiled_writer.delivery.pipeline import Pipeline
from bluesky_tiled_writer.errors import ServerUnreachable
from bluesky_tiled_writer.run import CheckNodes, Discard, RunSettings, Step
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
