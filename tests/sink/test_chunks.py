"""Rows of arrays that came one by one can be read at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import RequestLog
from documents import RunBuilder, data_key, emit, emit_one_by_one
from tiled.client.container import Container
from tree import stream_of

from bluesky_tiled_writer import TiledWriter

MANY = 3
"""Chunks that an array may have in these tests, since each row of a test costs requests."""


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bluesky_tiled_writer.sink.arrays.MANY_CHUNKS", MANY)


def slow_run(rows: int, row: Callable[[int], Any], size: int, dtype: str = "<i4") -> RunBuilder:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"wave": data_key("array", [size], dtype_numpy=dtype)})
    for i in range(rows):
        run.event("primary", {"wave": row(i)})
    run.stop()
    return run


def write(client: Container, run: RunBuilder, **options: Any) -> Any:
    with TiledWriter(client, **options) as writer:
        emit_one_by_one(run.docs[:-1], writer)
        emit(run.docs[-1:], writer)
        assert writer.wait_for(run.uid)
    return stream_of(client, run.uid)["wave"]


def test_many_small_chunks_become_few(client: Container, tmp_path: Path) -> None:
    run = slow_run(8, lambda i: [i, -i, 2 * i], 3)
    node = write(client, run, journal_directory=tmp_path)
    assert node.chunks == ((8,), (3,))
    assert node.dims == ("time", "dim_int_1")
    assert node.metadata["dtype_numpy"] == "int32"
    assert node.read().tolist() == [[i, -i, 2 * i] for i in range(8)]


def test_what_was_widened_on_the_way_keeps_its_values(client: Container, tmp_path: Path) -> None:
    run = slow_run(9, lambda i: ["b" * max(1, 4 - i), "c"], 2, "<U2")
    node = write(client, run, journal_directory=tmp_path)
    assert node.chunks == ((9,), (2,))
    assert node.read().tolist() == [["b" * max(1, 4 - i), "c"] for i in range(9)]


def test_a_few_chunks_are_left_as_they_are(
    client: Container, tmp_path: Path, request_log: RequestLog
) -> None:
    run = slow_run(MANY, lambda i: [i], 1)
    with request_log(client) as requests:
        node = write(client, run, journal_directory=tmp_path)
    assert node.chunks == ((1,) * MANY, (1,))
    assert "DELETE" not in {method for method, path in requests if "stream/close" not in path}


def test_large_chunks_are_left_as_they_are(client: Container, tmp_path: Path) -> None:
    values = np.arange(2**17, dtype="<f8")
    run = slow_run(5, lambda i: values + i, len(values), "<f8")
    node = write(client, run, journal_directory=tmp_path)
    assert node.chunks == ((1,) * 5, (len(values),))
    assert np.array_equal(node[4], values + 4)


def test_without_a_journal_nothing_is_deleted(client: Container) -> None:
    run = slow_run(5, lambda i: [i], 1)
    node = write(client, run, journal_directory=None)
    assert node.chunks == ((1,) * 5, (1,))


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT"])
@pytest.mark.parametrize("after", [False, True])
def test_an_array_that_is_written_anew_survives_a_lost_connection(
    client: Container, tmp_path: Path, method: str, after: bool
) -> None:
    run = slow_run(5, lambda i: [i, i], 2)
    with TiledWriter(client, journal_directory=tmp_path) as writer:
        emit_one_by_one(run.docs[:-1], writer)
        with connection_lost(client, method, after=after) as lost:
            emit(run.docs[-1:], writer)
            assert writer.wait_for(run.uid)
    assert lost == ["wave"]
    node = stream_of(client, run.uid)["wave"]
    assert node.read().tolist() == [[i, i] for i in range(5)]
    assert client[run.uid].metadata["stop"] == run.docs[-1][1]


@contextmanager
def connection_lost(client: Container, method: str, *, after: bool) -> Iterator[list[str]]:
    """Lose one request about the array, before or after the server executes it."""
    lost: list[str] = []

    def is_it(request: httpx.Request) -> bool:
        about_array = "wave" in request.url.path or b'"wave"' in request.content
        return request.method == method and about_array and "close" not in request.url.path

    def before(request: httpx.Request) -> None:
        if not after and not lost and is_it(request):
            lost.append("wave")
            raise httpx.ReadError("lost on the way there")

    def afterwards(response: httpx.Response) -> None:
        if after and not lost and is_it(response.request):
            lost.append("wave")
            raise httpx.ReadError("lost on the way back")

    hooks = client.context.http_client.event_hooks
    hooks["request"].append(before)
    hooks["response"].append(afterwards)
    try:
        yield lost
    finally:
        hooks["request"].remove(before)
        hooks["response"].remove(afterwards)
