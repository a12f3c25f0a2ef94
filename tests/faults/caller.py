"""A stand-in for the RunEngine, which measures how long the calls of a writer take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from documents import Document, Pair

MOST_HELD = 2.0
"""s: how long calls may hold up the experiment, over any fault."""


class Caller:
    """Sends documents to a writer.

    Parameters
    ----------
    writer : callable
        The TiledWriter.

    Attributes
    ----------
    held : float
        Seconds spent in calls, except those with a stop document.
    at_stop : float
        Seconds spent in calls with a stop document.
    """

    def __init__(self, writer: Callable[[str, Document], object]) -> None:
        self._writer = writer
        self.held = 0.0
        self.at_stop = 0.0

    def send(self, docs: Iterable[Pair]) -> None:
        for name, doc in docs:
            start = time.perf_counter()
            self._writer(name, doc)
            elapsed = time.perf_counter() - start
            if name == "stop":
                self.at_stop += elapsed
            else:
                self.held += elapsed

    def assert_hardly_held(self) -> None:
        assert self.held < MOST_HELD, f"the caller was held for {self.held:.1f} s"
