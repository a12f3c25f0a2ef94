"""Proxies of 0MQ: the one of bluesky in a process of its own, and one that loses messages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import zmq
from bluesky.callbacks.zmq import ClientCurve, Proxy, Publisher, ServerCurve
from documents import Pair
from faults.processes import processes
from servers import free_port, wait_until

from bluesky_tiled_writer.consumers import MessageSource


def to_msgpack(doc: Any) -> bytes:
    """Return a document as publishers send it that do not pickle."""
    return bytes(msgpack.packb(doc, default=msgpack_numpy.encode))


def serve(publishers: str, subscribers: str, curve: ServerCurve | None) -> None:
    Proxy(publishers, subscribers, out_curve=curve).start()


class BlueskyProxy:
    """A proxy that can be killed, and started again at the same addresses.

    Attributes
    ----------
    publishers, subscribers : str
        Where those connect to.
    """

    def __init__(self, curve: ServerCurve | None = None) -> None:
        self.publishers, self.subscribers = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self._curve = curve
        self.start()

    def start(self) -> None:
        self._process = processes.Process(
            target=serve, args=(self.publishers, self.subscribers, self._curve)
        )
        self._process.start()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@contextmanager
def lossy_proxy(drop: Callable[[bytes], bool]) -> Iterator[tuple[str, str]]:
    """Pass on what `drop` does not want; yields the addresses for publishers and subscribers."""
    context = zmq.Context()
    publishers, subscribers = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    stopped = threading.Event()

    def forward() -> None:
        with context.socket(zmq.SUB) as front, context.socket(zmq.PUB) as back:
            front.setsockopt(zmq.SUBSCRIBE, b"")
            front.bind(publishers)
            back.bind(subscribers)
            while not stopped.is_set():
                if front.poll(50) and not drop(message := front.recv()):
                    back.send(message)

    thread = threading.Thread(target=forward)
    thread.start()
    try:
        yield publishers, subscribers
    finally:
        stopped.set()
        thread.join()
        context.destroy(0)


def join(publisher: Publisher, source: MessageSource) -> None:
    """Wait until what is published comes; then nothing more is on its way."""

    def comes() -> bool:
        publisher("stop", {"run_start": "nobody"})
        return bool(source.receive(0.05))

    wait_until(comes, lambda: "nothing comes from the proxy")
    while source.receive(0.3):
        pass


def publish(publisher: Publisher, docs: Iterable[Pair]) -> None:
    for name, doc in docs:
        publisher(name, doc)


def make_keys(directory: Path) -> tuple[ServerCurve, ClientCurve]:
    """Return the keys of a proxy, and those of a client that it does not know."""
    from zmq.auth import create_certificates

    server_public, server_secret = create_certificates(directory, "server")
    _, client_secret = create_certificates(directory, "client")
    return (
        ServerCurve(Path(server_secret), None, None),
        ClientCurve(Path(client_secret), Path(server_public)),
    )
