"""A line to the server that can be cut, and what to look at."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from documents import RunBuilder, data_key
from tiled.client.container import Container
from tree import read_arrow, stream_of, unless_busy

from bluesky_tiled_writer import TiledWriter

PATIENCE = 20.0
"""s: for what happens in the background."""
LONG_AGO = 60.0
"""s: a `flush_interval` that is never over within a test."""
AT_ONCE = 1.0
"""s: by when a call has returned that waits for nothing; machines are busy."""

MakeWriter = Callable[..., TiledWriter]


class Line:
    """The line to the server, on which requests can be held up or lost."""

    def __init__(self, client: Container) -> None:
        self._passing = threading.Event()
        self._passing.set()
        self.is_cut = False
        self.hooks = client.context.http_client.event_hooks["request"]
        self.hooks.append(self._before)

    def _before(self, request: httpx.Request) -> None:
        if not self._passing.wait(PATIENCE):
            raise httpx.ConnectTimeout("held up for too long")
        if self.is_cut:
            raise httpx.ConnectError("the line is cut")

    @contextmanager
    def held(self) -> Iterator[None]:
        self._passing.clear()
        try:
            yield
        finally:
            self._passing.set()

    @contextmanager
    def cut(self) -> Iterator[None]:
        self.is_cut = True
        try:
            yield
        finally:
            self.is_cut = False


@contextmanager
def writers_of(client: Container, journals: Path) -> Iterator[MakeWriter]:
    """Make writers that flush when they are told to; they are closed at the end."""
    made: list[TiledWriter] = []

    def make(client: Container = client, **options: Any) -> TiledWriter:
        options = {"journal_directory": journals, "flush_interval": LONG_AGO} | options
        made.append(TiledWriter(client, **options))
        return made[-1]

    yield make
    for writer in made:
        writer.close(timeout=5.0)


def column(client: Container, uid: str, name: str = "n") -> list[Any]:
    """What Tiled holds of a column; nothing if there is no table yet."""
    try:
        table = stream_of(client, uid)["internal"]
    except KeyError:
        return []
    return list(read_arrow(table)[name].to_pylist())


def holds(client: Container, uid: str, values: list[Any]) -> bool:
    """True if the column ``n`` has these values."""
    return unless_busy(lambda: column(client, uid)) == values


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@contextmanager
def returns_at_once() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < AT_ONCE


def messages_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What people see of our log unless they ask for more."""
    ours = [r for r in caplog.records if r.name.startswith("bluesky_tiled_writer")]
    return [r.getMessage() for r in ours if r.levelno >= logging.WARNING]


def is_stopped(client: Container, uid: str) -> bool:
    return uid in client and "stop" in client[uid].metadata


@contextmanager
def refused_for_good(client: Container) -> Iterator[None]:
    """Have the server refuse whatever this client asks for: there is no such method (405)."""

    def change(request: httpx.Request) -> None:
        request.method = "TRACE"

    hooks = client.context.http_client.event_hooks["request"]
    hooks.append(change)
    try:
        yield
    finally:
        hooks.remove(change)


@contextmanager
def key_revoked(client: Container) -> Iterator[None]:
    """Have the server refuse whatever this client asks for."""
    context = client.context
    key, context.api_key = context.api_key, "revoked"
    try:
        yield
    finally:
        context.api_key = key


# -- runs that are more than may wait in memory ---------------------------------------------------

BOUND = 20_000
"""Bytes that may wait: about 90 rows of a `wide_run`."""

MOST = 1.35 * BOUND
"""What there may be at one moment: rows on their way, and a quarter before they are counted."""


def wide_run(events: int) -> RunBuilder:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer", "wave": data_key("array", [4], dtype_numpy="<i8")})
    for i in range(events):
        run.event("primary", {"n": i, "wave": [i, i, i, -i]})
    run.stop()
    return run


def assert_wide_run_stored(client: Container, uid: str, events: int) -> None:
    assert column(client, uid) == [*range(events)]
    wave = stream_of(client, uid)["wave"].read()
    assert wave.tolist() == [[i, i, i, -i] for i in range(events)]
