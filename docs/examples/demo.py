"""Run a simulated scan into a Tiled server that goes down on the way, and read it back.

The server is started for the occasion; nothing else needs to run. In the middle of the scan it is
stopped, and started again: the scan does not notice, and in the end each row is there, once.
"""

from __future__ import annotations

import argparse
import logging
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import matplotlib
from bluesky import RunEngine
from ophyd.sim import det, motor
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.local_server import LocalServer

matplotlib.use("Agg")

POINTS = 51
EXPOSURE = 0.08
"""Seconds a point."""
OUTAGE = range(12, 30)
"""Points during which the server is down, about."""
SHOWN = 8
"""Rows of the live table."""


class Server:
    """A Tiled server that can be stopped and started again, at the same address."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.running: LocalServer | None = LocalServer(directory)
        self.key, self.port, self.uri = self.running.api_key, self.running.port, self.running.uri

    def stop(self) -> None:
        if self.running is not None:
            self.running.close()
            self.running = None

    def start(self) -> None:
        self.running = LocalServer(self._directory, api_key=self.key, port=self.port)


class LiveTable:
    """What has been measured, and how much of it Tiled has, while the scan goes on.

    Subscribe it to the RunEngine, behind the writer. It stops and starts the server, too.
    """

    def __init__(self, writer: TiledWriter, server: Server, live: Live) -> None:
        self._writer = writer
        self._server = server
        self._live = live
        self._rows: list[dict[str, Any]] = []
        self.without_server = 0
        self._threads: list[threading.Thread] = []

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        if name == "event":
            self._rows.append(doc)
            self.without_server += self._server.running is None
            if len(self._rows) == OUTAGE.start:
                self._in_background(self._server.stop)
            elif len(self._rows) == OUTAGE.stop:
                self._in_background(self._server.start)
        self.show()

    def _in_background(self, action: Any) -> None:
        if self._threads:
            self._threads[-1].join()
        self._threads.append(thread := threading.Thread(target=action))
        thread.start()

    def show(self) -> None:
        """Draw the table."""
        table = Table("seq_num", "motor", "det", box=None)
        for doc in self._rows[-SHOWN:]:
            data = doc["data"]
            table.add_row(str(doc["seq_num"]), f"{data['motor']:.2f}", f"{data['det']:.4f}")
        up = self._server.running is not None
        state = Text("Tiled is up" if up else "Tiled is down", "green" if up else "bold red")
        stored = self._writer.status.rows_stored
        counts = f"{len(self._rows)} rows are measured, and on disk; {stored} are in Tiled"
        self._live.update(Group(table, "", state, counts))


def take_scan(server: Server, live: Live) -> tuple[str, int]:
    """Scan while the server goes down and comes back; return the uid, and points without it."""
    RE = RunEngine({})
    with TiledWriter.from_uri(server.uri, flush_interval=0.3) as writer:
        RE.subscribe(writer)
        table = LiveTable(writer, server, live)
        RE.subscribe(table)
        (uid,) = RE(bp.scan([det], motor, -5, 5, POINTS, per_step=one_point))
        while not writer.wait_for(uid, 0.2):
            table.show()
        table.show()
    return str(uid), table.without_server


def one_point(detectors: Any, motor: Any, step: Any) -> Any:
    """Measure as long as a detector would; the simulated one takes no time."""
    yield from bps.one_1d_step(detectors, motor, step)
    yield from bps.sleep(EXPOSURE)


def plot_scan(client: Container, uid: str, path: Path) -> None:
    """Read the run back, check that each row is there once, and plot it."""
    from matplotlib import pyplot

    table = client[uid]["primary"]["internal/events"].read()
    print(f"\nRun {uid}, read back from Tiled:\n")
    print(table[["seq_num", "time", "motor", "det"]].to_string(index=False, max_rows=10))
    if table["seq_num"].tolist() != [*range(1, POINTS + 1)]:
        raise SystemExit("Rows are missing, or there twice.")
    print(f"\nEach of the {POINTS} rows is there, once.", end=" ")

    figure, axes = pyplot.subplots()
    axes.plot(table["motor"], table["det"], "o-")
    axes.set(xlabel="motor", ylabel="det", title=uid)
    figure.savefig(path)


def main() -> None:
    """Parse the command line and run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the data in DIR")
    parser.add_argument("--output", metavar="PNG", type=Path, default=Path("demo-scan.png"))
    parser.add_argument("--serve", action="store_true", help="leave the server up until Ctrl-C")
    options = parser.parse_args()

    logging.getLogger("bluesky_tiled_writer").setLevel(logging.ERROR)  # the table says it
    began = time.monotonic()
    with ExitStack() as stack:
        directory = options.keep or Path(stack.enter_context(TemporaryDirectory()))
        server = Server(directory)
        stack.callback(server.stop)
        with Live() as live:
            uid, without_server = take_scan(server, live)
        client = from_uri(server.uri)
        stack.callback(client.context.close)
        plot_scan(client, uid, options.output)
        print(f"{without_server} of them were measured while the server was down.")
        print(f"Plot: {options.output.resolve()}")
        print(f"All of it took {time.monotonic() - began:.0f} s.")
        if options.serve and server.running is not None:
            print(f"Tiled's web page: {server.running.web_ui_link}\nCtrl-C ends the server.")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
        else:
            print("To look at the run in Tiled's web page, pass --serve.")


if __name__ == "__main__":
    main()
