"""Files that only the user can read, locked by the process that owns them."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from bluesky_tiled_writer.errors import JournalError

from .lock import UNSUPPORTED, try_lock

_FLAGS = os.O_RDWR | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_HINTS = {
    errno.ENOSPC: "The disk is full: make room, or set journal_directory to another disk.",
    errno.EDQUOT: "The quota is used up: make room, or set journal_directory to another disk.",
    errno.EROFS: "Set journal_directory to a directory that can be written to.",
    errno.EACCES: "Set journal_directory to a directory of your own.",
    errno.EPERM: "Set journal_directory to a directory of your own.",
} | dict.fromkeys(UNSUPPORTED, "Set journal_directory to a local disk, which has locks.")


def create_locked(directory: Path, stem: str, suffix: str) -> tuple[Path, io.FileIO]:
    """Create a file under the first free name, and lock it.

    Parameters
    ----------
    directory : Path
        Created if it does not exist.
    stem, suffix : str
        The name; ``-2``, ``-3``, ... stands between them if it is taken.

    Returns
    -------
    tuple of (Path, io.FileIO)
        The path, and the file open for appending and reading.

    Raises
    ------
    JournalError
        If the file cannot be created, or the file system has no locks.
    """
    with journal_errors("created", directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return next(filter(None, map(_try_create, _names(directory, stem, suffix))))


def open_locked(path: Path) -> io.FileIO | None:
    """Open a file for appending, and lock it.

    Returns
    -------
    io.FileIO or None
        None if the file does not exist, or is locked already.

    Raises
    ------
    JournalError
        If the file cannot be opened or belongs to another user, or the file system has no locks.
    """
    with journal_errors("opened", path), contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_open(path))
        except FileNotFoundError:
            return None
        if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "it belongs to another user")
        # The owner may have removed the file between our open and our lock.
        if not try_lock(file.fileno()) or _is_gone(file):
            return None
        stack.pop_all()
        return file


def is_locked(path: Path) -> bool:
    """Return True if a file is locked.

    Raises
    ------
    JournalError
        If the file cannot be opened, or the file system has no locks.
    """
    with journal_errors("opened", path), path.open("rb") as file:
        return not try_lock(file.fileno(), shared=True)


def remove_if_empty(path: Path) -> None:
    """Remove a file that has no content and no owner."""
    with journal_errors("removed", path):
        file = open_locked(path)
        if file is None:
            return
        with file:
            if os.fstat(file.fileno()).st_size == 0:
                path.unlink()


def _names(directory: Path, stem: str, suffix: str) -> Iterator[Path]:
    yield directory / f"{stem}{suffix}"
    for number in itertools.count(2):
        yield directory / f"{stem}-{number}{suffix}"


def _try_create(path: Path) -> tuple[Path, io.FileIO] | None:
    try:
        file = _open(path, os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return None
    try:
        if try_lock(file.fileno()) and not _is_gone(file):
            return path, file
    except BaseException:
        path.unlink(missing_ok=True)
        file.close()
        raise
    # Another process opened it before we had the lock, and may remove it as abandoned.
    path.unlink(missing_ok=True)
    file.close()
    return None


def _open(path: Path, flags: int = 0) -> io.FileIO:
    fd = os.open(path, _FLAGS | flags, 0o600)
    return io.FileIO(fd, "ab+")


def _is_gone(file: io.FileIO) -> bool:
    return os.fstat(file.fileno()).st_nlink == 0


def sync_directory(directory: Path) -> None:
    """Flush the entry of a new file in its directory to disk, on systems that can."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def journal_error(done: str, path: Path, error: BaseException) -> JournalError:
    """Return a `JournalError`, with a hint, that says the file could not be ``done``."""
    code = error.errno if isinstance(error, OSError) else None
    reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
    return JournalError(
        f"The journal {path} could not be {done}: {reason}.", hint=_HINTS.get(code or 0, "")
    )


@contextlib.contextmanager
def journal_errors(done: str, path: Path) -> Iterator[None]:
    """Raise errors of the operating system as `JournalError`; see `journal_error`."""
    try:
        yield
    except OSError as error:
        raise journal_error(done, path, error) from error
