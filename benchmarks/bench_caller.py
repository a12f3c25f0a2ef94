"""What one event costs the caller: the RunEngine waits this long at every point of a scan.

With the default settings, once as fast as the writer takes events, where whatever it does in the
background competes for the interpreter, and once at the pace of a fast scan; live; and with
settings at which nothing is sent. Beside it, the floor of a writer that keeps events on disk: to
pack each with msgpack, and write it by one system call. At last what a descriptor costs.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgpack
from bluesky_tiled_plugins import TiledWriter as PeerWriter
from common import PATIENCE, Pair, Run, journals, medians, seconds, tiled_server
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter

NEVER = 10**9
"""A batch size, and an interval, that are not reached in the part that is timed."""
AT_ONCE = 100
"""Events that are made, then sent."""

Writer = Callable[[str, dict[str, Any]], object]


def send(writer: Writer, pairs: list[Pair]) -> None:
    for name, doc in pairs:
        writer(name, doc)


def seconds_per_event(writer: Writer, events: int, rate: float | None = None) -> float:
    """Mean seconds that a call with an event takes.

    Events are made shortly before they are sent, as a RunEngine makes them: those of a list of
    many thousand would have left the processor's cache long before their turn.
    """
    run = Run()
    for name, doc in run.opening():
        writer(name, doc)
    docs = run.events(events)
    total, start = 0.0, time.perf_counter()
    for first in range(0, events, 1 if rate else AT_ONCE):
        some = list(islice(docs, 1 if rate else AT_ONCE))
        if rate:
            time.sleep(max(0.0, start + first / rate - time.perf_counter()))
        total += seconds(partial(send, writer, some))
    for name, doc in run.closing():
        writer(name, doc)
    return total / events


def seconds_per_descriptor(writer: Writer, keys: int) -> float:
    """Seconds that a call with a descriptor takes, in a run after others with the same devices."""
    run = Run()
    (_, start), (_, descriptor) = run.opening()
    number = {"source": "PV", "dtype": "number", "shape": [], "units": "mm", "precision": 3}
    data_keys = {f"key_{i}": dict(number) for i in range(keys)}
    descriptor |= {"data_keys": data_keys, "object_keys": {"device": list(data_keys)}}
    writer("start", start)
    elapsed = seconds(partial(writer, "descriptor", descriptor))
    for name, doc in run.closing():
        writer(name, doc)
    return elapsed


def seconds_of_floor(path: Path, events: int) -> float:
    """Mean seconds that it takes to pack an event and write it to a file."""
    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_WRONLY, 0o600)
    pack = msgpack.Packer(autoreset=True).pack

    def write(name: str, doc: dict[str, Any]) -> None:
        os.write(fd, pack([name, doc]))

    try:
        return seconds_per_event(write, events)
    finally:
        os.close(fd)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50_000, help="several batches of the default")
    parser.add_argument(
        "--peer-events", type=int, default=10_000, help="for the peer: one batch of its default"
    )
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second, when paced")
    parser.add_argument("--paced-events", type=int, default=2500)
    parser.add_argument("--keys", type=int, default=200, help="of a descriptor")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()

    with tiled_server() as uri, journals() as directory:
        client = from_uri(uri)

        def ours(events: int, rate: float | None = None, **more: Any) -> float:
            with TiledWriter(
                client, journal_directory=directory, timeout=PATIENCE, **more
            ) as writer:
                return seconds_per_event(writer, events, rate)

        def peer(events: int, rate: float | None = None, **more: Any) -> float:
            return seconds_per_event(PeerWriter(client, **more), events, rate)

        def ours_descriptor() -> float:
            with TiledWriter(client, journal_directory=directory, timeout=PATIENCE) as writer:
                seconds_per_descriptor(writer, options.keys)
                return seconds_per_descriptor(writer, options.keys)

        def peer_descriptor() -> float:
            return seconds_per_descriptor(PeerWriter(client), options.keys)

        never_sent = {"batch_size": NEVER, "flush_interval": NEVER}
        paced = (options.paced_events, options.rate)
        pace = f"default, {options.rate:.0f} events/s"
        candidates: dict[str, Callable[[], float]] = {
            "ours, default": partial(ours, options.events),
            "peer, default": partial(peer, options.peer_events),
            f"ours, {pace}": partial(ours, *paced),
            f"peer, {pace}": partial(peer, *paced),
            "ours, live": partial(ours, options.events, batch_size=1),
            "floor": partial(seconds_of_floor, directory / "floor", options.events),
            "ours, nothing sent": partial(ours, options.events, **never_sent),
            "peer, nothing sent": partial(peer, options.peer_events, batch_size=NEVER),
            "ours, descriptor": ours_descriptor,
            "peer, descriptor": peer_descriptor,
        }
        cost = medians(candidates, options.repetitions)
    for settings in ("default", pace, "nothing sent"):
        ours_s, peer_s = cost[f"ours, {settings}"], cost[f"peer, {settings}"]
        print(
            f"caller, {settings}: ours {ours_s * 1e6:.1f} us, peer {peer_s * 1e6:.0f} us, "
            f"ratio 1/{peer_s / ours_s:.0f}"
        )
    for settings in ("default", "live", "nothing sent"):
        ours_s, floor_s = cost[f"ours, {settings}"], cost["floor"]
        print(
            f"caller, {settings}: {ours_s * 1e6:.1f} us, floor {floor_s * 1e6:.1f} us, "
            f"{ours_s / floor_s:.2f} times"
        )
    ours_s, peer_s = cost["ours, descriptor"], cost["peer, descriptor"]
    print(
        f"caller, a descriptor of {options.keys} keys: ours {ours_s * 1e3:.1f} ms, "
        f"peer {peer_s * 1e3:.0f} ms, ratio 1/{peer_s / ours_s:.0f}"
    )


if __name__ == "__main__":
    main()
