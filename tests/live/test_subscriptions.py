"""Live subscribers get each row once and in order, and then the end of the stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ContextOn
from documents import RunBuilder, data_key, emit, emit_one_by_one
from tiled.client import from_context
from tiled.client.container import Container
from tree import stream_of

from bluesky_tiled_writer import TiledWriter

from .subscribers import NodeSubscriber, StreamsSubscriber

ROWS = 20

pytestmark = [
    pytest.mark.plugins,
    # Tiled's client, when it leaves a node in the very moment in which an update comes.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture
def container(context_on: ContextOn) -> Container:
    """A container of its own, since a subscriber is told of all runs beside its own."""
    return from_context(context_on("sqlite")).create_container(str(uuid.uuid4()))


@pytest.fixture
def writer(container: Container, journals: Path) -> Iterator[TiledWriter]:
    with TiledWriter(container, journal_directory=journals) as writer:
        yield writer


def wave(n: int) -> list[float]:
    return [float(n), -float(n)]


def run_of(rows: int) -> RunBuilder:
    """A run of a column of numbers, and of arrays."""
    run = RunBuilder()
    run.start()
    keys = {"n": "integer", "wave": data_key("array", [2], dtype_numpy="<f8")}
    run.descriptor("primary", keys)
    for n in range(rows):
        run.event("primary", {"n": n, "wave": wave(n)})
    run.stop()
    return run


def test_a_subscriber_of_a_node_gets_each_row_once_and_then_the_end(
    container: Container, writer: TiledWriter
) -> None:
    run = run_of(ROWS)
    emit_one_by_one(run.docs[:5], writer)
    stream = stream_of(container, run.uid)
    with NodeSubscriber(stream["internal"]) as table, NodeSubscriber(stream["wave"]) as array:
        emit_one_by_one(run.docs[5:], writer)
        assert table.rows_until_the_end() == list(range(ROWS))
        assert array.rows_until_the_end() == [wave(n) for n in range(ROWS)]


def test_who_subscribes_after_the_run_gets_the_same(
    container: Container, writer: TiledWriter
) -> None:
    run = run_of(ROWS)
    emit_one_by_one(run.docs, writer)
    assert writer.wait_for(run.uid)
    writer.close()  # by then, the streams are closed
    stream = stream_of(container, run.uid)
    with NodeSubscriber(stream["internal"]) as table, NodeSubscriber(stream["wave"]) as array:
        assert table.rows_until_the_end() == list(range(ROWS))
        assert array.rows_until_the_end() == [wave(n) for n in range(ROWS)]


def test_subscribe_to_streams_gets_each_row_of_each_run_once(
    container: Container, writer: TiledWriter
) -> None:
    with StreamsSubscriber(container) as subscriber:
        for _ in range(2):
            run = run_of(ROWS)
            emit_one_by_one(run.docs[:-1], writer)
            stream = stream_of(container, run.uid)
            # Theirs does not tell of the end.
            with NodeSubscriber(stream["internal"]) as table, NodeSubscriber(stream["wave"]) as w:
                emit(run.docs[-1:], writer)
                table.rows_until_the_end()
                w.rows_until_the_end()
            columns = (run.uid, "primary", "n")
            waves = (run.uid, "primary", "wave")
            subscriber.wait_for_rows(ROWS, *columns)
            subscriber.wait_for_rows(ROWS, *waves)
            assert subscriber.rows[columns] == list(range(ROWS))
            assert subscriber.rows[waves] == [wave(n) for n in range(ROWS)]
