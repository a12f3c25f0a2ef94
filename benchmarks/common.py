"""What the benchmarks share: documents, a server in another process, and fair timing."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

KEYS = ("det", "motor", "motor_setpoint", "temperature", "current")
"""Scalar numbers; each row also has a time stamp a key, `seq_num` and `time`: 12 columns."""
TESTS = Path(__file__).resolve().parents[1] / "tests"
EPOCH = 1_700_000_000.0
PROXY_DELAY = 0.05
"""Seconds by which a distant server gets each request later."""
PATIENCE = 1800.0
"""Seconds that `stop` may take where the end is timed; with the default of 30 a slow machine would
leave the rest to the background, and the time would be too short."""

SERVER = """
import sys
from tiled.server import SimpleTiledServer
with SimpleTiledServer(readable_storage=sys.argv[1:] or None) as server:
    print(server.uri, flush=True)
    sys.stdin.read()
"""
SERVER_ON_SQLITE = """
import sys
from bluesky_tiled_writer.local_server import LocalServer
with LocalServer() as server:
    print(server.uri, flush=True)
    sys.stdin.read()
"""
SERVER_ON = """
import sys, tempfile
from contextlib import ExitStack
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from faults.tiled_process import TiledProcess
from servers import PostgreSQL
database, sql_uri = sys.argv[2], ""
with ExitStack() as stack:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if database == "postgresql":
        cluster = stack.enter_context(PostgreSQL(PostgreSQL.find_binaries()).running())
        sql_uri = stack.enter_context(cluster.new_database())
    server = stack.enter_context(TiledProcess(directory, directory, database, sql_uri))
    print(server.uri, flush=True)
    sys.stdin.read()
"""
PROXY = """
import sys
sys.path.insert(0, sys.argv[1])
from faults.proxy import Proxy
with Proxy(sys.argv[2], delay=float(sys.argv[3])) as proxy:
    print(proxy.url, flush=True)
    sys.stdin.read()
"""

Pair = tuple[str, dict[str, Any]]


class Run:
    """The documents of one run, made when they are asked for, every one a new dictionary."""

    def __init__(self) -> None:
        self.uid = str(uuid.uuid4())
        self._descriptor = str(uuid.uuid4())

    def opening(self) -> Iterator[Pair]:
        yield "start", {"uid": self.uid, "time": EPOCH, "plan_name": "scan", "scan_id": 1}
        descriptor = {
            "uid": self._descriptor,
            "run_start": self.uid,
            "time": EPOCH,
            "name": "primary",
            "data_keys": {k: {"source": "", "dtype": "number", "shape": []} for k in KEYS},
            "object_keys": {"device": list(KEYS)},
            "configuration": {},
        }
        yield "descriptor", descriptor

    def events(self, count: int) -> Iterator[Pair]:
        for row in range(count):
            now = EPOCH + row
            event = {
                "uid": f"{self.uid}-{row}",
                "descriptor": self._descriptor,
                "time": now,
                "seq_num": row + 1,
                "data": {key: row * 0.5 + i for i, key in enumerate(KEYS)},
                "timestamps": dict.fromkeys(KEYS, now),
                "filled": {},
            }
            yield "event", event

    def event_pages(self, count: int, rows: int) -> Iterator[Pair]:
        for first in range(0, count, rows):
            span = range(first, first + rows)
            times = [EPOCH + row for row in span]
            page = {
                "uid": [f"{self.uid}-{row}" for row in span],
                "descriptor": self._descriptor,
                "time": times,
                "seq_num": [row + 1 for row in span],
                "data": {key: [row * 0.5 + i for row in span] for i, key in enumerate(KEYS)},
                "timestamps": {key: list(times) for key in KEYS},
                "filled": {},
            }
            yield "event_page", page

    def closing(self) -> Iterator[Pair]:
        stop = {"uid": f"{self.uid}-stop", "run_start": self.uid, "time": EPOCH}
        yield "stop", stop | {"exit_status": "success"}


def table(first: int, rows: int) -> pa.Table:
    """The rows of `Run.events`, as they are stored."""
    seq_num = pa.array(range(first + 1, first + rows + 1), pa.int64())
    times = pa.array([EPOCH + row for row in range(first, first + rows)], pa.float64())
    data = {
        key: pa.array([row * 0.5 + i for row in range(first, first + rows)], pa.float64())
        for i, key in enumerate(KEYS)
    }
    data |= {f"ts_{key}": times for key in KEYS}
    return pa.table({"seq_num": seq_num, "time": times, **data})


@contextmanager
def other_process(code: str, *args: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that prints one line when it is ready, and ends when its stdin does."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout
            if not (line := process.stdout.readline().strip()):
                raise RuntimeError("The other process did not start.")
            yield process, line
        finally:
            process.communicate()  # which closes its stdin, and waits


@contextmanager
def tiled_server(*readable: Path) -> Iterator[str]:
    """The URI of a server in another process, where it does not compete for the interpreter.

    It may read the files below the directories `readable`.
    """
    with other_process(SERVER, *readable) as (_, uri):
        yield uri


@contextmanager
def server_for_readers() -> Iterator[str]:
    """The URI of a server that keeps tables in SQLite: one may read them while they grow.

    With those of `tiled_server`, in DuckDB, all requests share a connection. A read at the moment
    of an append fails, and at times the append never ends.
    """
    with other_process(SERVER_ON_SQLITE) as (_, uri):
        yield uri


@contextmanager
def server_on(database: str) -> Iterator[str]:
    """The URI of a server that keeps tables in duckdb, sqlite or postgresql (of its own)."""
    with other_process(SERVER_ON, TESTS, database) as (_, uri):
        yield uri


@contextmanager
def distant(uri: str, delay: float = PROXY_DELAY) -> Iterator[str]:
    """The URI of a server that gets each request so many seconds later.

    The proxy is in a process of its own, too.
    """
    address = urlsplit(uri)
    url = f"{address.scheme}://{address.netloc}"
    with other_process(PROXY, TESTS, url, delay) as (_, proxy):
        yield uri.replace(url, proxy)


@contextmanager
def journals() -> Iterator[Path]:
    """A directory for journals, so that the user's is left alone."""
    with tempfile.TemporaryDirectory(prefix="journals-") as directory:
        yield Path(directory)


def medians(
    candidates: dict[str, Callable[[], float]],
    repetitions: int,
    seldom: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """The median of what each candidate returns, such as seconds.

    They take turns, so that a slow spell of the machine hits all, and each round starts with
    another one. Those that take long may take part in every n-th round only: ``seldom={name: n}``.
    """
    results: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for round_ in range(repetitions):
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            if round_ % (seldom or {}).get(name, 1) == 0:
                gc.collect()
                results[name].append(candidates[name]())
    return {name: median(values) for name, values in results.items()}


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
