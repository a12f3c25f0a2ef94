"""The plans that blueapi offers; and the writer that it makes for each task is ours."""

import bluesky.plans
from blueapi.service import interface
from bluesky.utils import MsgGenerator
from ophyd.sim import det

from bluesky_tiled_writer import TiledWriter

interface.TiledWriter = TiledWriter


def count(num: int, delay: float = 0.0) -> MsgGenerator:
    """Count a simulated detector."""
    yield from bluesky.plans.count([det], num, delay=delay)
