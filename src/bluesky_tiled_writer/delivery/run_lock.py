"""Whose turn it is, of runs in this process that write to the same nodes: one follows the other.

Whoever runs the cell of a notebook that subscribes a writer once more has two of them, and every
run comes to both. They would append the same rows to the same tables, and in a database of one
connection they would get into each other's transactions.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Protocol


class Run(Protocol):
    """What there is to know of a run whose turn it may be."""

    @property
    def stopped(self) -> bool:
        """Whether it had its stop document."""
        ...

    @property
    def is_orphan(self) -> bool:
        """Whether all documents that will come are in a journal. Nobody waits for such a run."""
        ...

    stored: bool
    """Whether Tiled has it to its stop document."""


class Turn:
    """The turn of one run.

    Parameters
    ----------
    run : Run
        Whose turn it is.
    nodes : hashable
        Stands for the nodes that it writes to.
    wake : callable
        Called when a turn that this one waits for has ended. It may be missed at the moment when
        the wait begins, so whoever waits also looks from time to time.

    Attributes
    ----------
    ended : bool
        Whether the run sends nothing any more.
    until_stop : bool
        Whether it comes with the stop document, and not before: Tiled holds rows of the run that
        only all of its documents can be compared with.
    """

    def __init__(self, run: Run, nodes: Hashable, wake: Callable[[], None]) -> None:
        self.ended = False
        self.until_stop = False
        self._run = run
        self._nodes = nodes
        self._wake = wake
        self._before: list[Turn] = []
        self._after: list[Turn] = []

    @property
    def complete(self) -> bool:
        """Whether all documents of the run are there."""
        return self._run.is_orphan or self._run.stopped

    def line_up(self) -> None:
        """Come after all whose turn has not ended."""
        with _lock:
            self._before = under_way(self._nodes)
            _all.add(self)
        for turn in self._before:
            turn._after.append(self)

    @property
    def come(self) -> bool:
        """Whether the run may send.

        One that has stopped does not wait for one that has not: that may never stop, if whoever
        measured it is gone.
        """
        if self._lacks_stop:
            return False
        return not any(turn.complete or not self._passes for turn in self._still_before)

    @property
    def is_near(self) -> bool:
        """Whether it has come, or will in a moment: all that is left is to close some nodes."""
        return self.come or all(turn._run.stored for turn in self._still_before)

    @property
    def waits_for_documents(self) -> bool:
        """Whether it will not come before another document does, to this run or an earlier one."""
        return self._lacks_stop or (
            not self._passes and any(not turn.complete for turn in self._still_before)
        )

    @property
    def _lacks_stop(self) -> bool:
        return self.until_stop and not self._run.stopped

    @property
    def _passes(self) -> bool:
        return self._run.stopped and not self._run.is_orphan

    @property
    def _still_before(self) -> list[Turn]:
        self._before = [turn for turn in self._before if not turn.ended]
        return self._before

    def end(self) -> None:
        """Let the next ones come."""
        self.ended = True
        after, self._after = self._after, []
        for turn in after:
            turn._wake()


def under_way(nodes: Hashable) -> list[Turn]:
    """All turns of runs that write to some nodes, and have not ended."""
    with _lock:
        return [turn for turn in _all if turn._nodes == nodes and not turn.ended]


_lock = threading.RLock()
_all: weakref.WeakSet[Turn] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a child process: the runs are the parent's, and so is whoever held the lock."""
    global _lock
    _lock = threading.RLock()
    _all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
