"""The status of one run, for people to look at."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from .breaker import Trouble
from .run_job import RunJob
from .run_life import RunState

RunStateName = Literal["open", "stopped", "behind", "paused", "recovering", "set aside"]

_WAITS_FOR = {Trouble.AWAY: "the server", Trouble.LOGIN: "a login"}


@dataclass(frozen=True)
class RunStatus:
    """The status of a run that is not in Tiled to its end.

    Parameters
    ----------
    uid : str
        Uid of the run.
    state : str
        "open": its documents come. "stopped": all have come. "behind": it is stored from its
        journal, since rows were dropped from memory. "paused": Tiled has rows of it, with which all
        of its documents have to be compared. "recovering": its process is gone. "set aside":
        nothing is sent.
    scan_id, plan_name : Any
        As in the start document, where anything may stand.
    streams : mapping of str to int
        Rows that came, by stream; of a run that is stored from its journal, those read so far.
    rows_stored, rows_waiting : int
        Rows that were sent, and those in memory that were not.
    documents_waiting : int
        Documents that came, and are not known to be in Tiled: in memory or in the journal.
    age : float
        Seconds since everything of it that had come was in Tiled; 0 if it is.
    waits_for : str
        What it waits for, or why it was set aside; empty if it is being sent.
    link : str
        Its address in Tiled's web page; empty for an app in this process.
    """

    uid: str
    state: RunStateName
    scan_id: Any = None
    plan_name: Any = None
    streams: Mapping[str, int] = field(default_factory=dict)
    rows_stored: int = 0
    rows_waiting: int = 0
    documents_waiting: int = 0
    age: float = 0.0
    waits_for: str = ""
    link: str = ""

    @classmethod
    def of(cls, job: RunJob, trouble: Trouble | None) -> RunStatus:
        """Sum up a job.

        Parameters
        ----------
        job : RunJob
            Of the run.
        trouble : Trouble, optional
            What keeps anything from being sent.
        """
        summary, error = job.summary, job.life.error or job.obstacle
        waiting = max(0, job.taken - job.delivered)
        waits_for = "" if error is None else str(error)
        if error is None and trouble is not None and (waiting or job.waiting):
            waits_for = _WAITS_FOR[trouble]
        page = job.destination.web_page
        return cls(
            uid=job.uid,
            state=_state(job),
            scan_id=summary.scan_id,
            plan_name=summary.plan_name,
            streams=summary.streams,
            rows_stored=job.rows_stored,
            rows_waiting=job.pending.rows,
            documents_waiting=waiting,
            age=time.monotonic() - job.delivered_at if waiting else 0.0,
            waits_for=waits_for,
            link=f"{page}/{quote(job.uid, safe='')}" if page else "",
        )


def _state(job: RunJob) -> RunStateName:
    if job.life.error is not None:
        return "set aside"
    if job.life.state is RunState.PAUSED:
        return "paused"
    if job.life.orphan:
        return "recovering"
    if job.life.behind:
        return "behind"
    return "stopped" if job.life.has_stop else "open"
