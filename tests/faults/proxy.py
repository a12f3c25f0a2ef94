"""A proxy between a client and a server that behaves as networks and servers do at times.

It needs the standard library only, so that benchmarks can use it, too: ``Proxy(url, delay=0.05)``
is a server that is 50 ms away.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from .http1 import Message, answer, read_answer, read_request

T = TypeVar("T")

PATIENCE = 20.0
"""s: how long it waits for an answer of the server. Tiled sometimes never answers when two requests
append to tables on the one connection of DuckDB."""

# -- faults ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drop:
    """Close the connection without an answer, before the server gets the request, or after."""

    after: bool = False


@dataclass(frozen=True)
class Answer:
    """Answer with this status, before the server gets the request, or after it has acted."""

    status: int
    after: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """Hold back the request, or its answer; then go on, if the client still waits.

    A request that its client gives up while it is held back never reaches the server.
    """

    seconds: float
    after: bool = False


@dataclass(frozen=True)
class Late:
    """Drop the client's connection, but send the request to the server `seconds` later.

    With `hang` the connection is dropped only then, if the client still waits.
    """

    seconds: float
    hang: bool = False


Fault = Drop | Answer | Hang | Late


@dataclass(frozen=True)
class Requests:
    """A choice of requests by method, path (without /api/v1) and body.

    Parameters
    ----------
    method : str
        The HTTP method, or several, as in ``POST|PUT``; empty for any.
    path : str
        Regular expression to be found in the path, such as ``^/table/partition/``.
    body : str
        Regular expression to be found in the body.
    """

    method: str = ""
    path: str = ""
    body: str = ""

    def include(self, message: Message) -> bool:
        path = message.target[0].removeprefix("/api/v1")
        return (
            re.fullmatch(self.method or ".*", message.method) is not None
            and re.search(self.path, path) is not None
            and re.search(self.body.encode(), message.body) is not None
        )


@dataclass
class Rule:
    """A fault for some requests: from the `nth` (1 is the next) on, `times` of them."""

    fault: Fault
    requests: Requests
    nth: int
    times: float
    seen: int = 0

    @property
    def met(self) -> int:
        """The number of requests that had the fault."""
        return int(min(max(0, self.seen - self.nth + 1), self.times))

    def meets(self, message: Message) -> bool:
        if not self.requests.include(message):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


@dataclass
class Exchange:
    """A request, and what became of it.

    Parameters
    ----------
    method, path, query : str
        The path is without /api/v1.
    size : int
        Bytes of the body.
    received : float
        When, by `time.monotonic`.
    ended : float or None
        When the client had its answer, or lost its connection; None as long as it has not.
    fault : Fault or None
        What was done to it.
    server_status : int or None
        What the server answered; None if it got no request, or did not answer (yet).
    status : int or None
        What the client was answered; None if nothing.
    """

    method: str
    path: str
    query: str
    size: int
    received: float
    fault: Fault | None = None
    server_status: int | None = None
    status: int | None = None
    ended: float | None = None


# -- the proxy ------------------------------------------------------------------------------------


class Proxy:
    """A proxy in a thread of its own: ``with Proxy(url) as proxy: ...``.

    All methods may be called from any thread while requests are under way. Each request has a
    connection of its own to the server, so that clients notice a restart of the server only by
    the answers of the proxy.

    Parameters
    ----------
    server : str
        The address of the server, such as ``http://127.0.0.1:8000``.
    delay : float
        Seconds by which each request is delayed; it may be changed at any time.
    max_body : int, optional
        A larger body is answered with 413; it may be changed at any time.
    """

    def __init__(self, server: str, delay: float = 0.0, max_body: int | None = None) -> None:
        parts = urlsplit(server)
        assert parts.hostname
        self._server = (parts.hostname, parts.port or 80)
        self.delay = delay
        self.max_body = max_body
        self.log: list[Exchange] = []
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._busy = 0
        self._socket = _bound_socket(0)
        self._port: int = self._socket.getsockname()[1]
        self._listener: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        """The address of the proxy; it stays the same while the proxy is away."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.come_back()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- faults ---------------------------------------------------------------------------------

    def inject(
        self,
        fault: Fault,
        method: str = "",
        path: str = "",
        body: str = "",
        *,
        nth: int = 1,
        times: float = 1,
    ) -> Rule:
        """Do this to the next request of a kind; if several rules meet it, the first applies.

        Parameters
        ----------
        fault : Fault
            What to do.
        method, path, body : str
            To which requests, see `Requests`; by default to all.
        nth : int
            From which of them on.
        times : float
            To how many of them; ``math.inf`` for all.
        """
        rule = Rule(fault, Requests(method, path, body), nth, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules and the log; requests that are under way go on."""
        with self._lock:
            self._rules.clear()
            self.log = []
        self.delay = 0.0
        self.max_body = None

    def go_away(self) -> None:
        """Close every connection and refuse new ones."""
        self._call(self._go_away())

    def come_back(self) -> None:
        """Accept connections again."""
        self._call(self._come_back())

    def wait_until_idle(self, timeout: float = 30.0) -> None:
        """Wait until nothing is under way to the server, late requests included."""
        deadline = time.monotonic() + timeout
        while self._busy:
            if time.monotonic() > deadline:
                raise TimeoutError("requests are still under way")
            time.sleep(0.01)

    def seen(self, method: str = "", path: str = "") -> list[Exchange]:
        """Return the requests of a kind."""
        with self._lock:
            log = list(self.log)
        return [e for e in log if method in ("", e.method) and re.search(path, e.path)]

    # -- in the thread of the proxy -------------------------------------------------------------

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _come_back(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, sock=self._socket, limit=2**20)

    async def _go_away(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            # A port without a listener refuses connections; bound, it remains ours.
            self._socket = _bound_socket(self._port)
        for writer in self._clients:
            writer.transport.abort()

    async def _stop(self) -> None:
        await self._go_away()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()
        await asyncio.sleep(0.01)  # transports need a turn of the loop to close

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of a connection, one after the other."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._clients.add(writer)
        if self._listener is None:  # taken at the very moment of going away
            writer.transport.abort()
        try:
            while (message := await read_request(reader)) is not None:
                given = await self._exchange(message, lambda: reader.at_eof())
                if given is None:
                    writer.transport.abort()
                    return
                writer.write(given)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client, the proxy or the test has gone
        finally:
            writer.close()
            self._clients.discard(writer)
            self._tasks.discard(task)

    async def _exchange(self, message: Message, gone: Callable[[], bool]) -> bytes | None:
        """Return the bytes for the client; None closes its connection."""
        path, query = message.target
        exchange = Exchange(
            message.method,
            path.removeprefix("/api/v1"),
            query,
            len(message.body),
            time.monotonic(),
        )
        with self._lock:
            self.log.append(exchange)
            met = [rule for rule in self._rules if rule.meets(message)]
        exchange.fault = met[0].fault if met else None
        self._busy += 1
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            given = await self._act(message, exchange, gone)
        finally:
            self._busy -= 1
            exchange.ended = time.monotonic()
        if given is not None:
            exchange.status = int(given.split(b" ", 2)[1])
        return given

    async def _act(
        self, message: Message, exchange: Exchange, gone: Callable[[], bool]
    ) -> bytes | None:
        if self.max_body is not None and exchange.size > self.max_body:
            return answer(413, "too large")
        match exchange.fault:
            case None:
                return await self._forward(message, exchange)
            case Drop(after):
                if after:
                    await self._forward(message, exchange)
                return None
            case Answer(status, after, headers):
                if after:
                    await self._forward(message, exchange)
                return answer(status, "a fault of the proxy", headers)
            case Hang(seconds, after=False):
                end = time.monotonic() + seconds
                while not gone() and time.monotonic() < end:
                    await asyncio.sleep(min(0.01, seconds))
                return None if gone() else await self._forward(message, exchange)
            case Hang(seconds):
                given = await self._forward(message, exchange)
                await asyncio.sleep(seconds)
                return given
            case Late(seconds, hang):
                late = asyncio.ensure_future(self._forward_late(message, exchange, seconds))
                self._tasks.add(late)
                late.add_done_callback(self._tasks.discard)
                if hang:
                    await asyncio.wait([late])
                return None

    async def _forward_late(self, message: Message, exchange: Exchange, seconds: float) -> None:
        self._busy += 1
        try:
            await asyncio.sleep(seconds)
            await self._forward(message, exchange)
        finally:
            self._busy -= 1

    async def _forward(self, message: Message, exchange: Exchange) -> bytes | None:
        """Return the server's answer; None if there was none."""
        writer = None
        try:
            reader, writer = await asyncio.open_connection(*self._server, limit=2**20)
            writer.write(message.raw)
            await writer.drain()
            async with asyncio.timeout(PATIENCE):
                given = await read_answer(reader, message.method)
        except (OSError, asyncio.IncompleteReadError):  # or TimeoutError, which is an OSError
            return None
        finally:
            if writer is not None:
                writer.close()
        if given is None:
            return None
        exchange.server_status = given.status
        return given.raw


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound
