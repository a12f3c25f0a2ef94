"""A circuit breaker: a server in trouble is asked now and then, and otherwise left alone."""

from __future__ import annotations

from enum import Enum

FIRST_DELAY = 0.25
"""Seconds between the first two questions to a server in trouble; they double from there."""


class Trouble(Enum):
    """A reason why no run can be sent to a server; its value is the longest delay."""

    AWAY = 5.0
    """The server does not answer."""

    LOGIN = 60.0
    """The server answers, but refuses the login."""


class Breaker:
    """Decides whether requests may be sent. Pure: it is told what happened, and the time.

    Attributes
    ----------
    trouble : Trouble or None
        The present trouble, until a request succeeds.
    open : bool
        True while nothing is sent.
    confirmed : bool
        True if the login was refused, or if a question after the server's health was not answered
        either.
    next_check : float
        When to ask again, if it is open.
    """

    def __init__(self) -> None:
        self.trouble: Trouble | None = None
        self.open = False
        self.confirmed = False
        self.next_check = 0.0
        self._delay = FIRST_DELAY

    def trip(self, now: float, trouble: Trouble) -> bool:
        """Take note of a request without success; return True if that is news."""
        news = self.trouble is not trouble
        if news:
            self._delay = FIRST_DELAY
        self.open, self.trouble = True, trouble
        self.next_check = now
        if trouble is Trouble.LOGIN:  # there is nothing to ask but to try again
            self.still(now)
        return news

    def still(self, now: float) -> None:
        """Take note that the question was not answered either."""
        assert self.trouble is not None, "there is trouble before there are questions"
        self.confirmed = True
        self.next_check = now + self._delay
        self._delay = min(self.trouble.value, 2 * self._delay)

    def answers(self) -> None:
        """Take note that requests may be tried again.

        Delays begin anew only when a request succeeds: some proxies answer while the server
        behind them does not.
        """
        self.open = self.confirmed = False

    def succeeded(self) -> Trouble | None:
        """Take note of requests that succeeded; return the trouble that this ends."""
        ended, self.trouble = self.trouble, None
        self._delay = FIRST_DELAY
        return ended
