"""What the journal costs the caller for each event, beside JSON text of the same event."""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

from common import Pair, Run, medians, seconds

from bluesky_tiled_writer.journal import JournalDirectory
from bluesky_tiled_writer.journal.codec import Encoder


def append_all(pairs: list[Pair], directory: Path) -> float:
    journal = JournalDirectory(directory).create("a uid", "a server")

    def append() -> None:
        for name, doc in pairs:
            journal.append(name, doc)

    elapsed = seconds(append)
    journal.remove()
    return elapsed


def encode_all(pairs: list[Pair]) -> float:
    encode = Encoder().encode

    def pack() -> None:
        for name, doc in pairs:
            encode([name, doc])

    return seconds(pack)


def dump_all(pairs: list[Pair]) -> float:
    def dump() -> None:
        for name, doc in pairs:
            json.dumps([name, doc])

    return seconds(dump)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--directory", help="where to write; by default, for temporary files")
    options = parser.parse_args()

    pairs = list(Run().events(options.events))
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        candidates = {
            "append": partial(append_all, pairs, Path(directory)),
            "encode": partial(encode_all, pairs),
            "json": partial(dump_all, pairs),
        }
        cost = medians(candidates, options.repetitions)
    append, encode, dumps = (1e6 * cost[name] / options.events for name in candidates)
    print(
        f"journal: append {append:.1f} us, encode alone {encode:.1f} us an event of 5 keys; "
        f"json.dumps {dumps:.1f} us, ratios {append / dumps:.2f} and {encode / dumps:.2f}"
    )


if __name__ == "__main__":
    main()
