"""How long a run takes from `start` until `stop` returns, with every row in Tiled."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
from bluesky_tiled_plugins import TiledWriter as PeerWriter
from common import PATIENCE, Run, journals, medians, seconds, table, tiled_server
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter

BATCH_SIZE = 10_000
"""Of the raw appends; it is the default of both writers."""
PAGE_SIZE = 1000

Documents = list[tuple[str, dict[str, Any]]]


def as_events(rows: int) -> tuple[str, Documents]:
    run = Run()
    return run.uid, [*run.opening(), *run.events(rows), *run.closing()]


def as_pages(rows: int) -> tuple[str, Documents]:
    run = Run()
    return run.uid, [*run.opening(), *run.event_pages(rows, PAGE_SIZE), *run.closing()]


def send(writer: Callable[[str, dict[str, Any]], object], docs: Iterable[Any]) -> float:
    def action() -> None:
        for name, doc in docs:
            writer(name, doc)

    return seconds(action)


def check(client: Container, uid: str, rows: int) -> None:
    """A writer that had not stored the rows when `stop` returned would win unfairly."""
    stored = len(client[uid]["primary"].base["internal"].read(["seq_num"]))
    if stored != rows:
        raise RuntimeError(f"{stored} of {rows} rows are in Tiled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument(
        "--peer-rows", type=int, default=20_000, help="for the peer, scaled up to --rows"
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--peer-every", type=int, default=3, help="rounds from one of its to next")
    options = parser.parse_args()
    rows, peer_rows = options.rows, options.peer_rows
    whole = [table(0, rows)]
    pieces = [table(i, min(BATCH_SIZE, rows - i)) for i in range(0, rows, BATCH_SIZE)]

    with tiled_server() as uri, journals() as directory:
        client = from_uri(uri)

        def raw(tables: list[pa.Table]) -> float:
            def action() -> None:
                node = client.create_appendable_table(tables[0].schema)
                for part in tables:
                    node.append_partition(0, part)

            return seconds(action)

        def ours(make: Callable[[int], tuple[str, Documents]]) -> float:
            uid, docs = make(rows)
            with TiledWriter(client, journal_directory=directory, timeout=PATIENCE) as writer:
                elapsed = send(writer, docs)
                check(client, uid, rows)
            return elapsed

        def peer(make: Callable[[int], tuple[str, Documents]]) -> float:
            uid, docs = make(peer_rows)
            elapsed = send(PeerWriter(client), docs)
            check(client, uid, peer_rows)
            return elapsed * rows / peer_rows

        candidates: dict[str, Callable[[], float]] = {
            "raw": lambda: raw(pieces),
            "raw, in one piece": lambda: raw(whole),
            "ours, events": lambda: ours(as_events),
            "peer, events": lambda: peer(as_events),
            "ours, event pages": lambda: ours(as_pages),
            "peer, event pages": lambda: peer(as_pages),
        }
        peers = [name for name in candidates if name.startswith("peer")]
        seldom = dict.fromkeys(peers, options.peer_every)
        time = medians(candidates, options.repetitions, seldom)

    print(
        f"raw appends: {rows} rows in {time['raw']:.2f} s, {BATCH_SIZE} at a time; in one piece "
        f"{time['raw, in one piece']:.2f} s"
    )
    for form in ("events", "event pages"):
        ours_s, peer_s = time[f"ours, {form}"], time[f"peer, {form}"]
        print(
            f"end to end, {form}: ours {ours_s:.2f} s, {ours_s / time['raw']:.2f} times the raw "
            f"appends ({ours_s / time['raw, in one piece']:.2f} times the one piece); "
            f"peer {peer_s:.2f} s, ratio 1/{peer_s / ours_s:.1f}"
        )


if __name__ == "__main__":
    main()
