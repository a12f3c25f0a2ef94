"""Our own Tiled in a process of its own, and readers that poll a run while it grows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tiled.client import from_uri
from tiled.client.container import Container
from tiled.client.utils import ClientError
from tiled.commandline._catalog import init

from bluesky_tiled_writer.local_server import LocalServer

from .acquisition import kill, wait_for
from .processes import processes

READERS = 3


def serve(directory: Path, database: str, uri: Path) -> None:
    """Run a `LocalServer` until the process is killed; tell its address in a file."""
    directory.mkdir()
    init(f"sqlite:///{directory / 'catalog.db'}")  # Tiled itself would start another Python for it
    with LocalServer(directory, database=database) as server:
        partial = uri.with_suffix(".partial")
        partial.write_text(server.uri)
        partial.rename(uri)
        threading.Event().wait()


@contextmanager
def local_server(directory: Path, database: str) -> Iterator[tuple[str, BaseProcess]]:
    """Run a `LocalServer` in a process of its own; yield its address, and the process."""
    uri = directory / "uri"
    process = processes.Process(target=serve, args=(directory / "server", database, uri))
    process.start()
    try:
        wait_for(lambda: uri.exists() or not process.is_alive())
        yield uri.read_text(), process
    finally:
        kill(process)


@dataclass
class Report:
    """What a reader got.

    Attributes
    ----------
    polls : int
        How often it has read.
    rows : int
        Rows that it read last.
    errors : list of str
        What should not have been.
    """

    polls: int = 0
    rows: int = 0
    errors: list[str] = field(default_factory=list)

    def read(self, stream: Container, table: Any) -> None:
        """Read the table, and what there is of the array then."""
        numbers = list(table.read()["n"])
        if len(numbers) < self.rows or numbers != list(range(len(numbers))):
            self.errors.append(f"{len(numbers)} rows to number {numbers[-1]} after {self.rows}")
        self.rows = len(numbers)
        try:
            array = stream["a"]
            rows = array.shape[0]
            values = array[:rows]  # the whole is refused if it has grown since
        except ClientError as error:  # not made yet
            if error.response.status_code != 404:
                raise
        except KeyError:
            pass
        else:
            if values[:, 0].tolist() != list(range(rows)):
                self.errors.append(f"{rows} rows of the array are not those that were measured")
        self.polls += 1


def poll(uri: str, uid: str, ready: Path, stop: Path, report: Path) -> None:
    """Read a run again and again, the last time when there is a file `stop`."""
    client = from_uri(uri)
    ready.touch()
    result = Report()
    last = False
    try:
        while not last:
            last = stop.exists()
            try:
                stream = client[uid, "primary"]
                table = stream["internal/events"]
            except KeyError:  # not there yet
                if result.polls or last:
                    raise
            else:
                result.read(stream, table)
    except Exception as error:
        result.errors.append(repr(error))
    finally:
        report.write_text(json.dumps(asdict(result)))


class Readers:
    """Three readers, each in a process of its own."""

    def __init__(self, uri: str, uid: str, directory: Path) -> None:
        self._stop = directory / "stop"
        self._reports = [directory / f"report {i}" for i in range(READERS)]
        self._ready = [directory / f"reader {i}" for i in range(READERS)]
        self._processes = [
            processes.Process(target=poll, args=(uri, uid, ready, self._stop, report))
            for ready, report in zip(self._ready, self._reports, strict=True)
        ]
        self._stack = ExitStack()

    def __enter__(self) -> Readers:
        for process in self._processes:
            process.start()
            self._stack.callback(kill, process)
        wait_for(lambda: all(path.exists() for path in self._ready))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def stop(self) -> list[Report]:
        """Stop the readers, and return what they got."""
        self._stop.touch()
        for process in self._processes:
            process.join()
        return [Report(**json.loads(path.read_text())) for path in self._reports]
