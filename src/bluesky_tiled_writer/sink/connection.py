"""The connection to a Tiled server, which may be made later than it is needed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
from tiled.client.base import BaseClient
from tiled.client.context import Context

from bluesky_tiled_writer.errors import (
    ContainerMissing,
    LoginRefused,
    Retry,
    StorageError,
    mapped_errors,
)

from .address import Address
from .opening import ANSWER_TIMEOUT, Opening, can_prompt

logger = logging.getLogger("bluesky_tiled_writer")

START_TIMEOUT = 1.5
"""Seconds that a program waits for its connection; from then on it is made in the background."""

HEALTH_ATTEMPTS = 3
"""Broken connections that a health check may meet: after an error of its own the server closes the
connection, and the client may reuse it before it notices."""


class Connection:
    """A Tiled server, and the container there that gets the runs.

    It has a client from the beginning, or opens one when that is asked for, as often as it takes.

    Parameters
    ----------
    address : Address
        The container.
    client : tiled.client.base.BaseClient, optional
        A client of it.
    opening : Opening, optional
        Opens a client of it. Without one, `client` is needed.

    Attributes
    ----------
    last_error : StorageError or None
        Why the last attempt to open a client failed.
    is_ours : bool
        True if the client was opened for one writer, and not given to it.
    """

    def __init__(
        self,
        address: Address,
        client: BaseClient | None = None,
        opening: Opening | None = None,
    ) -> None:
        self.address = address
        self.last_error: StorageError | None = None
        self.is_ours = opening is not None
        self._client = client
        self._context = None if client is None else client.context
        self._opening = opening
        self._root: BaseClient | None = None
        # One attempt at a time: held while a client is opened, or two logins would be made.
        self._lock = threading.Lock()
        self._unanswered: dict[int, float] = {}  # by thread, since when

    @classmethod
    def of(cls, client: BaseClient) -> Connection:
        """Return the connection that a client is.

        It has a copy of the client, with the same context. The user's own may have a finalizer, as
        where apsbits closes a server when its client is collected.
        """
        return cls(Address.of(client), client.new_variation())

    def __repr__(self) -> str:
        state = "open" if self.is_open else "not open yet"
        return f"<{type(self).__name__} to {self.address}, {state}>"

    # -- opening --------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """True if there is a client."""
        return self._client is not None

    @property
    def client(self) -> BaseClient:
        """A client of the container; the user may be asked to log in.

        Raises
        ------
        StorageError
            If there is none yet, and none can be opened now.
        """
        return self.open(prompt=True)

    def open(self, *, prompt: bool = False) -> BaseClient:
        """Return a client of the container; open it if there is none yet.

        Parameters
        ----------
        prompt : bool
            True if the user may be asked to log in.

        Raises
        ------
        StorageError
            If that cannot be done now.
        """
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._open(prompt)
        assert self._client is not None
        return self._client

    def try_to_open(self) -> None:
        """Open a client, if that can be done; `last_error` tells why not."""
        with suppress(StorageError):
            self.open()

    def _open(self, prompt: bool) -> None:
        assert self._opening is not None, "a connection without a client opens one"
        try:
            with self.unanswered_request():
                if self._root is None:
                    self._root = self._opening.root(prompt=prompt)
                    self._context = self._root.context
                self._client = self._opening.container(self._root)
        except StorageError as error:
            self.last_error = error
            raise
        self.last_error = None

    def context_for(self, address: Address) -> Context:
        """Return what sends requests to the server.

        Parameters
        ----------
        address : Address
            The container that they are about. If it is the one of this connection, it must be
            there.

        Raises
        ------
        StorageError
            If that cannot be done now.
        """
        if self._client is None and (self._context is None or address == self.address):
            try:
                self.open()
            except ContainerMissing:
                if address == self.address:
                    raise
        assert self._context is not None
        return self._context

    def names(self) -> set[str]:
        """Return the addresses of the server, normalized: ours, and what it calls itself.

        The latter differs behind a proxy, and is what clients take for the address of a container.
        """
        found = {self.address.normalized().server}
        if self._context is not None:
            links = self._context.server_info.links or {}
            with suppress(StorageError):
                found.add(Address.parse(links.get("self", "")).normalized().server)
        return found

    def use_credentials_of(self, other: Connection) -> None:
        """Send requests as another client of the same server does, from now on."""
        if other._context is not None and other.address.server == self.address.server:
            self._context = other._context

    def rest(self) -> None:
        """Close what is connected, if the client is ours; the next request connects anew.

        Programs that make a writer for each task would wait for the garbage collector otherwise:
        in `tiled.client` objects refer to each other in circles.
        """
        if not self.is_ours or self._context is None or self._context.cache is not None:
            return  # it is the user's, or has a cache that would be closed, too
        self._context.http_client._transport.close()

    # -- what is known of the server ------------------------------------------------------------

    @property
    def in_process(self) -> bool:
        """True if the server is an app in this process."""
        return self._context is not None and is_app(self._context)

    @property
    def credentials(self) -> object:
        """The login of requests, to be compared with an earlier one."""
        if self._context is None:
            return None
        http = self._context.http_client
        tokens = getattr(http.auth, "tokens", None)
        return http.headers.get("Authorization"), id(http.auth), dict(tokens or {})

    @property
    def unanswered(self) -> float:
        """Seconds since the oldest of those requests was sent that have no answer yet."""
        times = list(self._unanswered.values())
        return time.monotonic() - min(times) if times and not self.in_process else 0.0

    @contextmanager
    def unanswered_request(self) -> Iterator[None]:
        """Know that this thread waits for an answer."""
        thread = threading.get_ident()
        self._unanswered[thread] = time.monotonic()
        try:
            yield
        finally:
            self._unanswered.pop(thread, None)

    def healthy(self) -> bool:
        """Return True if the server answers, and soon; open a client if there is none yet."""
        return self.answers(ANSWER_TIMEOUT) if self._context is not None else self._can_open()

    def answers(self, timeout: float) -> bool:
        """Ask the server whether it is there, whatever other requests it is at.

        Parameters
        ----------
        timeout : float
            Seconds within which it has to answer.
        """
        context = self._context
        # The login is another matter. An app in this process knows neither logins nor timeouts.
        options = {} if self.in_process else {"timeout": timeout, "auth": None}
        for _ in range(HEALTH_ATTEMPTS):
            try:
                if context is None:
                    assert self._opening is not None
                    self._opening.ask(timeout)
                    return True
                with mapped_errors("a health check"):
                    answer = context.http_client.get(str(context.api_uri), **options)
            except StorageError as error:
                if error.retry is Retry.UNLESS_SERVER_IS_AWAY:
                    continue
                return False
            return bool(answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR)
        return False

    def _can_open(self) -> bool:
        try:
            self.open()
        except (ContainerMissing, LoginRefused):
            return True
        except StorageError:
            return False
        return True


def connect(opening: Opening) -> Connection:
    """Open a client, unless that takes long; otherwise the connection opens it later.

    Raises
    ------
    StorageError
        If that will never work.
    """
    connection = Connection(opening.address, opening=opening)
    # In a thread of its own, since a server may take its time to say nothing.
    attempt = threading.Thread(target=connection.try_to_open, daemon=True)
    attempt.start()
    attempt.join(START_TIMEOUT)
    if connection.is_open:
        return connection
    error = None if attempt.is_alive() else connection.last_error
    if isinstance(error, LoginRefused) and can_prompt():
        connection.open(prompt=True)
        return connection
    if error is not None and error.retry is Retry.NEVER:
        raise error
    logger.warning(
        "Tiled cannot be reached yet: %s What is measured meanwhile is kept, and stored when it"
        " can be.",
        error or f"{opening.address.server} takes more than {START_TIMEOUT} s to answer.",
    )
    return connection


def is_app(context: Context) -> bool:
    """Return True if a context leads to an app in this process."""
    return hasattr(context.http_client, "app")  # starlette's test client
