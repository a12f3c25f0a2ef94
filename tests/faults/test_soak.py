"""A day at a beamline in small: tasks, visits, logins that expire, restarts, readers that poll."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

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

    def task(self) -> None:
        visit = f"visit-{len(self.points) // TASKS_A_VISIT}"
        self.make(visit)  # later, if the server is down
        token = self.engine.subscribe(self.writer_for(visit))
        points = random.randint(1, 12)
        (uid,) = self.engine(count([det], points, delay=random.choice([0, 0, 0.05])))
        self.engine.unsubscribe(token)
        self.points[uid] = (visit, points)

    def make(self, visit: str) -> bool:
        """Make the container of a visit; return True if it is there."""
        try:
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
        except httpx.HTTPError:
            return False
        assert answer.status_code in (200, 409) or answer.is_server_error  # SQLite may be busy
        return not answer.is_server_error


class Usage(NamedTuple):
    """What this process has: threads, descriptors, and memory, as Python and malloc count it.

    `resident` is what the system counts, for the record. After outages, in which many writers
    wait, it is more: malloc keeps what their threads have freed for the next ones.
    """

    threads: int
    descriptors: int
    blocks: int
    malloc_bytes: int
    resident: int

    @classmethod
    def now(cls) -> Usage:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            threads=threading.active_count(),
            descriptors=len(os.listdir("/proc/self/fd")),
            blocks=sys.getallocatedblocks(),
            malloc_bytes=malloc_bytes(),
            resident=pages * os.sysconf("SC_PAGE_SIZE"),
        )


class MallocInfo(ctypes.Structure):
    """What mallinfo2(3) of glibc returns."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks")),
        ("keepcost", ctypes.c_size_t),
    ]


def malloc_bytes() -> int:
    """Return what was allocated and not freed yet; nothing is known of another malloc."""
    try:
        mallinfo2 = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return 0
    mallinfo2.restype = MallocInfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


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

        # Compared at rest: while the server is away, writers that wait have threads and sockets.
        work(beamline, SECONDS / 4)
        finish(beamline)
        early = Usage.now()
        work(beamline, SECONDS * 3 / 4)
        finish(beamline)
        late = Usage.now()

        client = from_uri(server.uri)
        stack.enter_context(client.context)
        assert len(beamline.points) >= 2
        for uid, (visit, points) in beamline.points.items():
            run = client[visit][uid]
            assert run.metadata["stop"]["exit_status"] == "success"
            table = read_arrow(stream_of(client[visit], uid)["internal"])
            assert table["seq_num"].to_pylist() == [*range(1, points + 1)]
    with capsys.disabled():
        points = sum(points for _, points in beamline.points.values())
        print(f"\n{len(beamline.points)} tasks, {points} points\n{early}\n{late}")
    if SECONDS > 60:
        assert late.threads <= early.threads + 5
        assert late.descriptors <= early.descriptors + 20
        assert late.blocks <= 1.2 * early.blocks
        assert late.malloc_bytes <= 1.2 * early.malloc_bytes


def work(beamline: Beamline, seconds: float) -> None:
    """Do tasks, while logins expire, the server restarts, and people read."""
    server, tokens = beamline.server, beamline.tokens

    def restart() -> None:
        server.kill()
        time.sleep(random.random())
        server.start()

    def expire() -> None:
        tokens.status = random.choice([401, 503])
        time.sleep(random.random() * 2)
        tokens.status = 200

    end = time.monotonic() + seconds
    with (
        readers(server.url, 2),
        every(max(5.0, SECONDS / 60), restart),
        every(max(3.0, SECONDS / 90), expire),
    ):
        while time.monotonic() < end:
            beamline.task()


def finish(beamline: Beamline) -> None:
    """Wait until all runs are stored, now that nothing stands in their way."""
    deadline = time.monotonic() + PATIENCE
    for visit in {visit for visit, _ in beamline.points.values()}:
        while not beamline.make(visit):
            assert time.monotonic() < deadline, f"the server does not make {visit}"
    with beamline.writer_for("visit-0") as last:
        while list(beamline.journals.iterdir()):
            assert time.monotonic() < deadline, f"left: {last.status}"
            last.recover(timeout=10.0)
        last.client.context.close()
