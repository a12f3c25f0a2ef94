"""Whether the server is there: after a failure it is asked now and then, and else left alone."""

from __future__ import annotations

FIRST_DELAY = 0.25
LAST_DELAY = 5.0
"""Seconds between two questions to a server that does not answer: they double up to this."""


class Breaker:
    """A circuit breaker.

    It is open while the server is taken to be down: nothing is sent then. Pure: it is told what
    happened and what time it is.

    Attributes
    ----------
    open : bool
        Whether the server is taken to be down.
    confirmed : bool
        Whether it did not answer the question either.
    next_check : float
        When to ask the server whether it is there, if it is open.
    """

    def __init__(self) -> None:
        self.open = False
        self.confirmed = False
        self.next_check = 0.0
        self._delay = FIRST_DELAY
        self._trouble = False

    def trip(self, now: float) -> bool:
        """Take note that the server did not answer; True if that is news."""
        news = not self._trouble
        self.open = self._trouble = True
        self.next_check = now
        return news

    def still_down(self, now: float) -> None:
        """Take note that it did not answer the question either."""
        self.confirmed = True
        self.next_check = now + self._delay
        self._delay = min(LAST_DELAY, 2 * self._delay)

    def answers(self) -> None:
        """Take note that it answered the question: requests may be tried again.

        Delays go on from where they are until one succeeds, for there are proxies that answer
        while the server behind them does not.
        """
        self.open = self.confirmed = False

    def succeeded(self) -> bool:
        """Take note that requests were carried out; True if that is news."""
        news, self._trouble = self._trouble, False
        self._delay = FIRST_DELAY
        return news
