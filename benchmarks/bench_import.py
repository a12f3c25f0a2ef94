"""What the import of the writer takes, each time in a new process."""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial

from common import medians

IMPORTS = {
    "ours": "from bluesky_tiled_writer import TiledWriter",
    "bluesky": "from bluesky.callbacks.tiled_writer import TiledWriter",
    "bluesky-tiled-plugins": "from bluesky_tiled_plugins import TiledWriter",
    "tiled.client": "import tiled.client",
}


def seconds_of(statement: str) -> float:
    """Return the time of the processor that a statement takes in a new process."""
    clock = "from time import process_time as now; start = now()"
    command = [sys.executable, "-W", "ignore", "-c", f"{clock}; {statement}; print(now() - start)"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    candidates = {name: partial(seconds_of, statement) for name, statement in IMPORTS.items()}
    for candidate in candidates.values():  # compile, and read from disk
        candidate()
    times = medians(candidates, options.repetitions)
    for name, time in times.items():
        print(f"{name:>22}: {time:.2f} s, {time / times['ours']:.1f} times ours")


if __name__ == "__main__":
    main()
