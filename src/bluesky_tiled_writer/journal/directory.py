"""The directory of journals: creates them, and finds those whose owner is gone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from bluesky_tiled_writer.errors import JournalError

from .disk import is_locked, remove_if_empty
from .file import SUFFIX, JournalFile
from .format import Header
from .reader import JournalReader


@dataclass(frozen=True)
class JournalInfo:
    """A journal as its file, lock and header describe it; its documents are not read.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        Size in bytes.
    locked : bool
        True if it has an owner: a process that still uses it.
    header : Header or None
        Run, server and time. None if the header cannot be read.
    problem : str
        Why the header cannot be read.
    """

    path: Path
    size: int
    locked: bool
    header: Header | None
    problem: str = ""


class JournalDirectory:
    """The journals of a user.

    Parameters
    ----------
    path : str or Path, optional
        Created when it is needed; by default in the user's state directory. Choose a local disk,
        since every document is written there before the call that brings it returns.

    Attributes
    ----------
    path : Path or None
        None if there is no default, because the user has no home directory.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path: Path | None = None
        with suppress(JournalError):  # `create` raises it, for each run, as if it were read-only
            self.path = default_path() if path is None else Path(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.path is None else repr(str(self.path))})"

    def create(self, uid: str, server: Any, options: dict[str, Any] | None = None) -> JournalFile:
        """Create the journal of a run.

        Parameters
        ----------
        uid, server, options
            As for `Header`.

        Returns
        -------
        JournalFile
            The journal, locked by this process.

        Raises
        ------
        JournalError
            If the file cannot be created, written or locked.
        """
        path = default_path() if self.path is None else self.path
        return JournalFile.create(path, Header(uid, server, options or {}))

    def orphans(self, is_wanted: Callable[[Header], bool]) -> list[JournalFile]:
        """Take over the journals whose owners are gone.

        No two processes get the same journal. Unreadable ones are left out; see `journals`.

        Parameters
        ----------
        is_wanted : callable
            Gets the header of a journal; returns True if it is to be taken over.

        Returns
        -------
        list of JournalFile
            Locked journals, the oldest first. The caller must remove or close each of them.
        """
        adopted: list[JournalFile] = []
        try:
            for path in self._paths():
                journal = _adopt(path, is_wanted)
                if journal is not None:
                    adopted.append(journal)
        except BaseException:
            for journal in adopted:
                journal.close()
            raise
        return sorted(adopted, key=lambda journal: journal.header.since)

    def journals(self) -> list[JournalInfo]:
        """Return a description of each journal, the oldest first and unreadable ones last."""
        known = [info for path in self._paths() if (info := _inspect(path)) is not None]
        return sorted(known, key=lambda i: (i.header is None, i.header and i.header.since, i.path))

    @property
    def is_empty(self) -> bool:
        """True if there is no journal; none is opened."""
        return not self._paths()

    def _paths(self) -> list[Path]:
        return [] if self.path is None else sorted(self.path.glob(f"*{SUFFIX}"))


def default_path() -> Path:
    """Return the default directory of journals.

    Raises
    ------
    JournalError
        If the user has no home directory.
    """
    try:
        return platformdirs.user_state_path("bluesky-tiled-writer") / "journal"
    except (RuntimeError, KeyError) as error:  # no HOME, and no entry for the user either
        raise JournalError(
            f"There is no directory for journals: {str(error).rstrip('.')}.",
            hint="Give a journal_directory, or set HOME or XDG_STATE_HOME.",
        ) from error


def _adopt(path: Path, is_wanted: Callable[[Header], bool]) -> JournalFile | None:
    try:
        if path.stat().st_size == 0:  # its process ended, or the power failed, as it was created
            remove_if_empty(path)
            return None
        # Lock only what is wanted: a lock on another one would hide it from its writers.
        with JournalReader.open(path) as reader:
            wanted = is_wanted(reader.header)
        return JournalFile.adopt(path) if wanted else None
    except (FileNotFoundError, JournalError):
        return None


def _inspect(path: Path) -> JournalInfo | None:
    header, problem, locked = None, "", False
    try:
        size = path.stat().st_size
        locked = is_locked(path)
        with JournalReader.open(path) as reader:
            header = reader.header
    except FileNotFoundError:
        return None
    except JournalError as error:
        if isinstance(error.__cause__, FileNotFoundError):  # removed meanwhile
            return None
        problem = str(error)
    return JournalInfo(path, size, locked, header, problem)
