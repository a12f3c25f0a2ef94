"""What a scan waits for in memory: `EventBuffer.event`, beside packing the event with msgpack.

Run as ``python benchmarks/bench_buffer.py``. Each figure is the best of many blocks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgpack
import numpy as np

from bluesky_tiled_writer.run import RunSettings
from bluesky_tiled_writer.run.event_buffer import EventBuffer
from bluesky_tiled_writer.schema import DeclaredKey

EVENTS = 2_000
"""Events in a block; what they leave in the buffer is taken out afterwards."""

BLOCKS = 150

CASES: dict[str, tuple[int, int]] = {
    "1 number": (1, 0),
    "3 numbers": (3, 0),
    "10 numbers": (10, 0),
    "3 numbers, an array of 10": (3, 10),
}
"""Numbers, and elements of an array, in an event."""


def best(call: Callable[[Any], Any], doc: Any, after: Callable[[], Any]) -> float:
    """Nanoseconds of one call."""
    found = float("inf")
    for _ in range(BLOCKS):
        start = time.perf_counter()
        for _ in range(EVENTS):
            call(doc)
        found = min(found, time.perf_counter() - start)
        after()
    return found / EVENTS * 1e9


def declared(numbers: int, elements: int) -> Iterable[DeclaredKey]:
    f8 = np.dtype("f8")
    for i in range(numbers):
        yield DeclaredKey(f"number{i}", False, f8, (), {})
    if elements:
        yield DeclaredKey("array", True, f8, (elements,), {})


def main() -> None:
    print(f"{'event':28s}{'buffer':>10s}{'msgpack':>10s}{'ratio':>8s}")
    for name, (numbers, elements) in CASES.items():
        lock = threading.RLock()
        buffer = EventBuffer("primary", RunSettings(batch_size=10**9), lock)
        data: dict[str, Any] = {}
        for key in declared(numbers, elements):
            buffer.declare(key)
            data[key.key] = np.zeros(elements) if key.is_array else 1.5
        stamps = dict.fromkeys(data, 1.0)
        doc = {"uid": "e", "descriptor": "d", "seq_num": 1, "time": 1.0, "timestamps": stamps}
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in data.items()}

        def take_out(buffer: EventBuffer = buffer, lock: Any = lock) -> None:
            with lock:
                buffer.take()

        event = best(buffer.event, {**doc, "data": data}, take_out)
        packed = best(msgpack.packb, {**doc, "data": plain}, lambda: None)
        print(f"{name:28s}{event:7.0f} ns{packed:7.0f} ns{event / packed:8.2f}")


if __name__ == "__main__":
    main()
