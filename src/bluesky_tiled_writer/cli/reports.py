"""The report on the runs in a file that was replayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """The outcome of a run; the values are printed."""

    STORED = "stored"
    ALREADY_STORED = "already stored"
    UNFINISHED = "not finished"
    FAILED = "failed"


@dataclass
class RunReport:
    """The report on one run.

    Parameters
    ----------
    uid : str
        Uid of the run.
    outcome : Outcome
        Whether Tiled has it now.
    reason : str
        Why Tiled does not have all of it.
    refused : int
        Number of its documents that cannot be stored.
    first_refusal : str
        Why the first of these cannot be stored.
    """

    uid: str
    outcome: Outcome = Outcome.UNFINISHED
    reason: str = ""
    refused: int = 0
    first_refusal: str = ""

    def refuse(self, error: Exception) -> None:
        """Count a document that cannot be stored."""
        self.refused += 1
        self.first_refusal = self.first_refusal or str(error)

    @property
    def complete(self) -> bool:
        """True if Tiled has all of it."""
        return self.outcome in (Outcome.STORED, Outcome.ALREADY_STORED) and not self.refused


@dataclass
class FileReport:
    """The report on the runs in one file.

    Parameters
    ----------
    runs : dict of str to RunReport
        By uid, in the order of the file.
    without_run : int
        Number of documents that could not be stored and belong to no run of the file.
    first_without_run : str
        Why the first of these could not be stored.
    """

    runs: dict[str, RunReport] = field(default_factory=dict)
    without_run: int = 0
    first_without_run: str = ""

    def refuse(self, uid: str | None, error: Exception) -> None:
        """Count a document that cannot be stored, for its run or for none."""
        if uid in self.runs:
            self.runs[uid].refuse(error)
            return
        self.without_run += 1
        self.first_without_run = self.first_without_run or str(error)

    @property
    def complete(self) -> bool:
        """True if Tiled has every document of the file."""
        return not self.without_run and all(run.complete for run in self.runs.values())
