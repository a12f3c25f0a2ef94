"""A migration is killed again and again, and gone on with: each run is there once, whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest
import stamina
from documents import Pair, RunBuilder, data_key, emit
from servers import wait_until
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.checks import RunInTiled, verify
from bluesky_tiled_writer.cli import migrate
from bluesky_tiled_writer.cli.reports import Outcome
from bluesky_tiled_writer.errors import ServerUnreachable
from bluesky_tiled_writer.sink import ownership

from . import LONG
from .processes import processes
from .proxy import Proxy
from .tiled_process import TiledProcess

RUNS = 500 if LONG else 20
"""From files, and as many from another server."""

KILLS = 10 if LONG else 2
WORKERS = 3

Docs = list[Pair]


def small_run(number: int) -> Docs:
    """Return a run with an array and a rewind, and for some with another stream."""
    run = RunBuilder()
    run.start(scan_id=number, tiled_specs=["mine"])
    keys = {"x": "number", "label": "string", "image": data_key("array", [3], dtype_numpy="<i4")}
    run.descriptor("primary", keys)
    if number % 10 == 0:
        run.descriptor("baseline", {"temperature": "number"})
        run.event("baseline", {"temperature": 290.0 + number})
    for i in range(2 + number % 4):
        run.event("primary", _row(number, i))
    run.event("primary", _row(number, 9), seq_num=1)
    run.stop()
    return run.docs


def _row(number: int, i: int) -> dict[str, Any]:
    return {"x": number + i / 4, "label": f"row {i}", "image": np.arange(i, i + 3, dtype="<i4")}


def some_runs() -> dict[str, Docs]:
    return {docs[0][1]["uid"]: docs for docs in map(small_run, range(RUNS))}


@dataclass
class Source:
    """Where runs are: the path of a directory, or the address of a server."""

    where: str | Path
    runs: dict[str, Docs]

    @contextmanager
    def open(self) -> Iterator[Any]:
        if isinstance(self.where, Path):
            yield self.where
            return
        client = from_uri(self.where)
        yield client
        client.context.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Files of suitcase-msgpack, most of them with one run, and some with five."""
    directory, runs = tmp_path_factory.mktemp("saved"), some_runs()
    rest = list(runs.items())
    while rest:
        count = 5 if len(rest) % 3 == 0 else 1
        several, rest = rest[:count], rest[count:]
        with (directory / f"{several[0][0]}.msgpack").open("wb") as file:
            for _, docs in several:
                for pair in docs:
                    file.write(msgpack.packb(pair, default=msgpack_numpy.encode))
    return Source(directory, runs)


@pytest.fixture(scope="module")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    directory, runs = tmp_path_factory.mktemp("source"), some_runs()
    with TiledProcess(directory, tmp_path_factory.getbasetemp(), "sqlite") as server:
        source = Source(server.uri, runs)
        with (
            source.open() as client,
            TiledWriter(client, journal_directory=None, timeout=60.0) as writer,
        ):
            for docs in runs.values():
                emit(docs, writer)
        yield source


def workers_for(server: TiledProcess) -> int:
    """Return how many workers the database of a server bears, as the how-to has it."""
    return 1 if server.database == "duckdb" else WORKERS


def move(source: Source, target: str, path: Sequence[str], workers: int) -> None:
    """Move runs in a process of its own, until it is killed."""
    ownership.PATIENCE, ownership.GRACE = 0.3, 0.1  # as in all tests
    with source.open() as opened:
        migrate(opened, from_uri(target)[tuple(path)], workers=workers)


def has(container: Container, runs: int) -> Callable[[], bool]:
    return lambda: len(container.new_variation()) >= runs


def kill_and_go_on(source: Source, server: TiledProcess, target: Container) -> None:
    """Kill migrations to a container now and then, and let the last one come to its end."""
    random, place, workers = Random(7), Source(source.where, {}), workers_for(server)
    for kill in range(1, KILLS + 1):
        args = (place, server.uri, target.path_parts, workers)
        process = processes.Process(target=move, args=args)
        process.start()
        try:
            wait_until(has(target, kill * RUNS // (KILLS + 1)), lambda: "no run arrives")
            time.sleep(random.expovariate(1 / 0.1))
            assert process.is_alive(), "it ended before it could be killed"
        finally:
            process.kill()
            process.join()
    with source.open() as opened:
        report = migrate(opened, target, workers=workers, verify=LONG)
    assert report.complete, report
    assert report.outcomes.total() == RUNS


def assert_all_there_once(target: Container, runs: dict[str, Docs]) -> None:
    assert sorted(target.new_variation()) == sorted(runs)
    for uid, docs in runs.items():
        stored = RunInTiled.find(target, uid)
        assert list(map(str, verify(docs, stored))) == [], uid
        assert stored is not None
        assert stored.metadata.keys() == {"start", "stop"}


def test_runs_in_files_are_there_once(
    server: TiledProcess, client: Container, saved: Source
) -> None:
    target = client.create_container()
    kill_and_go_on(saved, server, target)
    assert_all_there_once(target, saved.runs)


def test_runs_of_another_server_are_there_once(
    server: TiledProcess, client: Container, other_server: Source
) -> None:
    target = client.create_container()
    kill_and_go_on(other_server, server, target)
    assert_all_there_once(target, other_server.runs)
    specs = [spec.name for spec in target[next(iter(other_server.runs))].specs]
    assert specs == ["mine", "BlueskyRun"]


def test_a_server_that_goes_away_ends_a_migration_which_can_be_gone_on_with(
    proxy: Proxy, client: Container, faulty_client: Container
) -> None:
    runs = [small_run(number) for number in range(3)]
    path = tuple(client.create_container().path_parts)
    target = faulty_client[path]

    class LeavesAfterTheFirst:
        def __iter__(self) -> Iterator[Any]:
            yield runs[0]
            proxy.go_away()
            yield from runs[1:]

    with stamina.set_testing(True, attempts=2):  # Tiled's client tries for 20 s else
        report = migrate(LeavesAfterTheFirst(), target, workers=1, timeout=20.0)
    assert isinstance(report.error, ServerUnreachable)
    assert "Run the same command again" in report.error.hint
    assert report.outcomes[Outcome.STORED] == 1
    assert not report.complete
    proxy.come_back()
    report = migrate(runs, target, timeout=30.0)
    assert report.complete, report
    assert_all_there_once(client[path], {docs[0][1]["uid"]: docs for docs in runs})
