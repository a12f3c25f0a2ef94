"""Whether anything can be sent to the server now: it may be away, or refuse the login."""

from __future__ import annotations

import logging
from collections.abc import Callable

from bluesky_tiled_writer.errors import StorageError

from .breaker import Breaker, Trouble
from .jobs import Server

logger = logging.getLogger("bluesky_tiled_writer")

LOOK_AT_CREDENTIALS = 0.5
"""Seconds between two looks at the credentials of the client, when the old ones are refused."""

SHORT_ANSWER = 1.5
"""Seconds within which a server answers those who wait for one that says nothing."""

_TELL = {
    Trouble.AWAY: "Tiled does not answer.",
    Trouble.LOGIN: "The login to Tiled does not work.",
}
_TELL_END = {
    Trouble.AWAY: "Tiled answers again; going on.",
    Trouble.LOGIN: "The login to Tiled works again; going on.",
}


class ServerAccess:
    """Knows the trouble with the server, and when it may be tried again.

    Parameters
    ----------
    server : Server
        The server.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(self, server: Server, clock: Callable[[], float]) -> None:
        self._server = server
        self._clock = clock
        self._breaker = Breaker()
        self._refused: object = None  # the credentials that the server does not take

    @property
    def is_closed(self) -> bool:
        """True if nothing is to be sent."""
        return self._breaker.open

    @property
    def trouble(self) -> Trouble | None:
        """The trouble that keeps everything from being sent; None if all is well."""
        trouble = self._breaker.trouble
        if trouble is Trouble.LOGIN and self._refused != self._server.credentials:
            return None  # there is a new login, which was not refused yet
        return trouble if trouble is Trouble.LOGIN or self._breaker.confirmed else None

    @property
    def credentials(self) -> object:
        """The login of requests, to be compared with an earlier one."""
        return self._server.credentials

    @property
    def silence(self) -> float:
        """Seconds for which a request to the server has had no answer."""
        return self._server.unanswered

    def healthy(self) -> bool:
        """Return True if the server answers, and soon."""
        return self._server.healthy()

    def is_silent(self, patience: float) -> bool:
        """Return True if it answers neither a request, for some seconds, nor a question."""
        return self._server.unanswered > patience and not self._server.answers(SHORT_ANSWER)

    def rest(self) -> None:
        """Close what is connected to the server: perhaps nothing will be sent any more."""
        self._server.rest()

    def use_login_of(self, other: ServerAccess) -> None:
        """Go on with the login of another writer, if the server does not take that of this one."""
        if self.trouble is Trouble.LOGIN:
            self._server.use_credentials_of(other._server)

    # -- for the sender's thread ----------------------------------------------------------------

    @property
    def next_check(self) -> float:
        """Seconds until the server may be asked, or tried, again."""
        delay = max(0.0, self._breaker.next_check - self._clock())
        if self._breaker.trouble is Trouble.LOGIN:
            delay = min(delay, LOOK_AT_CREDENTIALS)
        return delay

    def close(self, trouble: Trouble, error: StorageError) -> bool:
        """Take note of what keeps anything from being sent; return True if that is news."""
        self._refused = self._server.credentials
        news = self._breaker.trip(self._clock(), trouble)
        if news:
            logger.warning(
                "%s What is measured meanwhile is kept, and stored when it does. %s",
                _TELL[trouble],
                error,
            )
        return news

    def open(self) -> bool:
        """Ask the server, if that is due; return True if it may be sent something again."""
        now = self._clock()
        if self._breaker.trouble is Trouble.LOGIN:
            if now < self._breaker.next_check and self._refused == self._server.credentials:
                return False
        elif now < self._breaker.next_check:
            return False
        elif not self._server.healthy():
            self._breaker.still(self._clock())
            return False
        self._breaker.answers()
        return True

    def succeeded(self) -> None:
        """Take note of requests that succeeded."""
        if (ended := self._breaker.succeeded()) is not None:
            logger.warning(_TELL_END[ended])
