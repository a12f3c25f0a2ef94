"""How long RE() takes for a short run where every request to Tiled is late.

Once with devices that take no time, so that a writer can do nothing meanwhile, and once with
points that take theirs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from bluesky_tiled_plugins import TiledWriter as PeerWriter
from common import PROXY_DELAY, distant, journals, medians, seconds, tiled_server
from ophyd.sim import det, motor
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter

Writer = Callable[[str, dict[str, Any]], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--exposure", type=float, default=0.1, help="seconds a point")
    parser.add_argument("--delay", type=float, default=PROXY_DELAY, help="seconds a request")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    engine = RunEngine({})
    uids: list[str] = []

    def plan(exposure: float) -> Iterator[Any]:
        def point(detectors: Any, step: Any, pos_cache: Any) -> Iterator[Any]:
            yield from bps.sleep(exposure)
            yield from bps.one_nd_step(detectors, step, pos_cache)

        return bp.scan([det], motor, -1, 1, options.points, per_step=point if exposure else None)

    def run(exposure: float, writer: Writer | None) -> float:
        token = engine.subscribe(writer) if writer else None
        elapsed = seconds(lambda: uids.extend(engine(plan(exposure))))
        if token is not None:
            engine.unsubscribe(token)
        return elapsed

    with (
        tiled_server() as server,
        distant(server, options.delay) as uri,
        journals() as directory,
        TiledWriter(from_uri(uri), journal_directory=directory) as writer,
    ):
        near = from_uri(server)
        peer = PeerWriter(from_uri(uri))
        live_peer = PeerWriter(from_uri(uri), batch_size=1)

        def ours(exposure: float) -> float:
            elapsed = run(exposure, writer)
            if near[uids[-1]].metadata["stop"] is None:
                raise RuntimeError("RE() returned before the run was stored")
            writer.flush()  # what is left after `stop` is not for the next candidate to bear
            return elapsed

        print(f"latency: RE() of {options.points} points, each request {options.delay} s late")
        for exposure in (0.0, options.exposure):
            candidates: dict[str, Callable[[], float]] = {
                "bare": partial(run, exposure, None),
                "ours": partial(ours, exposure),
                "peer": partial(run, exposure, peer),
                "live peer": partial(run, exposure, live_peer),
            }
            for candidate in candidates.values():  # what comes only once in a process
                candidate()
            time = medians(candidates, options.repetitions, {"live peer": 5})
            extra = {name: time[name] - time["bare"] for name in candidates}
            print(
                f"  {exposure} s a point: ours {time['ours']:.2f} s, peer {time['peer']:.2f} s, "
                f"ratio {time['ours'] / time['peer']:.2f}; beyond the {time['bare']:.2f} s "
                f"without a writer {extra['ours']:.2f} and {extra['peer']:.2f} s, "
                f"ratio {extra['ours'] / extra['peer']:.2f}; "
                f"peer in live mode {time['live peer']:.2f} s"
            )


if __name__ == "__main__":
    main()
