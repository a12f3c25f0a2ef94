"""How much memory a writer takes during a long run (Linux only)."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from common import Run, seconds, tiled_server
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter


def peak_rss() -> float:
    """The largest resident size of this process so far, in MB."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) / 1024


def write_one_run(uri: str, events: int) -> None:
    """Write events as fast as the writer takes them, and print what that took.

    A short run comes first: what every process needs that writes at all is not counted.
    """
    writer = TiledWriter(from_uri(uri))

    def write(count: int) -> None:
        run = Run()
        for docs in (run.opening(), run.events(count), run.closing()):
            for name, doc in docs:
                writer(name, doc)

    write(100)
    before = peak_rss()
    elapsed = seconds(lambda: write(events))
    print(json.dumps({"before": before, "after": peak_rss(), "seconds": elapsed}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--uri", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.uri:
        write_one_run(options.uri, options.events)
        return
    with tiled_server() as uri:
        # In a process of its own, because the peak cannot be measured twice in one.
        command = [sys.executable, __file__, f"--uri={uri}", f"--events={options.events}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(output.splitlines()[-1])
    print(
        f"memory: {result['after'] - result['before']:.0f} MB above the {result['before']:.0f} MB "
        f"after start-up, at the peak of {options.events} events in {result['seconds']:.1f} s"
    )


if __name__ == "__main__":
    main()
