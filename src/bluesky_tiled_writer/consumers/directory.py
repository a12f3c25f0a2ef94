"""The directory of a consumer: what it set aside, and copies of runs that are under way."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from bluesky_tiled_writer.journal import default_path, try_lock

_SCRATCH = "scratch-"
_LOCK = "lock"


class Directory:
    """A directory that several consumers may share.

    Parameters
    ----------
    path : str or Path, optional
        By default in the user's state directory.
    name : str
        Of the bus: each has its own default.

    Attributes
    ----------
    set_aside : Path
        For what cannot be stored.
    scratch : Path
        For the journals of one process; see `make_scratch`.
    """

    def __init__(self, path: str | Path | None, name: str) -> None:
        self._path = default_path().parent / "consume" / name if path is None else Path(path)
        self.set_aside = self._path / "set-aside"
        self.scratch = self._path
        self._lock: IO[bytes] | None = None

    def make_scratch(self) -> Path:
        """Make a directory for journals that are not recovered: the bus has their documents.

        Those of processes that are gone are removed.
        """
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._path.glob(f"{_SCRATCH}*"):
            with suppress(OSError), (left / _LOCK).open("rb") as file:
                if try_lock(file.fileno()):
                    shutil.rmtree(left, ignore_errors=True)
        self.scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self._path))
        self._lock = (self.scratch / _LOCK).open("xb")
        with suppress(OSError):  # a file system without locks
            try_lock(self._lock.fileno())
        return self.scratch

    @property
    def is_scratch(self) -> bool:
        """True if journals are no more than copies."""
        return self._lock is not None

    def close(self) -> None:
        """Remove the journals that no consumer needs any more."""
        if self._lock is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
            self._lock.close()
            self._lock = None
