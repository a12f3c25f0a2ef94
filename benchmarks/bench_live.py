"""How old a row is when another process sees it: by a subscription, and by polling.

Two numbers an event, or an array; the writers are live. The age is that of the call with the event.
Where the server is slow, the peer holds up its caller, so that it has fewer rows to store: each
result has the time between two events.

The server keeps its tables in SQLite. Figures are in docs/how-to/watch-a-scan.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bluesky_tiled_plugins import TiledWriter as PeerWriter
from common import EPOCH, Pair, Run, journals, other_process, server_for_readers
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter

WATCHER = """
import sys, threading, time
from bluesky_tiled_plugins import subscribe_to_streams
from tiled.client import from_uri
from tiled.client.utils import ClientError
import httpx
uri, how, node, path = sys.argv[1:]
client = from_uri(uri)
seen = {}
def see(rows):
    now = time.time()
    for row in rows:
        seen.setdefault(int(row), now)
def on_update(update):
    if not node.startswith(update.run_uid):
        return  # replayed from an earlier run
    data = update.data()
    see(data["n"] if hasattr(data, "columns") else data[:, 0])
def read():
    try:
        if node.endswith("internal"):
            return client[node].read()["n"]
        array = client[node]
        return array[: array.shape[0]][:, 0]
    except (KeyError, ClientError, httpx.HTTPStatusError):
        return []
if how == "subscription":
    key = "n" if node.endswith("internal") else "wave"
    subscription = subscribe_to_streams(client, on_update, streams={"primary": key})
print("ready", flush=True)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
while not over.wait(0.01):
    if how == "polling":
        see(read())
with open(path, "w") as file:
    file.writelines(f"{row} {now}\\n" for row, now in seen.items())
"""
"""Tells in a file when it saw which row first."""


def documents(run: Run, rows: int, *, arrays: bool) -> Iterator[Pair]:
    """The documents of a run up to its last event; the first value of an event is its number."""
    (start, (name, descriptor)) = run.opening()
    number = {"source": "", "dtype": "number", "shape": []}
    array = {"source": "", "dtype": "array", "shape": [1000], "dtype_numpy": "<f8"}
    keys = {"wave": array} if arrays else {"n": number, "x": number}
    descriptor |= {"data_keys": keys, "object_keys": {"device": list(keys)}}
    yield start
    yield name, descriptor
    for (_, event), n in zip(run.events(rows), range(rows), strict=True):
        data = {"wave": [float(n)] * 1000} if arrays else {"n": n, "x": n / 2}
        yield "event", event | {"data": data, "timestamps": dict.fromkeys(data, EPOCH)}


@contextmanager
def watching(uri: str, how: str, node: str, file: Path) -> Iterator[None]:
    with other_process(WATCHER, uri, how, node, file):
        yield


def ages(
    uri: str, make: Callable[[], Any], how: str, options: argparse.Namespace, *, arrays: bool
) -> tuple[list[float], float]:
    """The ages of the rows of one run, and the seconds that an event took its caller."""
    run = Run()
    node = f"{run.uid}/primary/{'wave' if arrays else 'internal'}"
    sent: dict[int, float] = {}
    with journals() as directory:
        seen = directory / "seen"
        writer = make()
        with watching(uri, how, node, seen):
            for name, doc in documents(run, options.rows, arrays=arrays):
                if name == "event":
                    sent[len(sent)] = time.time()
                writer(name, doc)
                time.sleep(options.pace)
            elapsed = time.time() - sent[0]
            time.sleep(1.0)  # the last row
            for name, doc in run.closing():
                writer(name, doc)
        times = (line.split() for line in seen.read_text().splitlines())
        return [float(now) - sent[int(row)] for row, now in times], elapsed / options.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--pace", type=float, default=0.1, help="seconds between events")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    with (
        server_for_readers() as uri,
        journals() as directory,
        TiledWriter(from_uri(uri), journal_directory=directory, batch_size=1) as writer,
    ):
        peer = partial(PeerWriter, from_uri(uri), batch_size=1)
        for arrays in (False, True):
            for how in ("subscription", "polling"):
                what = f"{'arrays' if arrays else 'two numbers'}, {how}"
                makers: dict[str, Callable[[], Any]] = {"ours": lambda: writer, "peer": peer}
                found: dict[str, list[float]] = {name: [] for name in makers}
                pace: dict[str, list[float]] = {name: [] for name in makers}
                for _ in range(options.repetitions):
                    for name, make in makers.items():
                        rows, an_event = ages(uri, make, how, options, arrays=arrays)
                        found[name] += rows
                        pace[name].append(an_event)
                results = (
                    f"{name} {median(age):.3f} s, 95 of 100 below {quantiles(age, n=20)[-1]:.3f} s"
                    f" (an event each {median(pace[name]):.3f} s)"
                    for name, age in found.items()
                )
                print(f"live: age of a row, {what}: {'; '.join(results)}", flush=True)


if __name__ == "__main__":
    main()
