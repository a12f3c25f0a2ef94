"""The life of a run: one enum, changed under one lock by named transitions.

Two threads know a run: that of the caller, which brings its documents, and that of the sender.
`RunLife.lock` guards everything that both change. It is held to decide, never across I/O.
"""

from __future__ import annotations

import threading
from enum import Enum


class RunState(Enum):
    """Where a run is in its life."""

    OPEN = "open"
    """Documents come, and are sent."""
    PAUSED = "paused"
    """Documents come, and are kept in the journal until the stop document."""
    STOPPED = "stopped"
    """All documents have come, and are being sent."""
    STORED = "stored"
    """Tiled holds the run to its stop document."""
    CLOSED = "closed"
    """Nothing is left to do."""
    SET_ASIDE = "set aside"
    """Nothing is sent any more; documents go to the journal."""
    RELEASED = "released"
    """Nothing is sent any more, and the journal is free for another process."""


SENDING = frozenset({RunState.OPEN, RunState.STOPPED, RunState.STORED})
"""States in which there is, or will be, something to send."""

_UNSTORED = frozenset({RunState.OPEN, RunState.PAUSED, RunState.STOPPED})


class Transition(Enum):
    """A change of state: who may make it, from which states, to which."""

    STOP = ("caller", frozenset({RunState.OPEN, RunState.PAUSED}), RunState.STOPPED)
    CANCEL = ("caller", _UNSTORED | {RunState.SET_ASIDE}, RunState.CLOSED)
    PAUSE = ("sender", frozenset({RunState.OPEN}), RunState.PAUSED)
    STORE = ("sender", _UNSTORED | {RunState.SET_ASIDE}, RunState.STORED)
    CLOSE = ("sender", frozenset({RunState.STORED}), RunState.CLOSED)
    SET_ASIDE = ("caller, sender", _UNSTORED, RunState.SET_ASIDE)
    RESUME = ("caller", frozenset({RunState.STOPPED}), RunState.OPEN)
    RELEASE = ("sender, close()", _UNSTORED | {RunState.SET_ASIDE}, RunState.RELEASED)

    @property
    def who(self) -> str:
        """Who may make it."""
        return self.value[0]

    @property
    def sources(self) -> frozenset[RunState]:
        """The states from which it leads."""
        return self.value[1]

    @property
    def target(self) -> RunState:
        """The state to which it leads."""
        return self.value[2]


class RunLife:
    """The state of one run, and the facts that change with it.

    Each transition returns True if it was made, and False if the run is in a state from which it
    does not lead. So of two threads that decide at the same moment, one does.

    Parameters
    ----------
    orphan : bool
        True for a run whose documents are all in a journal, since its process is gone.

    Attributes
    ----------
    lock : threading.RLock
        Guards the state, and all that `RunJob` changes together with it.
    state : RunState
        Where the run is in its life.
    has_stop : bool
        True if the stop document has come, or no other document will come.
    behind : bool
        True if the documents to send come from the journal: rows were dropped from memory.
    orphan : bool
        True if the process that took the run is gone, and no other one has taken it up.
    hurried : bool
        True if an orphan gets its end now, and not only when it is clear that no one takes it up.
    error : Exception or None
        Why the run was set aside.
    """

    def __init__(self, *, orphan: bool = False) -> None:
        self.lock = threading.RLock()
        self.state = RunState.STOPPED if orphan else RunState.OPEN
        self.has_stop = orphan
        self.behind = orphan
        self.orphan = orphan
        self.hurried = self._ending = False
        self.error: Exception | None = None

    @property
    def stored(self) -> bool:
        """True if Tiled holds the run to its stop document."""
        return self.state in (RunState.STORED, RunState.CLOSED)

    @property
    def finished(self) -> bool:
        """True if this process will do nothing more for the run."""
        return self.state in (RunState.CLOSED, RunState.RELEASED)

    def stop(self) -> bool:
        """Take note of the stop document; a run that is set aside or stored stays that."""
        with self.lock:
            self.has_stop = True
            return self._make(Transition.STOP)

    def end_orphan(self) -> bool:
        """Give a run its end; False if somebody has taken it up, whose documents have one."""
        with self.lock:
            self._ending |= self.orphan
            return self.orphan

    def resume(self) -> bool:
        """Take up an orphan: its documents go on; False if it is none, or was given its end."""
        with self.lock:
            if not self.orphan or self._ending or not self._make(Transition.RESUME):
                return False
            self.orphan = self.has_stop = False
            return True

    def cancel(self) -> bool:
        """Forget a run whose start document was refused, or that somebody else stores."""
        return self._make(Transition.CANCEL)

    def pause(self) -> bool:
        """Send nothing before the stop document."""
        return self._make(Transition.PAUSE)

    def store(self) -> bool:
        """Take note that Tiled holds the run to its stop document, whatever went wrong before."""
        with self.lock:
            if not self._make(Transition.STORE):
                return False
            self.error = None
            return True

    def close(self) -> bool:
        """Take note that nothing is left to do."""
        return self._make(Transition.CLOSE)

    def set_aside(self, error: Exception) -> bool:
        """Give the run up because of an error that does not go away."""
        with self.lock:
            if not self._make(Transition.SET_ASIDE):
                return False
            self.error = error
            return True

    def release(self) -> bool:
        """Leave the journal to another process."""
        return self._make(Transition.RELEASE)

    def fall_behind(self) -> bool:
        """Send from the journal from now on; False if there is nothing to send any more."""
        with self.lock:
            if self.state not in _UNSTORED:
                return False
            self.behind = True
            return True

    def _make(self, transition: Transition) -> bool:
        with self.lock:
            if self.state not in transition.sources:
                return False
            self.state = transition.target
            return True
