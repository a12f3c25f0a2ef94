"""What one event costs the caller: the RunEngine waits this long at every point of a scan."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from bluesky_tiled_plugins import TiledWriter as PeerWriter
from common import Run, medians, seconds, tiled_server
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter

NEVER = 10**9
"""A batch size at which no flush falls into the part that is timed."""


def seconds_per_event(writer: Callable[[str, dict[str, Any]], object], events: int) -> float:
    run = Run()
    docs = list(run.events(events))

    def send() -> None:
        for name, doc in docs:
            writer(name, doc)

    for name, doc in run.opening():
        writer(name, doc)
    elapsed = seconds(send)
    for name, doc in run.closing():
        writer(name, doc)
    return elapsed / events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()

    with tiled_server() as uri:
        client = from_uri(uri)

        def ours() -> float:
            return seconds_per_event(TiledWriter(client, batch_size=NEVER), options.events)

        def peer() -> float:
            return seconds_per_event(PeerWriter(client, batch_size=NEVER), options.events)

        cost = medians({"ours": ours, "peer": peer}, options.repetitions)
    print(
        f"caller: ours {cost['ours'] * 1e6:.1f} us, peer {cost['peer'] * 1e6:.0f} us, "
        f"ratio 1/{cost['peer'] / cost['ours']:.0f}"
    )


if __name__ == "__main__":
    main()
