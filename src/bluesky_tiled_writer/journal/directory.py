"""The directory of the journals: begins them, and finds those that nobody owns any more."""

from __future__ import annotations

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
    """What there is to know of a journal without reading it.

    Parameters
    ----------
    path : Path
        Where it is.
    size : int
        Bytes in it.
    locked : bool
        Whether it has an owner: a process that is at work.
    header : Header or None
        What it is about: uid, server, since when. None if that cannot be read.
    problem : str
        Why it cannot.
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
        Created when it is needed. The default is in the user's state directory. It should be on
        a local disk, since a journal is written before each document is taken.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = default_path() if path is None else Path(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def create(self, uid: str, server: Any, options: dict[str, Any] | None = None) -> JournalFile:
        """Begin the journal of a run; see `Header` for the parameters.

        Raises
        ------
        JournalError
            If it cannot be created, written or locked.
        """
        return JournalFile.create(self.path, Header(uid, server, options or {}))

    def orphans(self, server: Any) -> list[JournalFile]:
        """Take over the journals for a server whose owners are gone, the oldest first.

        They are locked, and belong to the caller, who removes or at least closes them. Of several
        processes that ask at the same time, each gets other ones. Those that cannot be read are
        left out; `journals` names them.

        Parameters
        ----------
        server : Any
            Identity of the server as in the header.
        """
        adopted: list[JournalFile] = []
        try:
            for path in self._paths():
                journal = _adopt(path, server)
                if journal is not None:
                    adopted.append(journal)
        except BaseException:
            for journal in adopted:
                journal.close()
            raise
        return sorted(adopted, key=lambda journal: journal.header.since)

    def journals(self) -> list[JournalInfo]:
        """What there is to know of each journal, the oldest first and unreadable ones last."""
        known = [info for path in self._paths() if (info := _inspect(path)) is not None]
        return sorted(known, key=lambda i: (i.header is None, i.header and i.header.since, i.path))

    @property
    def is_empty(self) -> bool:
        """Whether there is no journal, without a look into any."""
        return not self._paths()

    def _paths(self) -> list[Path]:
        return sorted(self.path.glob(f"*{SUFFIX}"))


def default_path() -> Path:
    """Where journals are if nobody says otherwise."""
    return platformdirs.user_state_path("bluesky-tiled-writer") / "journal"


def _adopt(path: Path, server: Any) -> JournalFile | None:
    try:
        if path.stat().st_size == 0:  # its process, or the power, failed right at the beginning
            remove_if_empty(path)
            return None
        # The header first: a lock on another server's journal would hide it from its process.
        with JournalReader.open(path) as reader:
            ours = reader.header.server == server
        return JournalFile.adopt(path) if ours else None
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
