"""Waits for what the sender does, each with a deadline that is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bluesky_tiled_writer.errors import NotStored, WrittenElsewhere

from .breaker import Trouble
from .jobs import Wakes
from .pipeline import Pipeline
from .run_life import RunState
from .settings import Settings

if TYPE_CHECKING:
    from .run_job import RunJob
    from .sender import Sender

logger = logging.getLogger("bluesky_tiled_writer")


def wait_stored(job: RunJob, sender: Sender, settings: Settings, since: float) -> None:
    """Wait until a run is stored, or it is known that it cannot be soon.

    The time to wait began `since` some time of the monotonic clock.

    It waits neither for a login nor for a permission, nor for another process that writes the run;
    nor for a server that is down, unless only the caller can be told of that.

    Raises
    ------
    StorageError
        If the run is not stored, and neither a journal nor a backup has it.
    """
    timeout, life = settings.timeout, job.life
    left = max(0.0, timeout - (time.monotonic() - since))
    only_caller_knows = timeout > 0 and job.copies.only_caller_knows

    def is_known() -> bool:
        stored = job.finished if settings.wait_for_close else life.stored
        if stored or life.error is not None:
            return True
        if only_caller_knows and isinstance(job.obstacle, WrittenElsewhere):
            return False
        return lacks_permission(job, sender)

    if only_caller_knows:
        sender.wait(is_known, left)
    elif timeout > 0:
        sender.wait_for_server(is_known, left)
    why = job.obstacle or sender.last_error
    if (error := life.error) is not None:
        job.back_up(error)
        if job.copies.must_tell_caller:
            raise error
    elif not life.stored and only_caller_knows:
        raise NotStored(
            f"Run {job.uid!r} is not stored{_because(why)}.",
            hint="It goes on in the background; the end of this process would lose it."
            " Let TiledWriter have a journal (journal_directory=...).",
        ) from why
    elif not life.stored and timeout > 0:
        job.back_up(why)
        job.is_told_of = True
        if life.stored:  # just now, so no exception tells of it
            return
        where = "its journal" if job.copies.journaled else "memory"
        logger.warning("Run %s is not in Tiled yet; it waits in %s.", job.uid, where)


def _because(why: Exception | None) -> str:
    return f": {str(why).rstrip('.')}" if why is not None else ""


def wait_for_room(job: RunJob, pipeline: Pipeline, sender: Wakes, settings: Settings) -> None:
    """Wait until the rows of a run fit into memory, where they have no other place.

    A run that has waited for `timeout` seconds is set aside.

    Raises
    ------
    StorageError
        If the run is set aside, and only the caller can be told of that.
    """
    sender.wake(job)

    def has_room() -> bool:
        return pipeline.pending.nbytes <= settings.max_pending_bytes or job.life.error is not None

    if not sender.wait(has_room, settings.timeout):
        text = f"{job.name}: as much waits to be stored as memory may take."
        hint = "Let TiledWriter have a journal (journal_directory=...), or more memory"
        job.set_aside(NotStored(text, hint=f"{hint} (max_pending_bytes=...)."))
    if job.life.error is not None and job.copies.must_tell_caller:
        raise job.life.error


def wait_delivered(
    jobs: Sequence[RunJob], sender: Sender, timeout: float, *, outlast_outage: bool = True
) -> bool:
    """Wait until Tiled has what came so far; return whether it has.

    Runs that were set aside do not count. Those that wait for their stop document, or for a login,
    are not waited for, and make the answer False. So it is with all runs while a server is down,
    unless the wait shall `outlast_outage`.
    """
    targets = [(job, job.taken) for job in jobs]
    for job in jobs:
        job.life.hurried = True
        sender.wake(job)

    def is_delivered(job: RunJob, target: int) -> bool:
        if job.life.error is not None:
            return True
        return job.delivered >= target and (job.finished or not job.life.has_stop)

    def is_left_waiting(job: RunJob) -> bool:
        return job.life.state is RunState.PAUSED or lacks_permission(job, sender)

    wait = sender.wait if outlast_outage else sender.wait_for_server
    wait(
        lambda: all(is_left_waiting(job) or is_delivered(job, target) for job, target in targets),
        timeout,
    )
    return all(is_delivered(job, target) for job, target in targets)


def lacks_permission(job: RunJob, sender: Sender) -> bool:
    """Return True if a run cannot be sent before the server takes the login, or permits it."""
    return job.obstacle is not None or sender.access.trouble is Trouble.LOGIN


def is_at_rest(job: RunJob, sender: Sender) -> bool:
    """Return True if it is known what becomes of a run, at least for now."""
    if job.finished or job.life.error is not None:
        return True
    if isinstance(job.obstacle, WrittenElsewhere) and not job.obstacle.answered:
        return False  # most likely its process is gone, which takes some seconds to find out
    return lacks_permission(job, sender)


def wait_closed(job: RunJob, sender: Sender, timeout: float) -> bool:
    """Wait until a run is stored to its end; return whether it is.

    Raises
    ------
    StorageError
        If it was set aside.
    """
    sender.wait(lambda: job.finished or job.life.error is not None, timeout)
    if (error := job.life.error) is not None:
        raise error
    return job.finished and job.life.stored
