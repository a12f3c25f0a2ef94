"""A client and a writer for each task, as blueapi has them: they leave nothing behind."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky import plans as bp
from faults import LONG
from ophyd.sim import det, motor
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter

from .helpers import wait_until

TASKS = 500 if LONG else 15
WARM_UP = 5
"""Tasks after which a process has what it makes once."""
OBJECTS = 20
"""By which the objects of a process may grow for each task: a writer has 45, its client 160."""
DESCRIPTORS = 4
"""By which open files may differ: connections of clients that are not collected yet."""


def of_a_client(uri: str, **options: Any) -> TiledWriter:
    return TiledWriter(from_uri(uri), **options)


MakeWriter = Callable[..., TiledWriter]


def run_task(make: MakeWriter, engine: RunEngine, uri: str, journals: Path) -> None:
    writer = make(uri, batch_size=1, journal_directory=journals)
    token = engine.subscribe(writer)
    engine(bp.scan([det], motor, -1, 1, 3))
    engine.unsubscribe(token)


def count() -> tuple[int, int]:
    """Open files, and objects, once the last task is done and the threads of its writer ended."""
    wait_until(
        lambda: not any(t.name.startswith("bluesky-tiled-writer") for t in threading.enumerate())
    )
    gc.collect()
    descriptors = Path("/proc/self/fd")
    return len(os.listdir(descriptors)) if descriptors.exists() else 0, len(gc.get_objects())


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # clients that nobody closes
@pytest.mark.parametrize("make", [of_a_client, TiledWriter.from_uri])
def test_nothing_grows_with_the_number_of_tasks(
    RE: RunEngine, served_catalog: str, journals: Path, make: MakeWriter
) -> None:
    RE.dispatcher.unsubscribe_all()  # the writer of the fixture
    for _ in range(WARM_UP):
        run_task(make, RE, served_catalog, journals)
    before = count()
    for _ in range(TASKS):
        run_task(make, RE, served_catalog, journals)
    after = count()
    assert after[0] <= before[0] + DESCRIPTORS
    assert after[1] < before[1] + OBJECTS * TASKS
    assert list(journals.iterdir()) == []


def test_connections_that_a_writer_has_made_end_with_it(
    RE: RunEngine, served_catalog: str, journals: Path
) -> None:
    """Without the garbage collector, since objects of `tiled.client` refer to each other."""
    RE.dispatcher.unsubscribe_all()
    gc.collect()
    gc.disable()
    try:
        run_task(TiledWriter.from_uri, RE, served_catalog, journals)
        before = open_sockets()
        for _ in range(3):
            run_task(TiledWriter.from_uri, RE, served_catalog, journals)
        wait_until(lambda: open_sockets() <= before)
    finally:
        gc.enable()


def open_sockets() -> int:
    links = (os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd"))
    return sum("socket:" in link for link in links)
