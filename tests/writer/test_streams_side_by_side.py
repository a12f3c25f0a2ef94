"""Streams of a run on a real server: they go together where the database allows it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from conftest import RequestLog
from documents import RunBuilder, data_key, emit
from request_lists import closings
from tiled.client.container import Container
from tree import read_arrow, stream_of

from bluesky_tiled_writer import TiledWriter

STREAMS = [f"monitor_{i}" for i in range(3)] + ["baseline", "primary"]
LONG_WAIT = 120.0
PATIENCE = 20.0
"""s: by when another request must have come where they go together."""


def opened(rows: int) -> RunBuilder:
    run = RunBuilder()
    run.start()
    for i, stream in enumerate(STREAMS):
        run.descriptor(stream, {f"x_{i}": "number"})
    more_rows(run, rows)
    return run


def more_rows(run: RunBuilder, rows: int) -> None:
    for _ in range(rows):
        for i, stream in enumerate(STREAMS):
            run.event(stream, {f"x_{i}": i})


class Appends:
    """Counts the appends to tables that are under way; may hold them until there are two."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self.meet: threading.Barrier | None = None
        self.have_met = False
        self._lock = threading.Lock()

    def before(self, request: httpx.Request) -> None:
        if "/table/partition/" in request.url.path:
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
            if self.meet is not None and not self.have_met:
                with suppress(threading.BrokenBarrierError):
                    self.meet.wait()
                    self.have_met = True

    def after(self, response: httpx.Response) -> None:
        if "/table/partition/" in response.request.url.path:
            with self._lock:
                self._now -= 1


@contextmanager
def appends(client: Container) -> Iterator[Appends]:
    found = Appends()
    hooks = client.context.http_client.event_hooks
    hooks["request"].append(found.before)
    hooks["response"].append(found.after)
    try:
        yield found
    finally:
        hooks["request"].remove(found.before)
        hooks["response"].remove(found.after)


def test_tables_wait_for_each_other_only_where_they_must(
    storage_client: Container, database: str, journals: Path
) -> None:
    run = opened(rows=1)
    with (
        TiledWriter(storage_client, journal_directory=journals) as writer,
        appends(storage_client) as found,
    ):
        emit(run.docs, writer)
        assert writer.flush(timeout=LONG_WAIT)
        run.docs.clear()
        more_rows(run, 2)
        if database == "postgresql":
            found.meet = threading.Barrier(2, timeout=PATIENCE)
        emit([*run.docs, run.stop()], writer)
        assert writer.wait_for(run.uid, timeout=LONG_WAIT)
        if database == "postgresql":
            assert found.have_met
            assert found.most > 1
        else:
            assert found.most == 1
    for i, stream in enumerate(STREAMS):
        table = read_arrow(stream_of(storage_client, run.uid, stream)["internal"])
        assert table[f"x_{i}"].to_pylist() == [i] * 3


def test_tables_of_one_form_may_be_created_at_the_same_time(
    storage_client: Container, journals: Path
) -> None:
    """Tiled keeps streams with the same columns in one table of the database."""
    with TiledWriter(storage_client, journal_directory=journals) as writer:
        for key in ("one", "two"):  # what the database is, is known when the second run comes
            run = RunBuilder()
            run.start()
            for stream in STREAMS:
                run.descriptor(stream, {key: "number", "a": data_key("array", [None])})
                run.event(stream, {key: 1, "a": [1.0] * len(stream)})
            run.stop()
            emit(run.docs, writer)
            assert writer.wait_for(run.uid, timeout=LONG_WAIT)
            for stream in STREAMS:
                table = read_arrow(stream_of(storage_client, run.uid, stream)["internal"])
                assert table[key].to_pylist() == [1]


def test_few_requests_are_left_for_the_end(
    tiled_client: Container, journals: Path, request_log: RequestLog
) -> None:
    """After the last event: for each stream its rows, then the stop document of the run."""
    run = opened(rows=1)
    with TiledWriter(tiled_client, journal_directory=journals, flush_interval=60.0) as writer:
        emit(run.docs, writer)
        assert writer.flush(timeout=LONG_WAIT)
        run.docs.clear()
        more_rows(run, 3)
        with request_log(tiled_client) as requests:
            emit([*run.docs, run.stop()], writer)
            assert writer.wait_for(run.uid, timeout=LONG_WAIT)
    appended = [("PATCH", f"table/partition/{run.uid}/{s}/internal") for s in STREAMS]
    found = [(method, path.strip("/")) for method, path in requests]
    assert sorted(found[: len(STREAMS)]) == sorted(appended)
    assert found[len(STREAMS)] == ("PATCH", f"metadata/{run.uid}")
    # Live subscribers are told of the end, and nobody waits for that.
    assert {method for method, _ in found[len(STREAMS) + 1 :]} == {"DELETE"}
    assert len(closings(requests)) == 2 * len(STREAMS) + 1
