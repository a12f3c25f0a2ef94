"""Documents from 0MQ, as bluesky.callbacks.zmq publishes them."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

from bluesky_tiled_writer.errors import InvalidDocument, TiledWriterError

from .source import Assignments, Message, Pair, Start, pair, unpack

logger = logging.getLogger("bluesky_tiled_writer")

AT_ONCE = 500
"""Messages that are taken together."""
PROBE_EVERY, PROBE_TIMEOUT = 5_000, 15_000
"""ms: how often the other side is asked whether it is there, and how long for an answer."""

_UP = zmq.EVENT_HANDSHAKE_SUCCEEDED
_REFUSED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)
_DOWN = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED

PICKLED = (
    "The document is pickled, and unpickling runs whatever its sender put in. Let publishers send"
    " msgpack (serializer=...), or allow it (--allow-pickle) where only they reach the proxy."
)
"""Why a message is refused."""


class Curve(NamedTuple):
    """Files with keys; `bluesky.callbacks.zmq.ClientCurve` does, too.

    Parameters
    ----------
    secret_path : Path
        The secret key of this client.
    server_public_key : Path
        The public key of the proxy.
    """

    secret_path: Path
    server_public_key: Path


class ZmqSource:
    """A proxy of 0MQ, such as ``bluesky-0MQ-proxy``, which passes on what is published.

    0MQ keeps nothing: documents that are published while no consumer listens, or faster than they
    travel, are gone. The writer notes on a run which events are missing.

    Here nothing is dropped: what has come and was not taken yet waits in memory, without a limit,
    since it goes to a journal on disk and does not wait for Tiled.

    Parameters
    ----------
    address : str
        Where the proxy sends: ``localhost:5578``, ``ipc:///tmp/documents``.
    prefix : bytes
        That of the publishers to listen to; by default all.
    allow_pickle : bool
        Unpickle documents, which runs whatever their sender put in. Publishers of bluesky pickle
        unless they are given another serializer. msgpack is understood in any case.
    curve : Curve, optional
        Keys, if the proxy asks for them.
    """

    keeps = False

    def __init__(
        self,
        address: str,
        prefix: bytes = b"",
        *,
        allow_pickle: bool = False,
        curve: Curve | None = None,
    ) -> None:
        if b" " in prefix:
            raise TiledWriterError(
                f"The prefix {prefix!r} has a space.", hint="Publishers can have none with a space."
            )
        self.name = "0MQ"
        self.address = address if "://" in address else f"tcp://{address}"
        self._prefix = prefix
        self._allow_pickle = allow_pickle
        self._curve = curve
        self._context: Any = None
        self._connection: _Connection | None = None
        self._received = 0

    def open(self, assignments: Assignments) -> None:
        """Connect, in the background."""
        keys = {} if self._curve is None else _read_keys(self._curve)
        self._context = zmq.Context()
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        # With a limit the publisher would be held up, and drop messages in silence.
        socket.setsockopt(zmq.RCVHWM, 0)
        # A proxy whose machine is gone does not say so, nor does a firewall that forgot about us.
        socket.setsockopt(zmq.HEARTBEAT_IVL, PROBE_EVERY)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, PROBE_TIMEOUT)
        for option, value in keys.items():
            socket.setsockopt(option, value)
        self._connection = _Connection(socket, self.address)
        # The prefix ends at a space, so that one does not get what belongs to a longer one.
        socket.setsockopt(zmq.SUBSCRIBE, self._prefix and self._prefix + b" ")
        try:
            socket.connect(self.address)
        except zmq.ZMQError as error:
            self.close()
            raise TiledWriterError(
                f"{self.address} is no address for 0MQ: {error}.",
                hint="An address is HOST:PORT, tcp://HOST:PORT or ipc://PATH.",
            ) from error
        assignments.assign(self.address, Start(0))

    def receive(self, timeout: float) -> Sequence[Message]:
        """Return what has come."""
        assert self._connection is not None
        received = []
        for data in self._connection.receive(timeout, AT_ONCE):
            received.append(Message(self.address, self._received, data, self._decode))
            self._received += 1
        return received

    def pause(self) -> None:
        """Go on: what is not received is lost."""

    def resume(self) -> None:
        """Go on."""

    def commit(self, starts: Mapping[str, Start]) -> None:
        """Do nothing: it does not come again."""

    def lag(self) -> None:
        """Return None: 0MQ does not tell."""

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._context is not None:
            self._context.term()
            self._context = None

    def _decode(self, data: bytes) -> Pair:
        try:
            _, name, content = data.split(b" ", 2)
            text = name.decode()
        except ValueError as error:
            raise InvalidDocument("The message is not a prefix, a name and a document.") from error
        if not _is_pickled(content):
            return pair(text, unpack(content))
        if not self._allow_pickle:
            raise InvalidDocument(PICKLED)
        try:
            return pair(text, pickle.loads(content))
        except InvalidDocument:
            raise
        except Exception as error:
            raise InvalidDocument(f"The document cannot be unpickled: {error!r}.") from error


def _is_pickled(content: bytes) -> bool:
    """Return True unless this can be the map that a document is in msgpack.

    Pickles end with a dot, and none begins as a map does that has anything in it.
    """
    first = content[:1]
    is_map = b"\x81" <= first <= b"\x8f" or first in (b"\xde", b"\xdf") or content == b"\x80"
    return not is_map and content.endswith(b".")


def _read_keys(curve: Curve) -> dict[int, bytes]:
    try:
        public, secret = zmq.auth.load_certificate(curve.secret_path)
        server, _ = zmq.auth.load_certificate(curve.server_public_key)
        if secret is None:
            raise ValueError(f"{curve.secret_path} has no secret key")
    except (OSError, ValueError) as error:
        raise TiledWriterError(
            f"The keys for 0MQ cannot be read: {error}.",
            hint="zmq.auth.create_certificates makes such files.",
        ) from error
    return {
        zmq.CURVE_PUBLICKEY: public,
        zmq.CURVE_SECRETKEY: secret,
        zmq.CURVE_SERVERKEY: server,
    }


class _Connection:
    """A socket, and what the log tells of its connection."""

    def __init__(self, socket: zmq.Socket, address: str) -> None:
        self._socket = socket
        self._address = address
        self._monitor = socket.get_monitor_socket(_UP | _DOWN | _REFUSED)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._is_up: bool | None = None

    def receive(self, timeout: float, most: int) -> list[bytes]:
        """Return what has come; wait for the first message."""
        ready = dict(self._poller.poll(int(timeout * 1000)))
        if self._monitor in ready:
            self._look()
        received: list[bytes] = []
        try:
            while len(received) < most:
                received.append(self._socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            pass
        return received

    def _look(self) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event & _UP:
                logger.info("0MQ: connected to %s", self._address)
                self._is_up = True
            elif event & _REFUSED:
                self._tell("0MQ: %s refuses the connection: are the keys right?")
            elif event & _DOWN:
                self._tell("0MQ: nobody is at %s; what is published until it is back is lost")

    def _tell(self, text: str) -> None:
        if self._is_up is not False:
            self._is_up = False
            logger.warning(text, self._address)

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
