"""Who writes a run: of several processes that have its documents, one at a time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bluesky_tiled_writer.errors import (
    OutOfStep,
    RequestRefused,
    Retry,
    RunComplete,
    WrittenElsewhere,
)
from bluesky_tiled_writer.run import Claim, is_made

from .requests import Requests

WRITTEN_BY = "written_by"
"""Key of the metadata of a run that has no stop document yet: the token of who writes it."""

REST = 3.0
"""Seconds for which one who writes a run goes on without a look whether others ask for it."""

PATIENCE = 6.0
"""Seconds for an answer to that. A request that was sent before the last look takes effect in the
time by which this is longer than `REST`."""

LONGEST_PAUSE = 60.0
"""Seconds until others ask again, at most; the pauses grow from `PATIENCE`."""

GRACE = 2.0
"""Seconds within which a request that is on its way takes effect."""

_ASKS = "?"


class Ownership:
    """Lets one process at a time write a run: who made its container, as long as that one answers.

    Who makes the container leaves a token in its metadata, and a process that goes on with the same
    documents has the same one. Who meets the token of another one puts a question in its place, if
    it has documents that Tiled may lack. Who writes the run sees that before one of its next
    requests, and puts its token back. If it does not, the other one writes the run from then on.

    Only the catalog is asked: DuckDB would mix up the rows of those who write and those who read.

    Parameters
    ----------
    requests : Requests
        The way to the server.
    on_taken_over : callable
        Called when others have written the run, and this process goes on.

    Attributes
    ----------
    uid : str
        The run.
    metadata : mapping
        Its metadata, as they were seen last.
    """

    def __init__(self, requests: Requests, on_taken_over: Callable[[], None]) -> None:
        self.uid = ""
        self.metadata: Mapping[str, Any] = {}
        self._requests = requests
        self._on_taken_over = on_taken_over
        self._claim: Claim | None = None
        self._is_ours = True
        self._looked = 0.0  # when it was, on the monotonic clock
        self._question = ""  # that was put there, as long as there was no answer
        self._documents = 0.0  # those that had come when somebody else was seen to write the run
        self._next_look = 0.0
        self._pause = PATIENCE
        self._answered = False
        self._before: Any = None  # whose token was there when the run was taken over
        self._stop: Any = None  # the uid of the stop document that was sent
        # Steps on different nodes are executed at the same time: one of them looks for all.
        self._lock = threading.Lock()

    # -- the container --------------------------------------------------------------------------

    def create(self, uid: str, claim: Claim | None) -> dict[str, Any]:
        """Return what the metadata of a new container say of who writes the run."""
        self.uid, self._looked = uid, time.monotonic()
        # Another process cannot reach an app in this one.
        self._claim = None if self._requests.connection.in_process else claim
        return {} if self._claim is None else {WRITTEN_BY: self._claim.token}

    def meet(self, metadata: Mapping[str, Any]) -> None:
        """Learn who writes a run that was there already."""
        self._judge(metadata)
        if self._claim is not None and not self._is_ours:
            self._documents = self._claim.documents()

    def _judge(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        if self._claim is None:
            return
        stop = metadata.get("stop")
        if stop and self._stop is not None and stop.get("uid") == self._stop:
            return  # it is ours: the answer to it was lost
        if stop and not is_made(stop):
            raise complete(self.uid)
        self._is_ours = _owner(metadata) == self._claim.token

    # -- before something is written ------------------------------------------------------------

    def require(self) -> None:
        """Make sure that this process is the one that writes the run.

        Raises
        ------
        WrittenElsewhere
            If another one does, or may do.
        RunComplete
            If another one has stored it to its end.
        OutOfStep
            If it is gone.
        """
        with self._lock:
            if self._claim is None:
                return
            if self._is_ours and time.monotonic() - self._looked <= REST:
                return
            if self._is_ours:
                self._look()
                self._documents = -1  # there is something to write
            if self._is_ours:
                self._answer(self._claim.token)
            else:
                self._wait(self._claim)

    def end(self, stop: Any) -> Sequence[str]:
        """Return what is to be removed from the metadata with a stop document, when it is sent."""
        self._stop = stop.get("uid")
        return () if self._claim is None else (WRITTEN_BY,)

    def give_back(self) -> None:
        """Leave a run that was taken over as it was found."""
        with self._lock:
            if self._is_ours and self._before is not None:
                self._sign(self._before)
                self._is_ours = False

    def _look(self) -> None:
        began = time.monotonic()
        item = self._requests.item((self.uid,))
        if item is None:
            raise OutOfStep(f"Run {self.uid!r} is not in Tiled any more.")
        self._judge(item["attributes"]["metadata"])
        self._looked = began

    def _answer(self, token: str) -> None:
        """Put the token back, if there is a question, and look again before the next request."""
        if _ASKS in (self.metadata.get(WRITTEN_BY) or ""):
            self._sign(token)
            self._looked = -math.inf

    # -- while others write it ------------------------------------------------------------------

    def _wait(self, claim: Claim) -> None:
        """Return if others were asked, and did not answer; else raise an error."""
        if (left := self._next_look - time.monotonic()) > 0:
            raise self._waiting(left)
        self._look()
        there = self.metadata.get(WRITTEN_BY)
        if self._is_ours and not (self._question and there == self._question):
            return
        if self._question and there == self._question:
            self._before = _owner(self.metadata)
            self._sign(claim.token)
            self._is_ours, self._question = True, ""
            self._on_taken_over()
            return
        if self._question:
            self._question, self._answered = "", True
            self._documents = claim.documents()
            self._pause = min(1.5 * self._pause, LONGEST_PAUSE)
            raise self._look_later(self._pause)
        documents = claim.documents()
        if there is not None and documents == self._documents and documents != math.inf:
            raise self._look_later(PATIENCE)  # that nothing comes is no reason
        self._question = f"{claim.token}{_ASKS}{_owner(self.metadata) or ''}"
        self._sign(self._question)
        # Nobody writes a run that was given a stop document, but somebody else may ask, too.
        raise self._look_later(GRACE if there is None and self.metadata.get("stop") else PATIENCE)

    def _look_later(self, seconds: float) -> WrittenElsewhere:
        self._next_look = time.monotonic() + seconds
        return self._waiting(seconds)

    def _waiting(self, seconds: float) -> WrittenElsewhere:
        return WrittenElsewhere(
            f"Another process writes run {self.uid!r} to Tiled, or may still do so.",
            hint="What is missing is sent when that one does not answer; until then all is kept.",
            retry_after=seconds,
            answered=self._answered,
        )

    def _sign(self, value: str | None) -> None:
        """Write who writes the run, unless somebody else did so since the last look."""
        before = self.metadata.get(WRITTEN_BY)
        pointer = f"/{WRITTEN_BY}"
        patch: list[dict[str, Any]] = [{"op": "add", "path": pointer, "value": value}]
        if not value:
            patch = [{"op": "remove", "path": pointer}]
        if before is not None:
            patch.insert(0, {"op": "test", "path": pointer, "value": before})
        try:
            self._requests.patch_metadata((self.uid,), patch)
        except RequestRefused as error:
            if error.retry is not Retry.MAYBE:
                raise
            self._look()
            if self.metadata.get(WRITTEN_BY) in (before, value):
                raise  # that was not why
            self._question = ""
            raise self._look_later(PATIENCE) from error
        self.metadata = {**self.metadata, WRITTEN_BY: value or None}


def _owner(metadata: Mapping[str, Any]) -> str | None:
    """Return the token of who writes the run, also if somebody else asks for it."""
    there = metadata.get(WRITTEN_BY)
    return None if there is None else str(there).rpartition(_ASKS)[2]


def complete(uid: str) -> RunComplete:
    """Return the error to raise if Tiled holds a run to its end."""
    return RunComplete(f"Tiled already holds run {uid!r}, from start to stop.")
