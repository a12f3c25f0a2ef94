"""Run a simulated scan, store it in a Tiled server, and read it back.

The server is started for the occasion; nothing else needs to run.
"""

from __future__ import annotations

import argparse
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import bluesky.plans as bp
import matplotlib
from bluesky import RunEngine
from ophyd.sim import det, motor
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.local_server import LocalServer

matplotlib.use("Agg")


def take_scan(client: Container) -> str:
    """Move the motor in 21 steps across the detector's peak, and return the uid of the run."""
    RE = RunEngine({})
    RE.subscribe(TiledWriter(client))
    (uid,) = RE(bp.scan([det], motor, -5, 5, 21))
    return str(uid)


def plot_scan(client: Container, uid: str, path: Path) -> None:
    """Plot the detector against the motor."""
    from matplotlib import pyplot

    table = client[uid]["primary"]["internal/events"].read()
    print(f"Run {uid}, read back from Tiled:\n")
    print(table[["seq_num", "time", "motor", "det"]].to_string(index=False))

    figure, axes = pyplot.subplots()
    axes.plot(table["motor"], table["det"], "o-")
    axes.set(xlabel="motor", ylabel="det", title=uid)
    figure.savefig(path)
    print(f"\nPlot: {path.resolve()}")


def main() -> None:
    """Parse the command line and run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the data in DIR")
    parser.add_argument("--output", metavar="PNG", type=Path, default=Path("demo-scan.png"))
    parser.add_argument("--serve", action="store_true", help="leave the server up until Ctrl-C")
    options = parser.parse_args()

    with ExitStack() as stack:
        directory = options.keep or Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(LocalServer(directory))
        client = from_uri(server.uri)
        stack.callback(client.context.close)
        uid = take_scan(client)
        plot_scan(client, uid, options.output)
        if options.serve:
            print(f"Tiled's web page: {server.web_ui_link}\nCtrl-C ends the server.")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
        else:
            print("To look at the run in Tiled's web page, pass --serve.")


if __name__ == "__main__":
    main()
