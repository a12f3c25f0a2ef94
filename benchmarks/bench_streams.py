"""How long a run of many streams takes to be stored after its last event.

Twelve streams: a baseline of 300 keys with a row at either end, ten monitors with a row every
second, and 60 points of 12 keys at 0.1 s. Timed is what comes after the last point: the second row
of the baseline, and the stop document, until the call with it returns.
"""

from __future__ import annotations

import argparse
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from bluesky_tiled_plugins import TiledWriter as PeerWriter
from common import PATIENCE, PROXY_DELAY, Pair, distant, journals, medians, seconds, server_on
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter

Writer = Callable[[str, dict[str, Any]], object]

BASELINE_KEYS = 300
MONITORS = 10
KEYS = 12
ROWS_A_SECOND = 10


class Run:
    """The documents of a run, made when they are asked for."""

    def __init__(self) -> None:
        self.uid = str(uuid.uuid4())
        monitors = {f"monitor_{i}": [f"signal_{i}"] for i in range(MONITORS)}
        self.keys = {
            "baseline": [f"motor_{i}" for i in range(BASELINE_KEYS)],
            **monitors,
            "primary": [f"det_{i}" for i in range(KEYS)],
        }
        self.rows = dict.fromkeys(self.keys, 0)

    def opening(self) -> Iterator[Pair]:
        yield "start", {"uid": self.uid, "time": time.time(), "plan_name": "scan"}
        for stream, keys in self.keys.items():
            data_keys = {key: {"source": "", "dtype": "number", "shape": []} for key in keys}
            descriptor = {"uid": f"{self.uid}-{stream}", "run_start": self.uid, "name": stream}
            more = {"time": time.time(), "configuration": {}, "object_keys": {}}
            yield "descriptor", {**descriptor, "data_keys": data_keys, **more}

    def event(self, stream: str) -> Pair:
        self.rows[stream] += 1
        row, now, keys = self.rows[stream], time.time(), self.keys[stream]
        event = {"uid": f"{self.uid}-{stream}-{row}", "descriptor": f"{self.uid}-{stream}"}
        data = {key: row + i / 7 for i, key in enumerate(keys)}
        values = {"data": data, "timestamps": dict.fromkeys(keys, now), "filled": {}}
        return "event", {**event, "time": now, "seq_num": row, **values}

    def closing(self) -> Iterator[Pair]:
        yield self.event("baseline")
        stop = {"uid": f"{self.uid}-stop", "run_start": self.uid, "time": time.time()}
        yield "stop", {**stop, "exit_status": "success", "num_events": self.rows}


def scan(writer: Writer, points: int, exposure: float) -> tuple[Run, float]:
    """Send a run; return it, and the seconds from its last point until `stop` returns."""
    run = Run()
    for name, doc in run.opening():
        writer(name, doc)
    writer(*run.event("baseline"))
    for point in range(points):
        if point % ROWS_A_SECOND == 0:
            for stream in run.keys:
                if stream.startswith("monitor"):
                    writer(*run.event(stream))
        time.sleep(exposure)
        writer(*run.event("primary"))

    def close() -> None:
        for name, doc in run.closing():
            writer(name, doc)

    return run, seconds(close)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--exposure", type=float, default=0.1, help="seconds a point")
    parser.add_argument("--delay", type=float, default=PROXY_DELAY, help="seconds a request")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--databases", nargs="+", default=["postgresql", "sqlite"])
    parser.add_argument("--without-peer", action="store_true")
    options = parser.parse_args()
    for database in options.databases:
        for delay in (0.0, options.delay):
            with ExitStack() as stack:
                server = stack.enter_context(server_on(database))
                uri = stack.enter_context(distant(server, delay)) if delay else server
                near, client = from_uri(server), from_uri(uri)
                directory = stack.enter_context(journals())
                options_of_ours = {"journal_directory": directory, "timeout": PATIENCE}
                writer = stack.enter_context(TiledWriter(client, **options_of_ours))
                live = stack.enter_context(TiledWriter(client, batch_size=1, **options_of_ours))
                writers: dict[str, Writer] = {"ours": writer, "live": live}
                if not options.without_peer:
                    writers["peer"] = PeerWriter(client)

                def timed(name: str, writers: Any = writers, near: Any = near) -> float:
                    writer = writers[name]
                    run, elapsed = scan(writer, options.points, options.exposure)
                    stored = near[run.uid]
                    if stored.metadata["stop"] is None:
                        raise RuntimeError("`stop` returned before the run was stored")
                    for stream, rows in run.rows.items():
                        found = len(stored[stream].base["internal"].read(["seq_num"]))
                        if found != rows:
                            raise RuntimeError(f"{found} of {rows} rows of {stream} are stored")
                    if isinstance(writer, TiledWriter):
                        writer.flush()  # what is left is not for the next candidate to bear
                    return elapsed

                candidates = {name: lambda name=name: timed(name) for name in writers}  # type: ignore[misc]
                for candidate in candidates.values():  # tables, and what comes once in a process
                    candidate()
                found = medians(candidates, options.repetitions, {"peer": 2})
            text = ", ".join(f"{name} {value:.2f} s" for name, value in found.items())
            ratio = f", ratio {found['ours'] / found['peer']:.2f}" if "peer" in found else ""
            print(f"streams: {database}, each request {delay} s late: {text}{ratio}", flush=True)


if __name__ == "__main__":
    main()
