"""File locks, which end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import sys

UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Error numbers from file systems without locks."""

if sys.platform == "win32":
    import msvcrt
    import os

    _FAR = 2**31 - 2  # a locked byte cannot be read, so lock one beyond the end of any journal

    def try_lock(fd: int, *, shared: bool = False) -> bool:
        """Lock an open file as on other systems, except that the lock is never shared."""
        os.lseek(fd, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def try_lock(fd: int, *, shared: bool = False) -> bool:
        """Lock an open file, unless it is locked already.

        A second `open` of the file does not share the lock, not even in the same process. A child
        process that inherits the descriptor does.

        Parameters
        ----------
        fd : int
            File descriptor. The lock ends when it and all its copies are closed.
        shared : bool
            Share the lock with others that ask for a shared one; enough to test for an owner.

        Returns
        -------
        bool
            True if the lock is held now.

        Raises
        ------
        OSError
            If the file system has no locks.
        """
        # Not lockf, whose locks end when this process closes any descriptor of the file.
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
