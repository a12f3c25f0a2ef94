"""The protocol of a bus, as the consumer sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.journal import from_msgpack_numpy, unpackb

Pair = tuple[str, dict[str, Any]]
"""Name and document."""


@dataclass(frozen=True)
class Message:
    """A message as it came from the bus.

    Parameters
    ----------
    partition : str
        The part of the bus whose messages have one order.
    offset : int
        Its place in that order.
    data : bytes
        What was sent.
    decode : callable
        Returns the name and the document that are in `data`. Raises `InvalidDocument`.
    time : float
        When it was published, in seconds since 1970; by default now.
    """

    partition: str
    offset: int
    data: bytes
    decode: Callable[[bytes], Pair]
    time: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Start:
    """Where the reading of a partition starts.

    Parameters
    ----------
    offset : int
        The first message that comes.
    seen : int
        Messages before this one came to a consumer earlier. Those of runs that began before
        `offset` are stored.
    """

    offset: int
    seen: int = 0


class Assignments(Protocol):
    """The calls that a source makes, in the thread that calls `MessageSource.receive`."""

    def assign(self, partition: str, start: Start) -> None:
        """Take note that the messages of a partition come from now on."""
        ...

    def revoke(self, partitions: Iterable[str]) -> Mapping[str, Start]:
        """Leave partitions to another consumer.

        Returns
        -------
        mapping of str to Start
            From where that one has to read each of them.
        """
        ...


class MessageSource(Protocol):
    """A bus.

    Attributes
    ----------
    name : str
        What to call it in the log, and in files.
    keeps : bool
        True if the bus keeps messages, so that they come again after what was committed.
    """

    name: str
    keeps: bool

    def open(self, assignments: Assignments) -> None:
        """Connect, and tell from now on which partitions are read."""
        ...

    def receive(self, timeout: float) -> Sequence[Message]:
        """Return what has come; wait for the first message, `timeout` seconds at most."""
        ...

    def pause(self) -> None:
        """Receive nothing more until `resume`, from any partition, but go on calling `receive`."""
        ...

    def resume(self) -> None:
        """Receive messages again."""
        ...

    def commit(self, starts: Mapping[str, Start]) -> None:
        """Let the bus know from where each partition has to be read, if this process ends now."""
        ...

    def lag(self) -> int | None:
        """Return how many messages the bus has that did not come yet; None if it cannot tell."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


def unpack(data: bytes) -> Any:
    """Return what msgpack, with numpy's values as msgpack_numpy writes them, says.

    Raises
    ------
    InvalidDocument
        If this is no msgpack, or holds pickled objects.
    """
    unreadable: list[str] = []
    try:
        value = unpackb(
            data,
            strict_map_key=False,
            object_hook=lambda mapping: from_msgpack_numpy(mapping, unreadable),
        )
    except Exception as error:
        raise InvalidDocument(f"The message is not msgpack: {error!r}.") from error
    if unreadable:
        raise InvalidDocument(f"The message holds {unreadable[0]}.")
    return value


def pair(name: Any, doc: Any) -> Pair:
    """Return a name and a document, if that is what they are.

    Raises
    ------
    InvalidDocument
        If not.
    """
    if not isinstance(name, str) or not isinstance(doc, dict):
        raise InvalidDocument("The message is not a name with a document.")
    return name, doc


def unpack_pair(data: bytes) -> Pair:
    """Return the name and the document in a message that holds both.

    Raises
    ------
    InvalidDocument
        If it does not.
    """
    match unpack(data):
        case [name, doc]:
            return pair(name, doc)
    raise InvalidDocument("The message is not a name with a document.")
