"""A status in a notebook that is kept up to date by a thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .status import Status

logger = logging.getLogger("bluesky_tiled_writer")


class StatusSource:
    """Knows the status of a writer at any time, and shows it in a notebook, in one place.

    It does not keep the writer from being dropped.

    Parameters
    ----------
    now, is_over : callable
        Return the status, and whether it will not change any more.
    """

    def __init__(self, now: Callable[[], Status], is_over: Callable[[], bool]) -> None:
        self.now = now
        self.is_over = is_over
        self._shown: LiveStatus | None = None

    def show(self, every: float) -> LiveStatus:
        """Show the status here from now on, and nowhere else."""
        if self._shown is not None:
            self._shown.stop()
        self._shown = LiveStatus(self.now, every)
        return self._shown


class LiveStatus:
    """The status of a writer in the output of a cell, until `stop`, or the writer is closed.

    Without a notebook it is printed once.

    Parameters
    ----------
    now : callable
        Returns the status.
    every : float
        Seconds after which it is looked at again.
    """

    def __init__(self, now: Callable[[], Status], every: float) -> None:
        self._now = now
        self._every = every
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        status = now()
        if not in_notebook():
            print(status)
            return
        from IPython.display import display

        self._output = display(status, display_id=True)
        if not status.closed:
            name = "bluesky-tiled-writer-status"
            self._thread = threading.Thread(target=self._update, name=name, daemon=True)
            self._thread.start()

    def _update(self) -> None:
        closed = False
        while not closed:
            stopped = self._stopped.wait(self._every)
            status = self._now()
            closed = status.closed or stopped
            try:
                self._output.update(status)
            except Exception as error:  # the notebook is gone; the runs are not concerned
                logger.info("The status is not shown any more: %r", error)
                return

    def stop(self) -> None:
        """Show the status as it is now, and change it no more."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def is_live(self) -> bool:
        """True if it is kept up to date."""
        return self._thread is not None and self._thread.is_alive()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {'live' if self.is_live else 'not live'}>"

    def _ipython_display_(self) -> None:
        """Show nothing as the result of a cell: it is in its output already."""


def in_notebook() -> bool:
    """Return True if what is shown can be changed later: not so in a terminal."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell: Any = get_ipython()
    return hasattr(shell, "kernel")
