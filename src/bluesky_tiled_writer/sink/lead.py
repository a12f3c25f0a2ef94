"""Requests that follow another one before it is answered, to a server that is far away.

A stream, a table in it and the first rows of that take three requests. Each needs what the one
before has made, but nothing of what the server says about it. Where answers are long on their way,
the next request goes out after the time that the server works on the one before. If it comes too
early, the server answers 404, and has done nothing: it is sent again after the answer.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

import httpx

_WORKED = re.compile(r"\bapp;dur=(\d+(\.\d+)?)")
"""What a server says of its work on a request, in ms."""

MARGIN = 0.005
SHARE = 1.25
"""Seconds, and times what it worked on the last one, that the server is given for a request."""


class Distance:
    """How long requests are on their way to the server and back, and how long it works on them.

    Parameters
    ----------
    never_far : bool
        Whether no request may follow another one, however long that takes.

    Attributes
    ----------
    lag : float or None
        Seconds after which the next request may follow; None if that would gain nothing, or the
        server does not say how long it works.
    """

    def __init__(self, *, never_far: bool = False) -> None:
        self.lag: float | None = None
        self._never_far = never_far

    def learn(self, answer: httpx.Response) -> None:
        """Learn from the answer to a request that made something."""
        lag = None
        if (worked := _WORKED.search(answer.headers.get("Server-Timing", ""))) is not None:
            lag = SHARE * float(worked[1]) / 1000 + MARGIN
        far = not self._never_far and lag is not None and answer.elapsed.total_seconds() > 2 * lag
        self.lag = lag if far else None


class Lead:
    """A request that is under way, in a thread of its own, while the next ones follow.

    Parameters
    ----------
    send : callable
        Sends it, and raises an error if that fails. Sent again, it does no harm.
    lag : float
        Seconds after which the next one may follow.
    """

    def __init__(self, send: Callable[[], object], lag: float) -> None:
        self._send = send
        self._due = time.monotonic() + lag
        self._answered = threading.Event()
        self._error: Exception | None = None
        self._told = False
        self._lock = threading.Lock()
        name = "bluesky-tiled-writer-lead"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # at the end of the interpreter
            self._run()

    def _run(self) -> None:
        try:
            self._send()
        except Exception as error:  # for whoever needs what it was to make
            self._error = error
        self._answered.set()

    @property
    def lag(self) -> float:
        """Seconds until the next one may follow."""
        return 0.0 if self._answered.is_set() else max(0.0, self._due - time.monotonic())

    def wait(self) -> bool:
        """Wait until the next one may follow; gives whether it may come too early."""
        return not self._answered.wait(self.lag)

    def settle(self) -> None:
        """Wait for the answer. Whoever comes first is told of a failure, others send it again.

        Raises
        ------
        StorageError
            If it failed.
        """
        self._answered.wait()
        if self._thread.ident is not None:
            self._thread.join()
        with self._lock:
            if self._error is None:
                return
            told, self._told = self._told, True
        if not told:
            raise self._error
        self._send()
        self._error = None
