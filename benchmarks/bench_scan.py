"""What a writer costs a scan of the RunEngine, and how soon the rows can be read."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from bluesky_tiled_plugins import TiledWriter as PeerWriter
from common import (
    distant,
    journals,
    medians,
    other_process,
    server_for_readers,
    tiled_server,
)
from ophyd.sim import det, motor
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.writer import BATCH_SIZE

READER = """
import sys
sys.path.insert(0, sys.argv[1])
from bench_scan import read_ages
read_ages(sys.argv[2])
"""
PAUSE = 0.01
"""Seconds between points where the age of rows is measured: the scan is to outlast several
flushes."""
LOOK_EVERY = 0.05
"""Seconds between two reads: it adds to the age, but with more of them the database would refuse
appends for the reads that are under way, and the age would be that of the second attempt."""
GIVE_UP = 60.0
"""Seconds after its last row that the reader waits for more."""

Writer = Callable[[str, dict[str, Any]], object]


class Clock:
    """Takes the time of the acquisition: from the start document to the stop document.

    That is wall time, and the processor's time of all threads of the process: what a writer costs a
    scan that never waits for a device, whatever else the machine does meanwhile.

    It is subscribed before the writer, and so sees each document just before the writer does. What
    the writer does with any document but `stop` falls between the two; what it does with `stop`,
    where it waits for the run to be stored, does not.
    """

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0
        self._start = self._cpu_start = 0.0

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        now, cpu = time.perf_counter(), time.process_time()
        if name == "start":
            self._start, self._cpu_start = now, cpu
        elif name == "stop":
            self.seconds, self.cpu = now - self._start, cpu - self._cpu_start


def scan(engine: RunEngine, writer: Writer | None, points: int, pause: float = 0.0) -> Clock:
    """The time of the acquisition part."""

    def slowly(detectors: Any, step: Any, pos_cache: Any) -> Iterator[Any]:
        yield from bps.one_nd_step(detectors, step, pos_cache)
        yield from bps.sleep(pause)

    clock = Clock()
    tokens = [engine.subscribe(callback) for callback in (clock, writer) if callback]
    try:
        engine(bp.scan([det], motor, -1, 1, points, per_step=slowly if pause else None))
    finally:
        for token in tokens:
            engine.unsubscribe(token)
    return clock


# -- how soon rows can be read --------------------------------------------------------------------


def read_ages(uri: str) -> None:
    """In another process: look again and again, and print how old each row was when first seen.

    The age is counted from the time of the event, and includes the reading itself.
    """
    client = from_uri(uri)
    print("ready", flush=True)
    uid, points = json.loads(sys.stdin.readline())
    ages: list[float] = []
    table = None
    deadline = time.monotonic() + GIVE_UP
    while len(ages) < points and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
        try:
            if table is None:
                table = client[uid]["primary"].base["internal"]
            times = table.read(["time"])["time"]
        except (KeyError, ValueError, httpx.HTTPError):  # not there yet, or busy with an append
            continue
        now = time.time()
        if len(times) > len(ages):
            ages += [now - taken for taken in times[len(ages) :]]
            deadline = time.monotonic() + GIVE_UP
    print(json.dumps(ages), flush=True)


def ages(engine: RunEngine, writer: Writer, uri: str, points: int) -> list[float]:
    with other_process(READER, Path(__file__).parent, uri) as (reader, _):
        assert reader.stdin
        assert reader.stdout

        def tell(name: str, doc: dict[str, Any]) -> None:
            reader.stdin.write(json.dumps([doc["uid"], points]) + "\n")
            reader.stdin.flush()

        token = engine.subscribe(tell, "start")
        scan(engine, writer, points, PAUSE)
        engine.unsubscribe(token)
        found = list(json.loads(reader.stdout.readline()))
    if len(found) != points:
        raise RuntimeError(f"{len(found)} of {points} rows could be read")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--repetitions", type=int, default=31)
    parser.add_argument("--peer-every", type=int, default=15, help="rounds from one of its to next")
    options = parser.parse_args()
    engine = RunEngine({})

    with tiled_server() as uri, journals() as directory, ExitStack() as stack:
        client = from_uri(uri)
        writer = stack.enter_context(TiledWriter(client, journal_directory=directory))
        peer_writer = PeerWriter(client, batch_size=1)

        live_writer = stack.enter_context(
            TiledWriter(client, journal_directory=directory, batch_size=1)
        )
        far_client = from_uri(stack.enter_context(distant(uri)))
        far_writer = stack.enter_context(
            TiledWriter(far_client, journal_directory=directory, batch_size=1)
        )
        cpu: dict[str, list[float]] = {"bare": [], "ours": [], "live": [], "live, far": []}

        def timed(name: str, writer: Writer | None) -> float:
            clock = scan(engine, writer, options.points)
            cpu[name].append(clock.cpu)
            return clock.seconds

        def bare() -> float:
            return timed("bare", None)

        def ours(name: str, writer: TiledWriter) -> float:
            elapsed = timed(name, writer)
            writer.flush()  # what is left after `stop` is not for the next candidate to bear
            return elapsed

        def peer() -> float:
            return scan(engine, peer_writer, options.points).seconds

        candidates: dict[str, Callable[[], float]] = {
            "bare": bare,
            "ours": partial(ours, "ours", writer),
            "live": partial(ours, "live", live_writer),
            "live, far": partial(ours, "live, far", far_writer),
        }
        for candidate in candidates.values():
            candidate()  # what comes only once in a process
        cpu = {name: [] for name in cpu}
        candidates["peer"] = peer
        cost = medians(candidates, options.repetitions, {"peer": options.peer_every})

    old: dict[str, list[float]] = {}
    for name, batch_size in (("default", BATCH_SIZE), ("live", 1)):
        with (
            server_for_readers() as uri,
            journals() as directory,
            TiledWriter(
                from_uri(uri), journal_directory=directory, batch_size=batch_size
            ) as writer,
        ):
            scan(engine, writer, options.points)
            writer.flush()
            old[name] = ages(engine, writer, uri, options.points)

    print(
        f"scan: {options.points} points in {cost['bare']:.3f} s bare; peer in live mode "
        f"{cost['peer'] / cost['bare']:.1f} times"
    )
    for name, processor in cpu.items():
        if name != "bare":
            print(
                f"scan, {name}: {cost[name] / cost['bare']:.3f} times bare, "
                f"{median(processor) / median(cpu['bare']):.3f} by the time of the processor"
            )
    for name, found in old.items():
        late = quantiles(found, n=20)[-1]
        print(
            f"age of rows, {name}: {median(found):.2f} s (median), {late:.2f} s (95 of 100), "
            f"{max(found):.2f} s (oldest), when another process first read them"
        )


if __name__ == "__main__":
    main()
