"""Whose a file is: a lock that ends with the process that holds it, however it ends."""

from __future__ import annotations

import errno
import sys

UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems answer that have no locks."""

if sys.platform == "win32":
    import msvcrt
    import os

    _FAR = 2**31 - 2  # locked bytes cannot be read, so one that a journal hardly ever has

    def try_lock(fd: int, *, shared: bool = False) -> bool:
        """Take the lock, as on other systems, except that it is never shared."""
        os.lseek(fd, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def try_lock(fd: int, *, shared: bool = False) -> bool:
        """Take the lock of an open file, unless somebody else holds it.

        It belongs to what was opened: whoever opens the file again does not share it, not even in
        the same process, and a child process that inherits the descriptor does.

        Parameters
        ----------
        fd : int
            File descriptor. The lock ends when it and its copies are closed.
        shared : bool
            Share the lock with others who ask to. Whoever only wants to know takes this one.

        Returns
        -------
        bool
            Whether the lock is held now.

        Raises
        ------
        OSError
            If the file system has no locks.
        """
        # Not lockf: such a lock ends when this process closes any descriptor of the file.
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
