"""Documents over a bus: takes them from Kafka, NATS JetStream or 0MQ, and stores their runs.

::

    consumer.py     Consumer: the loop that all share; what is stored, committed, or set aside
    source.py       the protocol of a bus; its messages
    positions.py    the position rule: what has to come again if the process ends now
    set_aside.py    SetAside: messages that no run can be made of, in a file
    monitor.py      what an operator sees: health, status and metrics over HTTP
    kafka.py        KafkaSource: topics, partitions, consumer groups
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bluesky_tiled_writer.errors import TiledWriterError

from .consumer import Consumer
from .monitor import Monitor
from .set_aside import SetAside
from .source import Assignments, Message, MessageSource, Start

if TYPE_CHECKING:
    from .kafka import KafkaSource, read_configuration

_OF_EXTRAS = {"KafkaSource": "kafka", "read_configuration": "kafka"}
"""What needs the client of a bus, which an extra of this package brings: name and module."""

__all__ = [
    "Assignments",
    "Consumer",
    "KafkaSource",
    "Message",
    "MessageSource",
    "Monitor",
    "SetAside",
    "Start",
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
