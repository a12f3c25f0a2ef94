"""Waits for what the sender does, each with a deadline that is kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bluesky_tiled_writer.errors import NotStored

from .run_job import RunJob
from .run_life import RunState
from .sender import Sender
from .settings import Settings

logger = logging.getLogger("bluesky_tiled_writer")


def wait_stored(job: RunJob, sender: Sender, settings: Settings) -> None:
    """Wait until a run is stored, or it is known that it cannot be soon.

    It does not wait for a server that is down, unless only the caller can be told of that.

    Raises
    ------
    StorageError
        If the run is not stored, and neither a journal nor a backup has it.
    """
    timeout, life = settings.timeout, job.life
    only_caller_knows = timeout > 0 and job.copies.only_caller_knows

    def is_known() -> bool:
        stored = job.finished if settings.wait_for_close else life.stored
        return stored or life.error is not None or (sender.down and not only_caller_knows)

    sender.wait(is_known, max(0.0, timeout))
    if (error := life.error) is not None:
        job.back_up(error)
        if job.copies.must_tell_caller:
            raise error
    elif not life.stored and only_caller_knows:
        raise NotStored(
            f"Run {job.uid!r} was not stored within {timeout} s.",
            hint="It goes on in the background; the end of this process would lose it."
            " Let TiledWriter have a journal (journal_directory=...).",
        ) from sender.last_error
    elif not life.stored and timeout > 0:
        job.back_up(sender.last_error)
        where = "its journal" if job.copies.journaled else "memory"
        logger.warning("Run %s is not in Tiled yet; it waits in %s.", job.uid, where)


def wait_delivered(jobs: Sequence[RunJob], sender: Sender, timeout: float) -> bool:
    """Wait until Tiled has what came so far; return whether it has.

    Runs that were set aside do not count. Those that wait for their stop document are not waited
    for, and make the answer False.
    """
    targets = [(job, job.taken) for job in jobs]
    for job in jobs:
        sender.wake(job)

    def is_delivered(job: RunJob, target: int) -> bool:
        if job.life.error is not None:
            return True
        return job.delivered >= target and (job.finished or not job.life.has_stop)

    sender.wait(
        lambda: all(
            job.life.state is RunState.PAUSED or is_delivered(job, target)
            for job, target in targets
        ),
        timeout,
    )
    return all(is_delivered(job, target) for job, target in targets)


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
