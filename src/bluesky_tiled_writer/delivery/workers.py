"""Calls functions at the same time: requests on nodes that have nothing to do with each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from bluesky_tiled_writer.errors import StorageUnsupported


class Workers:
    """Threads that help the one of the sender; they are started when they are needed.

    Parameters
    ----------
    most : int
        Functions that may be called at the same time, in all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pool: ThreadPoolExecutor | None = None

    def release(self) -> Callable[[], None]:
        """Start other threads from now on; return what ends these, when they have returned."""
        pool, self._pool = self._pool, None
        return pool.shutdown if pool is not None else lambda: None

    def run(self, functions: Sequence[Callable[[], None]]) -> None:
        """Call functions at the same time, which may use this, too.

        After an error no more of them are called; it is raised when all that were have returned.
        """
        left, errors = deque(functions), list[Exception]()

        def work() -> None:
            while left and not errors:
                with suppress(IndexError):  # another thread may have taken the last one
                    function = left.popleft()
                    try:
                        function()
                    except Exception as error:
                        errors.append(error)

        helpers = self._begin(work, min(len(functions), self._most) - 1)
        work()
        for helper in helpers:
            # One that has not begun is not waited for: all threads may wait here.
            if not helper.cancel():
                helper.result()
        # An error that cannot be worked around comes before one that can.
        for error in sorted(errors, key=lambda error: isinstance(error, StorageUnsupported)):
            raise error

    def _begin(self, function: Callable[[], None], times: int) -> list[Future[None]]:
        if times < 1:
            return []
        if self._pool is None:  # in the sender's own thread: others are of the pool
            name = "bluesky-tiled-writer"
            self._pool = ThreadPoolExecutor(self._most - 1, thread_name_prefix=name)
        pool = self._pool
        futures: list[Future[None]] = []
        # At the end of the interpreter, pools take nothing any more, perhaps from the second on.
        with suppress(RuntimeError):
            while len(futures) < times:
                futures.append(pool.submit(function))
        return futures
