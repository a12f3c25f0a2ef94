"""How many runs an hour move to another catalog: from files of msgpack, and from a Tiled server."""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
from bluesky_tiled_plugins import TiledWriter as PeerWriter
from common import EPOCH, PATIENCE, Pair, medians, seconds, server_on
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.cli import migrate, read_documents

KEYS = [f"x{i}" for i in range(5)]


def documents(events: int) -> Iterator[Pair]:
    """Make a run as most are: some motors, a baseline, and an array."""
    run, descriptors = str(uuid.uuid4()), {name: str(uuid.uuid4()) for name in ("a", "b")}
    yield "start", {"uid": run, "time": EPOCH, "plan_name": "scan"}
    keys: dict[str, Any] = {key: {"source": "", "dtype": "number", "shape": []} for key in KEYS}
    image = {"source": "", "dtype": "array", "shape": [64], "dtype_numpy": "<f8"}
    streams = {"baseline": ("b", keys, 2), "primary": ("a", {**keys, "image": image}, events)}
    for name, (uid, data_keys, _) in streams.items():
        yield (
            "descriptor",
            {
                "uid": descriptors[uid],
                "run_start": run,
                "time": EPOCH,
                "name": name,
                "data_keys": data_keys,
                "object_keys": {},
                "configuration": {},
                "hints": {},
            },
        )
    for uid, data_keys, count in streams.values():
        for row in range(count):
            data = {key: [row / 2] * 64 if key == "image" else row / 2 for key in data_keys}
            now = EPOCH + row
            yield (
                "event",
                {
                    "uid": str(uuid.uuid4()),
                    "descriptor": descriptors[uid],
                    "time": now,
                    "seq_num": row + 1,
                    "data": data,
                    "timestamps": dict.fromkeys(data, now),
                    "filled": {},
                },
            )
    stop = {"uid": str(uuid.uuid4()), "run_start": run, "time": EPOCH, "exit_status": "success"}
    yield "stop", stop


def one_writer(client: Container, files: list[Path], threads: int) -> None:
    """Move files through one writer, which several threads share."""
    rest, lock = iter(files), threading.Lock()
    with TiledWriter(client, journal_directory=None, timeout=PATIENCE) as writer:

        def work() -> None:
            while True:
                with lock:
                    file = next(rest, None)
                if file is None:
                    return
                for name, doc in read_documents(file):
                    writer(name, doc)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def peer(client: Container, files: list[Path]) -> None:
    for file in files:
        writer = PeerWriter(client, max_array_size=0)
        for name, doc in read_documents(file):
            writer(name, doc)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--database", default="postgresql")
    options = parser.parse_args()
    runs = options.runs

    with (
        server_on(options.database) as uri,
        server_on("sqlite") as source_uri,
        tempfile.TemporaryDirectory() as directory,
    ):
        for number in range(runs):
            docs = documents(options.events)
            packed = b"".join(map(msgpack.packb, docs))
            (Path(directory) / f"{number}.msgpack").write_bytes(packed)
        files = sorted(Path(directory).iterdir())
        root, source = from_uri(uri), from_uri(source_uri)
        assert migrate(directory, source).complete

        def timed(move: Callable[[Container], object]) -> float:
            target = root.create_container()
            elapsed = seconds(lambda: move(target))
            stored = target.new_variation()
            complete = sum("stop" in run.metadata for run in stored.values())
            if complete != runs:
                raise RuntimeError(f"{complete} of {runs} runs are in Tiled")
            return elapsed

        candidates: dict[str, Callable[[], float]] = {
            "peer": lambda: timed(lambda t: peer(t, files))
        }
        for n in options.workers:
            candidates[f"files, {n} at a time"] = lambda n=n: timed(
                lambda target: migrate(files, target, workers=n)
            )
            candidates[f"files, {n} at a time, one writer"] = lambda n=n: timed(
                lambda target: one_writer(target, files, n)
            )
            candidates[f"Tiled, {n} at a time"] = lambda n=n: timed(
                lambda target: migrate(source, target, workers=n)
            )
        time_of = medians(candidates, options.repetitions)
        target = root.create_container()
        migrate(source, target)
        again = seconds(lambda: migrate(source, target))

    print(f"{runs} runs of {options.events} events, {options.database}")
    for name, elapsed in time_of.items():
        ratio = time_of["peer"] / elapsed
        print(
            f"{name:36} {elapsed:6.2f} s, {3600 * runs / elapsed:8.0f} runs/h, {ratio:4.1f} x peer"
        )
    print(f"{'nothing to do':36} {again:6.2f} s, {3600 * runs / again:8.0f} runs/h")


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"({time.monotonic() - started:.0f} s in all)")
