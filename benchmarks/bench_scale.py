"""How many rows and runs a second several writers store in several Tiled servers.

PostgreSQL has the catalog and the tables, Redis the streaming cache, and HAProxy shares requests
among the servers. Writers are processes that send runs one after the other, all at the same time;
ours do not wait at `stop`, as a consumer of a bus does not. Each line also tells which processes
were busy: the time of the processor that they took, in processors.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from common import PATIENCE, TESTS, Run

sys.path.insert(0, str(TESTS))
from scale.facility import Facility
from tiled.client import from_uri

TICKS = os.sysconf("SC_CLK_TCK")
KINDS = {"postgres": "PostgreSQL", "redis": "Redis", "haproxy": "HAProxy"}


def write(kind: str, uri: str, runs: int, rows: int, pages: bool, barrier: Barrier) -> None:
    """Store runs, as a process: all begin together, and end when theirs are stored."""
    client = from_uri(uri)
    with tempfile.TemporaryDirectory() as journals:
        if kind == "peer":
            from bluesky_tiled_plugins import TiledWriter as PeerWriter

            writer: Any = PeerWriter(client)
        else:
            from bluesky_tiled_writer import TiledWriter

            writer = TiledWriter(client, journal_directory=journals, timeout=0)
        one(writer, 1, pages)  # tables, and what comes once in a process
        barrier.wait()
        for _ in range(runs):
            one(writer, rows, pages)
        if kind != "peer":
            writer.flush(PATIENCE)
        barrier.wait()
        if kind != "peer":
            writer.close()


def one(writer: Any, rows: int, pages: bool) -> None:
    run = Run()
    events = run.event_pages(rows, min(rows, 1000)) if pages else run.events(rows)
    for documents in (run.opening(), events, run.closing()):
        for name, doc in documents:
            writer(name, doc)


def processor_times(writers: set[int | None], servers: dict[int, str]) -> Counter[str]:
    """Return the seconds of the processor that the processes have taken, by what they are."""
    times: Counter[str] = Counter()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        name = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        pid = int(path.parent.name)
        kind = "writers" if pid in writers else servers.get(pid) or KINDS.get(name.split("-")[0])
        if kind is not None:
            times[kind] += (int(fields[11]) + int(fields[12])) / TICKS
    return times


def timed(
    kind: str, facility: Facility, writers: int, runs: int, rows: int, pages: bool
) -> tuple[float, Counter[str]]:
    """Return how long the writers take, and the processors that were busy meanwhile."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(writers + 1)
    arguments = (kind, facility.uri, runs, rows, pages, barrier)
    processes = [context.Process(target=write, args=arguments) for _ in range(writers)]
    for process in processes:
        process.start()
    barrier.wait()
    pids = {process.pid for process in processes}
    servers = {server.pid: "Tiled" for server in facility.servers}
    before, began = processor_times(pids, servers), time.perf_counter()
    barrier.wait()
    elapsed = time.perf_counter() - began
    busy = processor_times(pids, servers)
    busy.subtract(before)
    for process in processes:
        process.join()
    return elapsed, busy


@contextmanager
def facility_of(servers: int) -> Iterator[Facility]:
    with (
        tempfile.TemporaryDirectory() as directory,
        Facility.running(Path(directory), Path(directory), servers) as facility,
    ):
        yield facility


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", type=int, default=50_000, help="of a large run, in pages")
    parser.add_argument("--small-runs", type=int, default=20, help="of 10 rows, for each writer")
    parser.add_argument("--peer-rows", type=int, default=2_000)
    parser.add_argument("--peer-runs", type=int, default=5)
    options = parser.parse_args()
    for servers in options.servers:
        with facility_of(servers) as facility:
            for writers in options.writers:
                for unit, ours, peers, pages in (
                    ("rows", (1, options.rows), (1, options.peer_rows), True),
                    ("runs", (options.small_runs, 10), (options.peer_runs, 10), False),
                ):
                    rates = {}
                    for kind, (runs, rows) in (("ours", ours), ("peer", peers)):
                        elapsed, busy = timed(kind, facility, writers, runs, rows, pages)
                        number = writers * (runs * rows if unit == "rows" else runs)
                        rates[kind] = number / elapsed
                        if kind == "ours":
                            shares = ", ".join(
                                f"{name} {seconds / elapsed:.2f}"
                                for name, seconds in busy.most_common()
                                if seconds / elapsed >= 0.01
                            )
                    print(
                        f"scale: {writers} writers, {servers} servers:"
                        f" {rates['ours']:.1f} {unit}/s, peer {rates['peer']:.1f},"
                        f" ratio {rates['ours'] / rates['peer']:.1f}; busy: {shares}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
