"""What each database for Tiled's tables is good for: writing, reading, and both at a time."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Any

from common import PATIENCE, Run, journals, medians, seconds, server_on
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter

DATABASES = ("duckdb", "sqlite", "postgresql")
SHORT = 10
"""Rows of a short run."""
READERS = 3
PACE = 0.02
"""s between the events of a scan that is read."""

Pair = tuple[str, dict[str, Any]]


def write(writer: TiledWriter, run: Run, *documents: Pair) -> float:
    """Write a run; return the seconds until it is stored."""
    start = time.perf_counter()
    for name, doc in (*run.opening(), *documents, *run.closing()):
        writer(name, doc)
    return time.perf_counter() - start


def read(client: Container, uid: str) -> int:
    """Read the table of a run; return its rows."""
    return len(client[uid]["primary"].base["internal"].read())


def poll(uri: str, uid: str, over: Event, results: Any) -> None:
    """Read a run while it grows; tell how many reads gave rows, and how many failed."""
    client = from_uri(uri)
    table, good, bad = None, 0, 0
    while not over.is_set():
        try:
            if table is None:
                table = client[uid]["primary"].base["internal"]
            table.read()
            good += 1
        except KeyError:
            time.sleep(PACE)  # no row is there yet
        except Exception:
            bad += 1
            time.sleep(PACE)
    results.put((good, bad))


def scan_with_readers(uri: str, writer: TiledWriter, length: float) -> str:
    """Write a scan while others read it; return what became of it."""
    context = multiprocessing.get_context("spawn")
    over, results, run = context.Event(), context.Queue(), Run()
    readers = [
        context.Process(target=poll, args=(uri, run.uid, over, results), daemon=True)
        for _ in range(READERS)
    ]
    for reader in readers:
        reader.start()
    for name, doc in run.opening():
        writer(name, doc)
    events, died, rows = run.events(10**9), "", 0
    end = time.monotonic() + length
    while time.monotonic() < end and not died:
        writer(*next(events))
        rows += 1
        if writer.status.server_down:
            after = length - (end - time.monotonic())
            died = f", and the server did not answer any more after {after:.0f} s"
        time.sleep(PACE)
    for name, doc in run.closing():
        writer(name, doc)
    over.set()
    counts = [] if died else [results.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.kill()
        reader.join()
    good, bad = (sum(part) for part in zip(*counts, strict=True)) if counts else (0, 0)
    stored = "" if died else f", {read(writer.client, run.uid)} of {rows} rows stored"
    return f"{good / length:.0f} reads a second, {bad} failed{stored}{died}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--short-runs", type=int, default=10, help="a round")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--scan", type=float, default=30.0, help="seconds of a scan that is read")
    parser.add_argument("--databases", nargs="+", default=DATABASES)
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = stack.enter_context(journals())
        writers = {}
        for database in options.databases:
            client = from_uri(stack.enter_context(server_on(database)))
            writer = TiledWriter(client, journal_directory=directory, timeout=PATIENCE)
            writers[database] = stack.enter_context(writer)

        def large(writer: TiledWriter) -> float:
            run = Run()
            elapsed = write(writer, run, *run.event_pages(options.rows, 1000))
            if (stored := read(writer.client, run.uid)) != options.rows:
                raise RuntimeError(f"{stored} of {options.rows} rows are in Tiled")
            return elapsed

        def short(writer: TiledWriter) -> float:
            runs = [Run() for _ in range(options.short_runs)]
            return median(write(writer, run, *run.events(SHORT)) for run in runs)

        uids = {}
        for name, writer in writers.items():
            run = Run()
            write(writer, run, *run.event_pages(options.rows, 1000))
            uids[name] = run.uid

        candidates: dict[str, Callable[[], float]] = {}
        for name, writer in writers.items():
            candidates[f"{name}: a run of {options.rows} rows"] = partial(large, writer)
            candidates[f"{name}: a run of {SHORT} rows"] = partial(short, writer)
            whole = partial(seconds, partial(read, writer.client, uids[name]))
            candidates[f"{name}: to read {options.rows} rows"] = whole
        times = medians(candidates, options.repetitions)
    for name, elapsed in times.items():
        print(f"{name}: {elapsed:.3f} s")
    for database in options.databases:
        with server_on(database) as uri, journals() as directory:
            told = _scan(uri, directory, options.scan)
        print(f"{database}: a scan of {options.scan:.0f} s with {READERS} readers: {told}")


def _scan(uri: str, directory: Path, length: float) -> str:
    # Not within `with`, which would wait for a server that is gone.
    writer = TiledWriter(from_uri(uri), journal_directory=directory, timeout=60.0)
    told = scan_with_readers(uri, writer, length)
    writer.close(0.0)
    return told


if __name__ == "__main__":
    main()
