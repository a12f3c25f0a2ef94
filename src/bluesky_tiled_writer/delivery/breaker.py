"""A circuit breaker: a server that failed is asked now and then, and otherwise left alone."""

from __future__ import annotations

FIRST_DELAY = 0.25
LAST_DELAY = 5.0
"""Seconds between two questions to a server that does not answer; they double in between."""


class Breaker:
    """Decides whether requests may be sent. Pure: it is told what happened, and the time.

    Attributes
    ----------
    open : bool
        True while nothing is sent, because a request was not answered.
    confirmed : bool
        True if a question after the server's health was not answered either.
    next_check : float
        When to ask again, if it is open.
    """

    def __init__(self) -> None:
        self.open = False
        self.confirmed = False
        self.next_check = 0.0
        self._delay = FIRST_DELAY
        self._trouble = False

    def trip(self, now: float) -> bool:
        """Take note of a request without an answer; return True if that is news."""
        news = not self._trouble
        self.open = self._trouble = True
        self.next_check = now
        return news

    def still_down(self, now: float) -> None:
        """Take note that the server did not answer the question either."""
        self.confirmed = True
        self.next_check = now + self._delay
        self._delay = min(LAST_DELAY, 2 * self._delay)

    def answers(self) -> None:
        """Take note that it answered the question: requests may be tried again.

        Delays begin anew only when a request succeeds: some proxies answer while the server
        behind them does not.
        """
        self.open = self.confirmed = False

    def succeeded(self) -> bool:
        """Take note of requests that succeeded; return True if that is news."""
        news, self._trouble = self._trouble, False
        self._delay = FIRST_DELAY
        return news
