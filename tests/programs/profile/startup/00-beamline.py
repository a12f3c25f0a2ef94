"""What the profile of a beamline does; IPython, queueserver and Jupyter run it."""

import logging
import os

import bluesky.plan_stubs as bps
from bluesky import RunEngine
from bluesky.plans import count, scan
from ophyd.sim import det, motor

from bluesky_tiled_writer import TiledWriter

__all__ = ["count", "det", "motor", "scan"]  # for those who type


def count_and_pause():
    """A run that stays open until somebody resumes it."""
    yield from bps.open_run({"plan_name": "count_and_pause"})
    yield from bps.trigger_and_read([det])
    yield from bps.pause()
    yield from bps.close_run()


logging.basicConfig(level=logging.WARNING)
RE = RunEngine()
tw = TiledWriter.from_uri(os.environ["TILED_URI"])
RE.subscribe(tw)
print("The profile went on to its last line.")
