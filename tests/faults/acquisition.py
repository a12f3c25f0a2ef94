"""Processes that write or recover runs, to be killed at any moment."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from documents import Pair
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.sink import ownership

from .processes import processes

PATIENCE = 60.0
"""s: for a process to start, or to end by itself."""


def acquire(uri: str, journals: Path, docs: list[Pair], returned: Path, pace: float) -> None:
    """Write documents; `returned` gets a byte for each call that has returned."""
    file = os.open(returned, os.O_WRONLY | os.O_APPEND)
    with TiledWriter(from_uri(uri), journal_directory=journals, flush_interval=0.02) as writer:
        for name, doc in docs:
            writer(name, doc)
            os.write(file, b".")
            time.sleep(pace)


def recover(uri: str, journals: Path, ready: Path, go: Path) -> None:
    """Finish the runs of processes that are gone; begin when there is a file `go`."""
    client = from_uri(uri)
    ready.touch()
    wait_for(go.exists)
    with TiledWriter(client, journal_directory=journals) as writer:
        recoveries = writer.recover(timeout=PATIENCE)
        assert all(recovery.stored for recovery in recoveries), recoveries


class Acquisition:
    """A process that writes a run.

    Parameters
    ----------
    uri : str
        The server.
    journals : Path
        Directory of the journals.
    docs : list of Pair
        What to write.
    returned : Path
        A file for `acquire`.
    pace : float
        Seconds between documents.
    """

    def __init__(
        self, uri: str, journals: Path, docs: list[Pair], returned: Path, pace: float
    ) -> None:
        returned.touch()
        self._returned = returned
        self.process = processes.Process(target=acquire, args=(uri, journals, docs, returned, pace))

    @property
    def returned(self) -> int:
        """The number of calls that have returned."""
        return self._returned.stat().st_size

    def wait_for_returned(self, count: int) -> None:
        wait_for(lambda: self.returned >= count or not self.process.is_alive())
        assert self.returned >= count, "the acquisition failed"

    def __enter__(self) -> Acquisition:
        self.process.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        kill(self.process)


@contextmanager
def recovery(uri: str, journals: Path, directory: Path, name: str) -> Iterator[BaseProcess]:
    """Start a process that recovers once there is a file called "go" in the directory."""
    ready = directory / f"{name} is ready"
    ready.unlink(missing_ok=True)
    process = processes.Process(target=recover, args=(uri, journals, ready, directory / "go"))
    process.start()
    try:
        wait_for(lambda: ready.exists() or not process.is_alive())
        yield process
    finally:
        kill(process)


def kill(process: BaseProcess) -> None:
    """End a process with SIGKILL, if it has not ended yet."""
    process.kill()
    process.join()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition did not hold within {PATIENCE:.0f} s")
        time.sleep(0.001)


def write_beside_others(
    uri: str,
    journals: Path,
    constants: Mapping[str, float],
    ready: Path,
    orders: Any,
    returned: Path,
) -> None:
    """Write a run when it is told which one, and wait until Tiled has it, whoever stores it."""
    for name, seconds in constants.items():
        setattr(ownership, name, seconds)
    file = os.open(returned, os.O_WRONLY | os.O_APPEND)
    logging.getLogger("bluesky_tiled_writer").addHandler(
        logging.FileHandler(returned.parent / "log")
    )
    client = from_uri(uri)
    ready.touch()
    docs, pace = orders.get()
    with TiledWriter(client, journal_directory=journals, flush_interval=0.02) as writer:
        for name, doc in docs:
            writer(name, doc)
            os.write(file, b".")
            time.sleep(pace)
        assert writer.wait_for(docs[0][1]["uid"], timeout=PATIENCE), writer.status


class Rival:
    """A process that writes a run which another one may write, too.

    Parameters
    ----------
    uri : str
        The server.
    directory : Path
        For its journals.
    constants : mapping of str to float
        Constants of `sink.ownership`.
    """

    def __init__(self, uri: str, directory: Path, constants: Mapping[str, float]) -> None:
        self.journals = directory / "journals"
        self._returned, self._ready = directory / "returned", directory / "ready"
        directory.mkdir()
        self._returned.touch()
        self._orders = processes.SimpleQueue()
        args = (uri, self.journals, constants, self._ready, self._orders, self._returned)
        self._process = processes.Process(target=write_beside_others, args=args)

    def __enter__(self) -> Rival:
        self._process.start()
        wait_for(lambda: self._ready.exists() or not self._process.is_alive())
        return self

    def __exit__(self, *exc_info: object) -> None:
        kill(self._process)
        self._orders.close()

    def begin(self, docs: list[Pair], pace: float) -> None:
        """Let it write these documents, with so many seconds between them."""
        self._orders.put((docs, pace))

    @property
    def alive(self) -> bool:
        """True if it has not ended."""
        return self._process.is_alive()

    @property
    def is_clean(self) -> bool:
        """True if no journal of it is left."""
        return list(self.journals.iterdir()) == []

    def wait_for_returned(self, count: int) -> None:
        """Wait until so many calls have returned."""
        wait_for(lambda: self._returned.stat().st_size >= count or not self.alive)

    def kill(self) -> None:
        """End it at once."""
        kill(self._process)

    def join(self) -> None:
        """Wait until it has ended, without an error."""
        self._process.join(PATIENCE)
        assert self._process.exitcode == 0

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self.journals.parent / "log").read_text()
