"""Two beamlines, a bus, two consumers, a balancer, two Tiled servers, PostgreSQL and Redis.

Each of them is killed in turn, while runs are published: each row is there once, in order, and live
subscribers go on.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from consumers.kafka_broker import Beamline, KafkaBroker
from consumers.services import Service
from consumers.stored import wait_stored
from documents import RunBuilder, data_key
from faults import LONG
from servers import wait_until
from tiled.client import from_uri
from tiled.client.container import Container
from tree import read_arrow, stream_of

from .facility import Facility

pytestmark = pytest.mark.postgresql

ROUNDS = 10 if LONG else 1
IN_FLIGHT = 2
"""Containers that are being made at a time, one by each consumer."""
FRAMES = 10
PAUSE = 0.3
"""s between ten documents of a beamline; it publishes two runs a second, or less."""


@pytest.fixture(scope="module")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facility]:
    directory = tmp_path_factory.mktemp("facility")
    with Facility.running(directory, tmp_path_factory.getbasetemp()) as facility:
        yield facility


@pytest.fixture(scope="module")
def client(facility: Facility) -> Iterator[Container]:
    client = from_uri(facility.uri)
    yield client
    client.context.close()


def step_scan(number: int) -> RunBuilder:
    """Return a run of single events."""
    run = RunBuilder()
    run.start(scan_id=number)
    run.descriptor("primary", {"x": "number", "n": "integer", "label": "string"})
    for i in range(50):
        run.event("primary", {"x": i / 2, "n": i, "label": f"row {i}"})
    run.stop()
    return run


def fly_scan(number: int) -> RunBuilder:
    """Return a run of pages."""
    run = RunBuilder()
    run.start(scan_id=number)
    run.descriptor("primary", {"n": "integer"})
    for page in range(10):
        run.event_page("primary", [{"n": 100 * page + i} for i in range(100)])
    run.stop()
    return run


def imaging(number: int, directory: Path) -> RunBuilder:
    """Return a run with images in a file."""
    run = RunBuilder()
    path = directory / f"{run.uid}.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(FRAMES * 6).reshape(FRAMES, 2, 3)
    run.start(scan_id=number)
    image = data_key("array", [2, 3], external="STREAM:", dtype_numpy="<i8")
    run.descriptor("primary", {"n": "integer", "image": image})
    resource = run.stream_resource("image", f"file://localhost{path}", dataset="/data")
    for i in range(FRAMES):
        run.stream_datum("primary", resource, i, i + 1)
        run.event("primary", {"n": i})
    run.stop()
    return run


class Publisher(threading.Thread):
    """A beamline that publishes runs one after the other until it is told to end."""

    def __init__(self, beamline: Beamline, directory: Path) -> None:
        super().__init__()
        self._beamline = beamline
        self._directory = directory
        self._ending = threading.Event()
        self.runs: list[RunBuilder] = []

    def run(self) -> None:
        while not self._ending.is_set():
            number = len(self.runs)
            kinds = [step_scan, fly_scan, lambda n: imaging(n, self._directory)]
            run = kinds[number % 3](number)
            self.runs.append(run)
            for at in range(0, len(run.docs), 10):
                self._beamline.publish(run, run.docs[at : at + 10])
                self._ending.wait(PAUSE)

    def end(self) -> None:
        self._ending.set()
        self.join()


class LiveRuns:
    """Runs as a subscriber sees them, who subscribes again if the server ends the connection.

    Tiled's client does so by itself, unless a server answers with an error just then.
    """

    def __init__(self, client: Container) -> None:
        self.runs: set[str] = set()
        self._client = client
        self._ending = threading.Event()
        self._seen = -1
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ending.is_set():
            self._subscription = self._client.subscribe()
            self._subscription.child_created.add_callback(self._on_run)
            with suppress(Exception):
                self._subscription.start(self._seen + 1)
            self._ending.wait(0.5)

    def _on_run(self, update: Any) -> None:
        self._seen = update.sequence
        self.runs.add(update.key)

    def lacks(self, runs: Iterable[RunBuilder]) -> int:
        """Return how many of these runs it was not told of."""
        return sum(run.uid not in self.runs for run in runs)

    def close(self) -> None:
        self._ending.set()
        self._subscription.disconnect(wait=False)
        self._thread.join()


@pytest.fixture
def services(facility: Facility, tmp_path: Path) -> Iterator[Callable[[KafkaBroker], Service]]:
    with ExitStack() as stack:

        def new(broker: KafkaBroker) -> Service:
            service = Service(
                tmp_path / "consume",
                "kafka",
                r"^bl.*\.documents",
                f"--to={facility.uri}",
                f"--brokers={broker.address}",
                "--batch-size=1",
                "-Xsession.timeout.ms=6000",
                "-Xheartbeat.interval.ms=500",
                "-Xtopic.metadata.refresh.interval.ms=1000",
            )
            stack.callback(service.terminate)
            return service

        yield new


def check(client: Container, run: RunBuilder) -> None:
    """Compare all that a reader gets with what was published."""
    stream = stream_of(client, run.uid)
    table = read_arrow(stream["internal"])
    expected: list[int] = []
    for name, doc in run.docs:
        if name == "event":
            expected.append(doc["data"]["n"])
        elif name == "event_page":
            expected += doc["data"]["n"]
    assert table["n"].to_pylist() == expected
    assert table["seq_num"].to_pylist() == [*range(1, len(expected) + 1)]
    if "image" in stream:
        assert (stream["image"].read() == np.arange(FRAMES * 6).reshape(FRAMES, 2, 3)).all()
    assert client[run.uid].metadata["stop"]["uid"] == run.docs[-1][1]["uid"]
    assert not client[run.uid].metadata.get("notes")


def test_each_row_is_there_once_whatever_is_killed(
    facility: Facility,
    client: Container,
    services: Callable[[KafkaBroker], Service],
    tmp_path: Path,
) -> None:
    with KafkaBroker() as broker, ExitStack() as stack:
        running = [services(broker), services(broker)]
        live = LiveRuns(client)
        stack.callback(live.close)
        beamlines = [
            Publisher(Beamline(broker, f"bl{number}.bluesky.runengine.documents"), tmp_path)
            for number in (1, 2)
        ]
        for beamline in beamlines:
            beamline.start()
        begun: list[RunBuilder] = []  # after a fault, and stored before the next one

        def go_on() -> None:
            begun.append(next_run(beamlines))
            wait_stored(client, begun[-1], timeout=180)

        try:
            go_on()
            for _ in range(ROUNDS):
                running.pop(0).kill()
                running.append(services(broker))
                go_on()
                server = random.choice(facility.servers)
                server.kill()
                go_on()
                server.start()
                facility.postgresql.crash()
                go_on()
        finally:
            for beamline in beamlines:
                beamline.end()
        runs = [run for beamline in beamlines for run in beamline.runs]
        for run in runs:
            wait_stored(client, run, timeout=180)
        for run in runs:
            check(client, run)
        # Tiled tells of a container after it is made. One that is killed in between does not.
        wait_until(
            lambda: live.lacks(begun) == 0 and live.lacks(runs) <= IN_FLIGHT * 2 * ROUNDS,
            lambda: f"the subscriber missed {live.lacks(runs)} runs, {live.lacks(begun)} in quiet",
            timeout=60.0,
        )
        for service in running:
            assert not any("set aside" in text for text in service.messages)


def next_run(beamlines: list[Publisher]) -> RunBuilder:
    """Wait for a run that begins after now, and return it."""
    beamline = random.choice(beamlines)
    before = len(beamline.runs)
    wait_until(lambda: len(beamline.runs) > before, "nothing is published", timeout=60.0)
    return beamline.runs[-1]
