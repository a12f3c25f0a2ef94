"""A Kafka cluster in a process of its own: the one that librdkafka brings for tests."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from bluesky_kafka import Publisher
from documents import Pair, RunBuilder

_CLUSTER = """
import sys
from confluent_kafka import Producer
producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
brokers = producer.list_topics(timeout=30).brokers.values()
print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
sys.stdin.read()
"""

PARTITIONS = 4
"""Those of each topic there."""


class KafkaBroker:
    """A broker in a process; it forgets everything when it is closed.

    Attributes
    ----------
    address : str
        Host and port.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CLUSTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address

    @contextmanager
    def away(self) -> Iterator[None]:
        """Answer nothing, in the context; connections stay."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def publisher(self, topic: str, key: str) -> Publisher:
        return Publisher(topic, self.address, key, {"linger.ms": 0, "log_level": 0})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()


class Beamline:
    """Publishes runs as nslsii does: the uid of a run is the key of all its messages."""

    def __init__(self, broker: KafkaBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self._publishers: dict[str, Any] = {}

    def publish(self, run: RunBuilder, docs: Iterable[Pair] | None = None) -> None:
        """Publish documents of a run, by default all, and wait until the broker has them."""
        if (publisher := self._publishers.get(run.uid)) is None:
            publisher = self._publishers[run.uid] = self._broker.publisher(self._topic, run.uid)
        name = ""
        for name, doc in run.docs if docs is None else docs:
            publisher(name, doc)
        publisher.flush()
        if name == "stop":  # hundreds of them have too many threads and descriptors for a process
            del self._publishers[run.uid]
