"""How much memory a writer takes during a long run (Linux only).

Once with the server up, once with the server gone, so that connections are refused, and once with
the server hung, which takes connections and answers nothing.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bluesky_tiled_plugins import TiledWriter as PeerWriter
from common import PATIENCE, SERVER, Pair, Run, journals, other_process, seconds
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter

DEFAULT_TIMEOUT = 30.0
Writer = Callable[[str, dict[str, Any]], object]


# -- the process that is measured: a peak cannot be measured twice in one -------------------------


def peak_rss() -> float:
    """The largest resident size of this process so far, in MB."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) / 1024


def write_runs(uri: str, who: str, directory: str, events: int, timeout: float) -> None:
    if who == "peer":
        write_two_runs(PeerWriter(from_uri(uri)), events, settle=lambda: None)
        return
    writer = TiledWriter(from_uri(uri), journal_directory=directory, timeout=timeout)
    write_two_runs(writer, events, settle=writer.flush)
    writer.close(0)  # a run that is not stored is thrown away with its journal


def write_two_runs(writer: Writer, events: int, settle: Callable[[], object]) -> None:
    """Write events as fast as the writer takes them, and print what that took.

    A short run comes first: what every process needs that writes at all is not counted. Between
    the two the server may go away.
    """

    def write(docs: Iterator[Pair]) -> None:
        for name, doc in docs:
            writer(name, doc)

    first, run = Run(), Run()
    for docs in (first.opening(), first.events(100), first.closing()):
        write(docs)
    settle()
    print("ready", flush=True)
    sys.stdin.readline()
    before = peak_rss()
    write(run.opening())
    taken = seconds(lambda: write(run.events(events)))
    stored = taken + seconds(lambda: write(run.closing()))
    figures = {"before": before, "after": peak_rss(), "taken": taken, "stored": stored}
    print(json.dumps({"uid": run.uid, **figures}), flush=True)


# -- the process that measures --------------------------------------------------------------------


def leave_up(server: subprocess.Popen[str]) -> None:
    pass


def kill(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.wait()


def hang(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGSTOP)


def measure(who: str, events: int, fate: Callable[[subprocess.Popen[str]], None]) -> str:
    """What one process took while the server met its fate."""
    up = fate is leave_up
    timeout = PATIENCE if up else DEFAULT_TIMEOUT
    with other_process(SERVER) as (server, uri), journals() as directory:
        arguments = [who, uri, directory, events, timeout]
        command = [sys.executable, __file__, "--write", *map(str, arguments)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin
            assert process.stdout
            process.stdout.readline()
            fate(server)
            process.stdin.write("go\n")
            process.stdin.flush()
            result = json.loads(process.stdout.readline())
        if fate is hang:
            server.send_signal(signal.SIGCONT)
        if up:
            table = from_uri(uri)[result["uid"]]["primary"].base["internal"]
            if (rows := len(table.read(["seq_num"]))) != events:
                raise RuntimeError(f"{rows} of {events} rows are in Tiled")
    return (
        f"{result['after'] - result['before']:.0f} MB above the {result['before']:.0f} MB after "
        f"start-up, at the peak of {events} events, taken in {result['taken']:.1f} s, "
        f"{'stored' if up else 'given back'} after {result['stored']:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument(
        "--peer-events", type=int, default=30_000, help="for the peer, with the server up"
    )
    parser.add_argument("--write", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        who, uri, directory, events, timeout = options.write
        write_runs(uri, who, directory, int(events), float(timeout))
        return
    for state, fate in {"up": leave_up, "gone": kill, "hung": hang}.items():
        print(f"memory, server {state}: {measure('ours', options.events, fate)}", flush=True)
    print(f"memory of the peer, server up: {measure('peer', options.peer_events, leave_up)}")


if __name__ == "__main__":
    main()
