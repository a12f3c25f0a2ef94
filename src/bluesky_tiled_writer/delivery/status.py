"""What a writer is at, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Literal

State = Literal["idle", "writing", "behind", "degraded"]


@dataclass(frozen=True)
class Status:
    """What a writer is at.

    Parameters
    ----------
    state : str
        "idle": everything is in Tiled. "writing": it is about to be. "behind": rows come faster
        than Tiled takes them, so that some are only on disk. "degraded": the server does not
        answer, a journal cannot be written, or a run was set aside.
    runs : int
        Runs that are open, or not stored to their end.
    pending_rows, pending_bytes : int
        Rows in memory that are not in Tiled yet, and about how many bytes they take.
    oldest : float
        Seconds since everything was in Tiled that had been taken; 0 if it is.
    rows_stored : int
        Rows that were sent.
    server_down : bool
        Whether the server is known not to answer.
    set_aside : mapping of str to str
        Uids of runs that were given up, and why; their journals are kept.
    last_error : Exception, optional
        The last failure, even if it was overcome.
    """

    state: State
    runs: int = 0
    pending_rows: int = 0
    pending_bytes: int = 0
    oldest: float = 0.0
    rows_stored: int = 0
    server_down: bool = False
    set_aside: Mapping[str, str] = field(default_factory=dict)
    last_error: Exception | None = None

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        lines = [("state", self.state), ("runs", str(self.runs))]
        if self.server_down:
            lines.append(("server", "does not answer"))
        if self.pending_rows:
            pending = f"{self.pending_rows} rows ({self.pending_bytes / 2**20:.1f} MiB)"
            lines.append(("pending", f"{pending} since {self.oldest:.1f} s"))
        lines.append(("stored", f"{self.rows_stored} rows"))
        lines += [("set aside", f"{uid}: {why}") for uid, why in self.set_aside.items()]
        if self.last_error is not None:
            lines.append(("last error", f"{type(self.last_error).__name__}: {self.last_error}"))
        return lines

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self._lines()
        )
        return f"<table>{rows}</table>"
