"""A day at a beamline in small: tasks, visits, logins that expire, restarts, readers that poll."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from bluesky import RunEngine
from bluesky.plans import count
from ophyd.sim import det
from tiled.client import from_uri
from tree import read_arrow, stream_of

from bluesky_tiled_writer import TiledWriter

from .tiled_process import KEY, TiledProcess
from .tokens import TokenAuth, TokenServer

SECONDS = float(os.environ.get("SOAK", "15"))
"""s: how long it lasts; ``nox -s soak`` takes an hour."""

TASKS_A_VISIT = 5
PATIENCE = 120.0


@contextmanager
def every(seconds: float, do: Callable[[], None]) -> Iterator[None]:
    """Do something now and then, in a thread, until the end of the context."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(seconds):
            do()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def poll(url: str) -> None:
    """Read tables of runs, as people do who watch; whatever goes wrong."""
    while True:
        with suppress(Exception):
            client = from_uri(f"{url}/api/v1", api_key=KEY)
            with client.context:
                for _ in range(20):
                    visit = client[random.choice(list(client))]
                    run = visit[random.choice(list(visit))]
                    run["primary"]["internal"].read()
                    time.sleep(0.05)


@contextmanager
def readers(url: str, number: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=poll, args=(url,), daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


class Beamline:
    """Takes runs: a client and a writer for each task, in a container for each visit."""

    def __init__(
        self, engine: RunEngine, server: TiledProcess, tokens: TokenServer, journals: Path
    ) -> None:
        self.engine = engine
        self.server = server
        self.tokens = tokens
        self.journals = journals
        self.points: dict[str, tuple[str, int]] = {}  # by uid: its visit, and how many

    def writer_for(self, visit: str) -> TiledWriter:
        return TiledWriter.from_uri(
            f"{self.server.url}/api/v1/metadata/{visit}",
            auth=TokenAuth(self.tokens),
            batch_size=1,
            timeout=0.5,
            journal_directory=self.journals,
        )

    def task(self, number: int) -> None:
        visit = f"visit-{number // TASKS_A_VISIT}"
        with suppress(httpx.HTTPError):  # the server may be down: the container is made later
            self.make(visit)
        token = self.engine.subscribe(self.writer_for(visit))
        points = random.randint(1, 12)
        (uid,) = self.engine(count([det], points, delay=random.choice([0, 0, 0.05])))
        self.engine.unsubscribe(token)
        self.points[uid] = (visit, points)

    def make(self, visit: str) -> None:
        """Make the container of a visit, which may be there."""
        answer = httpx.post(
            f"{self.server.url}/api/v1/metadata/",
            headers={"Authorization": f"Apikey {KEY}"},
            json={
                "id": visit,
                "structure_family": "container",
                "metadata": {},
                "specs": [],
                "data_sources": [],
            },
            timeout=60.0,  # it may have much to do after a restart
        )
        assert answer.status_code in (200, 409)


def used() -> tuple[int, int, int]:
    """Return the threads, descriptors and bytes that this process has."""
    gc.collect()
    return threading.active_count(), descriptors(), resident()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Return the memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_each_row_of_a_day_is_there_once(
    RE: RunEngine,
    tmp_path: Path,
    journals: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "server").mkdir()
    tokens = TokenServer()
    with ExitStack() as stack:
        stack.callback(tokens.stop)
        server = stack.enter_context(TiledProcess(tmp_path / "server", tmp_path, "sqlite"))
        beamline = Beamline(RE, server, tokens, journals)

        def restart() -> None:
            server.kill()
            time.sleep(random.random())
            server.start()

        def expire() -> None:
            tokens.status = random.choice([401, 503])
            time.sleep(random.random() * 2)
            tokens.status = 200

        began, number = time.monotonic(), 0
        usage: list[tuple[int, int, int]] = []
        with (
            readers(server.url, 2),
            every(max(5.0, SECONDS / 60), restart),
            every(max(3.0, SECONDS / 90), expire),
        ):
            while time.monotonic() - began < SECONDS:
                beamline.task(number)
                number += 1
                if number % 10 == 0:
                    usage.append(used())

        client = from_uri(server.uri)
        stack.enter_context(client.context)
        for visit, _ in beamline.points.values():
            beamline.make(visit)
        with beamline.writer_for("visit-0") as last:
            deadline = time.monotonic() + PATIENCE
            while list(journals.iterdir()):
                assert time.monotonic() < deadline, f"left: {last.status}"
                last.recover(timeout=10.0)
            last.client.context.close()
        usage.append(used())  # while the server is away, writers that wait have threads and sockets

        assert number >= 2
        for uid, (visit, points) in beamline.points.items():
            run = client[visit][uid]
            assert run.metadata["stop"]["exit_status"] == "success"
            table = read_arrow(stream_of(client[visit], uid)["internal"])
            assert table["seq_num"].to_pylist() == [*range(1, points + 1)]
    with capsys.disabled():
        print(f"\n{number} tasks, {sum(n for _, n in beamline.points.values())} points; threads,")
        print(f"descriptors, bytes: {usage[:1]} ... {usage[-1:]}")
    if SECONDS > 60:
        early, late = usage[len(usage) // 4], usage[-1]
        assert late[0] <= early[0] + 5
        assert late[1] <= early[1] + 20
        assert late[2] <= 1.2 * early[2]
