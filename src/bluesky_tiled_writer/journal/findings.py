"""Findings of a check before the first run; and the check of the directory of journals."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from bluesky_tiled_writer.errors import JournalError

from .directory import default_path
from .lock import try_lock
from .space import JournalUse

EVENT_BYTES = 300
"""Bytes of an event of five numbers in a journal."""

REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "lustre"}
)
"""Types of file systems on other machines."""

LITTLE_ROOM = 10.0
"""Hours without Tiled that a disk should have room for."""


class Grade(Enum):
    """The grade of a finding."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of a check.

    Parameters
    ----------
    subject : str
        What was looked at.
    grade : Grade
        With a problem, something will not work.
    text : str
        What was found.
    hint : str
        What to do about it.
    """

    subject: str
    grade: Grade
    text: str
    hint: str = ""

    def __str__(self) -> str:
        line = f"{self.grade.value:<7}  {self.subject}: {self.text}"
        return f"{line} {self.hint}" if self.hint else line

    def as_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**asdict(self), "grade": self.grade.value}


def check_journals(
    directory: str | Path | None, events_a_second: float = 1000.0, most: int | None = None
) -> list[Finding]:
    """Check the directory of journals: can it be written, is it local, how long does it last.

    Parameters
    ----------
    directory : str, Path or None
        The directory; None for no journal, "default" for the default one.
    events_a_second : float
        Events, of five numbers each, that a beamline takes without Tiled.
    most : int, optional
        Bytes that the journals should take at most (`journal_max_bytes`).
    """
    if directory is None:
        text = "There is none: the end of the process loses what is not stored."
        return [Finding("journal", Grade.WARNING, text, "Give a journal_directory.")]
    try:
        path = default_path() if directory == "default" else Path(directory)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"check")
            file.flush()
            os.fsync(file.fileno())
            locks = try_lock(file.fileno())
    except JournalError as error:
        return [Finding("journal", Grade.PROBLEM, str(error.args[0]), error.hint)]
    except OSError as error:
        text = f"{directory} cannot be written: {error.strerror}."
        return [Finding("journal", Grade.PROBLEM, text, "Give another journal_directory.")]
    found = []
    kind = file_system(path)
    if kind in REMOTE or not locks:
        text = (
            f"{path} is on a file system of another machine ({kind}): each document waits for it."
        )
        found.append(Finding("journal", Grade.WARNING, text, "Give a directory on a local disk."))
    else:
        found.append(Finding("journal", Grade.OK, f"{path} can be written, on {kind or 'a disk'}."))
    use = JournalUse.of(path, most)
    free, whose = use.free, "are free"
    hint = "Make room, or give a journal_directory on another disk."
    if most is not None and most - use.nbytes < free:
        free, whose = max(0, most - use.nbytes), "are left of journal_max_bytes"
        hint = "Let journal_max_bytes be larger."
    hours = free / (events_a_second * EVENT_BYTES) / 3600
    text = f"{free / 1e9:.1f} GB {whose}: {_hours(hours)} at {events_a_second:g} events/s."
    little = hours < LITTLE_ROOM
    grade = Grade.WARNING if little else Grade.OK
    return [*found, Finding("room for an outage", grade, text, hint if little else "")]


def file_system(path: Path) -> str:
    """Return the type of the file system of a path; empty if the system does not tell."""
    best, kind = -1, ""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    where = str(path.resolve())
    for line in mounts:
        _, mount, type_, *_ = line.split()
        mount = mount.replace("\\040", " ")
        inside = where == mount or where.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= best:
            best, kind = len(mount), type_
    return kind


def _hours(hours: float) -> str:
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
