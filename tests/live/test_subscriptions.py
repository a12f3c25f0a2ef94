"""Live subscribers get each row once and in order, and then the end of the stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
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
    # Tiled's client takes the connection that it has closed itself for the end of the stream.
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


def widened_run() -> RunBuilder:
    """A run whose arrays are found to be no integers after some rows."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"wave": data_key("array", [2], dtype_numpy="<i4")})
    for n in range(ROWS):
        run.event("primary", {"wave": wave(n) if n < ROWS // 2 else [n + 0.5, n]})
    run.stop()
    return run


def widened_rows() -> list[list[float]]:
    return [wave(n) if n < ROWS // 2 else [n + 0.5, n] for n in range(ROWS)]


def emit_until_widened(container: Container, writer: TiledWriter, run: RunBuilder) -> None:
    """Send the rows that are integers, and see to it that no number in the catalog comes again."""
    emit_one_by_one(run.docs[: 2 + ROWS // 2], writer)
    container.create_container("later")


def test_the_stream_of_a_node_ends_where_it_is_widened(
    container: Container, writer: TiledWriter
) -> None:
    run = widened_run()
    emit_until_widened(container, writer, run)
    with NodeSubscriber(stream_of(container, run.uid)["wave"]) as before:
        emit_one_by_one(run.docs[2 + ROWS // 2 : -1], writer)
        assert before.rows_until_the_end() == [wave(n) for n in range(ROWS // 2)]
    with NodeSubscriber(stream_of(container, run.uid)["wave"]) as again:
        emit(run.docs[-1:], writer)
        assert again.rows_until_the_end() == widened_rows()


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="bluesky-tiled-plugins 2.0.12 does not notice the end of a stream, and so not the node"
    " that follows it. If it does now: docs/how-to/watch-a-scan.md, section Limits",
)
def test_subscribe_to_streams_goes_on_with_a_widened_node(
    container: Container, writer: TiledWriter
) -> None:
    run = widened_run()
    with StreamsSubscriber(container) as subscriber:
        emit_until_widened(container, writer, run)
        emit_one_by_one(run.docs[2 + ROWS // 2 : -1], writer)
        with NodeSubscriber(stream_of(container, run.uid)["wave"]) as node:
            emit(run.docs[-1:], writer)
            node.rows_until_the_end()
    got = subscriber.rows[run.uid, "primary", "wave"]
    assert got[ROWS // 2 :] == widened_rows()


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="with its catalog in SQLite, Tiled 0.2.20 gives the newest node's number again after"
    " its deletion. If not any more: docs/how-to/watch-a-scan.md, section Limits",
)
def test_a_new_node_has_nothing_of_a_deleted_one(container: Container) -> None:
    container.write_array(np.arange(3), key="a")
    container.delete_contents("a", external_only=False)
    node = container.write_array(np.arange(3, 6), key="a")
    node.close_stream()
    with NodeSubscriber(node) as subscriber:
        assert subscriber.rows_until_the_end() == [3, 4, 5]
