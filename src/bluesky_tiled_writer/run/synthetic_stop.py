"""Stop documents for runs that have none."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

PROCESS_ENDED = "The process that took this run ended before the run did."
WRITER_GONE = "The writer that took this run was gone before the run ended."
DOCUMENTS_END = "The documents of this run end before it was stopped."
_MADE = "This stop document is of bluesky-tiled-writer."
"""End of the `reason`, by which they are recognized; runs in Tiled have it, so it must stay."""


def interrupted_stop(uid: str, reason: str, num_events: Mapping[str, int]) -> dict[str, Any]:
    """Make a stop document for a run that has none; `is_made` recognizes it.

    Parameters
    ----------
    uid : str
        Uid of the run.
    reason : str
        Why it has none, as a sentence.
    num_events : mapping of str to int
        Rows, by stream.
    """
    return {
        "uid": str(uuid.uuid4()),
        "time": time.time(),
        "run_start": uid,
        "exit_status": "fail",
        "reason": f"{reason} {_MADE}",
        "num_events": dict(num_events),
    }


def is_made(stop: Mapping[str, Any] | None) -> bool:
    """Return True if `interrupted_stop` made a stop document: the true one may still come."""
    return stop is not None and str(stop.get("reason")).endswith(_MADE)
