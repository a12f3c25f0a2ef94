"""Documents over a bus: takes them from Kafka, NATS JetStream or 0MQ, and stores their runs.

::

    consumer.py     Consumer: the loop that all share; what is stored, committed, or set aside
    source.py       the protocol of a bus; its messages
    positions.py    the position rule: what has to come again if the process ends now
    set_aside.py    SetAside: messages that no run can be made of, in a file
    service.py      consume: a consumer as a program
    monitor.py      what an operator sees: health, status and metrics over HTTP
    kafka.py        KafkaSource: topics, partitions, consumer groups
    nats.py         NatsSource: a stream of JetStream, one active consumer and stand-bys
    nats_worker.py  Worker: its asyncio side, which connects and holds the lease
    nats_reader.py  StreamReader: every message of a stream once, in order
    lease.py        Lease: who reads, and from where, under one key that is compared and set
    mailbox.py      Mailbox: between the thread of asyncio and that of the consumer
    zmq.py          ZmqSource: documents that a proxy of 0MQ passes on and does not keep
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bluesky_tiled_writer.errors import TiledWriterError

from .consumer import Consumer
from .monitor import Monitor
from .service import consume
from .set_aside import SetAside
from .source import Assignments, Message, MessageSource, Start

if TYPE_CHECKING:
    from .kafka import KafkaSource, read_configuration
    from .nats import NatsSource
    from .zmq import Curve, ZmqSource

_OF_EXTRAS = {
    "Curve": "zmq",
    "KafkaSource": "kafka",
    "NatsSource": "nats",
    "ZmqSource": "zmq",
    "read_configuration": "kafka",
}
"""Classes that need the client of a bus, which an extra of this package brings: name and module."""

__all__ = [
    "Assignments",
    "Consumer",
    "Curve",
    "KafkaSource",
    "Message",
    "MessageSource",
    "Monitor",
    "NatsSource",
    "SetAside",
    "Start",
    "ZmqSource",
    "consume",
    "read_configuration",
]


def __getattr__(name: str) -> Any:
    """Import the client of a bus when it is needed, since most have one bus at most."""
    if (module := _OF_EXTRAS.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as error:
        raise TiledWriterError(
            f"{error.name} is not installed, which {name} needs.",
            hint=f"`pip install 'bluesky-tiled-writer[{module}]'` brings it.",
        ) from error
