"""The journal of one run, open for writing by its owner."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bluesky_tiled_writer.errors import JournalError

from .codec import CodecError, Encoder
from .disk import create_locked, journal_error, journal_errors, open_locked, sync_directory
from .format import MARKER_SIZE, Header, encode_frame
from .reader import JournalReader

SUFFIX = ".journal"
DAMAGED_SUFFIX = ".damaged"


class JournalFile:
    """The journal of one run, open for writing and locked. Use `create` or `adopt` to get one.

    Call `append` in the thread that receives the documents, `sync` in another one. A document
    survives the end of the process once `append` has returned, and a power failure once `sync`
    has.

    A journal holds a run without a gap. So after the first failure of `append` or `sync` every
    later call fails too; what was written before stays readable.

    A process that forks must call `leave_to_parent` in the child, before anything else is done
    with the journal there.

    Attributes
    ----------
    path : Path
        The file.
    header : Header
        Run, server and options, as written at the beginning of the file.
    size : int
        Size in bytes.
    is_empty : bool
        True if it was adopted and holds no documents, not even damaged ones.
    """

    def __init__(self, path: Path, file: io.FileIO, header: Header, marker: bytes) -> None:
        self.path = path
        self.header = header
        self.size = 0
        self.is_empty = False
        self._file = file
        self._fd = file.fileno()
        self._marker = marker
        self._encoder = Encoder()
        self._pack, self._pack_event = self._encoder.pack, self._encoder.pack_event
        self._pid = os.getpid()
        self._failure: JournalError | None = None
        self._refuses = False  # for any reason: `append` is in the way of every event
        self._synced = -1
        self._sync_failed = False
        self._append_lock = threading.Lock()
        self._sync_lock = threading.Lock()  # another one, so that no document waits for the disk

    @classmethod
    def create(cls, directory: Path, header: Header) -> JournalFile:
        """Create a journal in a new file that only the user can read.

        The file is named by a hash of the run's uid, and a number if that name is taken, as it is
        when the run also has a journal for another server.

        Parameters
        ----------
        directory : Path
            Created if it does not exist, private to the user.
        header : Header
            Run, server and options; `since`, `host` and `pid` are filled in if they are empty.

        Raises
        ------
        JournalError
            If the file cannot be created, written or locked.
        """
        header = Header(
            uid=header.uid,
            server=header.server,
            options=header.options,
            since=header.since or time.time(),
            host=header.host or socket.gethostname(),
            pid=header.pid or os.getpid(),
        )
        marker = os.urandom(MARKER_SIZE)
        beginning = header.encode(marker)
        name = hashlib.sha256(header.uid.encode("utf-8", "surrogatepass")).hexdigest()
        path, file = create_locked(directory, name, SUFFIX)
        journal = cls(path, file, header, marker)
        try:
            journal._write(beginning)
        except BaseException:
            journal.remove()
            raise
        return journal

    @classmethod
    def adopt(cls, path: Path) -> JournalFile | None:
        """Take over a journal whose owner is gone, and cut off a torn end.

        Returns
        -------
        JournalFile or None
            None if the journal has an owner or no longer exists. If several processes try at the
            same time, at most one gets it.

        Raises
        ------
        JournalError
            If the file cannot be read or locked, or belongs to another user.
        """
        file = open_locked(path)
        if file is None:
            return None
        try:
            with JournalReader.open(path) as reader:
                for _ in reader.frames():
                    pass
            journal = cls(path, file, reader.header, reader.marker)
            journal.size = reader.size
            with journal_errors("repaired", path):
                if reader.size < reader.start:
                    journal._truncate(0)
                    journal._write(reader.header.encode(reader.marker))
                elif reader.torn:
                    journal._truncate(reader.size - reader.torn)
            journal.is_empty = journal.size <= reader.start
        except BaseException:
            file.close()
            raise
        return journal

    def __repr__(self) -> str:
        state = "closed" if self._file.closed else f"{self.size} bytes"
        return f"<{type(self).__name__} of run {self.header.uid!r}, {state}>"

    @property
    def token(self) -> str:
        """Identifies this journal, whichever process owns it."""
        return self._marker.hex()

    @property
    def last_write(self) -> float:
        """When the file was last written, in seconds since the epoch; 0 if it is gone."""
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0

    def append(self, name: str, doc: Any) -> None:
        """Write a document, so that it survives the end of this process.

        Parameters
        ----------
        name : str
            Kind of document, such as "event".
        doc : dict
            The document. See `.codec` for the types that change when it is read back.

        Raises
        ------
        JournalError
            If it was not written, not even in part; every later document is refused, too.
        """
        lock = self._append_lock
        lock.acquire()  # faster than `with`, and every event of a scan pays for it
        try:
            if self._refuses:
                raise self._refusal()
            try:
                pack = self._pack_event if name == "event" else self._pack
                payload = pack([name, doc])
            except Exception:
                payload = self._encode(name, doc)
            self._write(encode_frame(self._marker, self.size, payload))
        finally:
            lock.release()

    def _encode(self, name: str, doc: Any) -> bytes:
        try:
            return self._encoder.encode([name, doc])
        except CodecError as error:
            self._fail(JournalError(f"The journal cannot hold the {name} document: {error}"))
            raise self._refusal() from error

    def _fail(self, failure: JournalError) -> None:
        self._failure, self._refuses = failure, True

    def _close(self) -> None:
        self._refuses = True
        self._file.close()

    def sync(self) -> None:
        """Flush to disk what was appended; `append` can be called meanwhile and does not wait.

        Raises
        ------
        JournalError
            If that failed. `append` and `sync` refuse from then on.
        """
        with self._sync_lock:
            if self._sync_failed or os.getpid() != self._pid or self._file.closed:
                raise self._refusal()
            size = self.size
            if size == self._synced:
                return
            try:
                with journal_errors("written to the disk", self.path):
                    getattr(os, "fdatasync", os.fsync)(self._fd)
            except JournalError as error:
                # The kernel drops the pages that it could not write: a second call would succeed.
                self._sync_failed = True
                self._fail(error)
                raise
            if self._synced < 0:
                sync_directory(self.path.parent)
            self._synced = size

    def documents(self) -> JournalReader:
        """Return a reader of the documents so far; close it after use."""
        return JournalReader.open(self.path)

    def close(self) -> None:
        """Close and unlock the file, and leave it for another process to adopt."""
        with self._sync_lock, self._append_lock:
            self._close()

    def leave_to_parent(self) -> None:
        """Close this copy of the journal in a forked child; the parent keeps the file and its lock.

        Every later call refuses. Call this only in the child. It waits for no lock, since a thread
        of the parent may have held one when the process forked.
        """
        self._append_lock, self._sync_lock = threading.Lock(), threading.Lock()
        # An open copy of the descriptor would keep the lock after the parent has ended.
        self._close()

    def put_away(self) -> Path:
        """Rename the file so that no process adopts it, and close it.

        Returns
        -------
        Path
            The new name, ``*.damaged``.

        Raises
        ------
        JournalError
            If the file cannot be renamed, or belongs to the parent process.
        """
        kept = self.path.with_name(f"{self.path.stem}-{time.time_ns()}{DAMAGED_SUFFIX}")
        with self._closing("renamed"):
            self.path.rename(kept)
        return kept

    def remove(self) -> None:
        """Delete the file and close it.

        Raises
        ------
        JournalError
            If the file cannot be deleted, or belongs to the parent process.
        """
        with self._closing("deleted"):
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _closing(self, done: str) -> Iterator[None]:
        """Close the file after the block, which needs its lock to keep other processes away."""
        with self._sync_lock, self._append_lock:
            if os.getpid() != self._pid or self._file.closed:
                raise self._refusal()
            if os.name == "nt":  # Windows cannot rename or delete an open file
                self._close()
            try:
                with journal_errors(done, self.path):
                    yield
            finally:
                self._close()

    def _write(self, data: bytes) -> None:
        end = self.size + len(data)
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])
            self.size = end
        except BaseException as error:
            # It may be KeyboardInterrupt, raised before or after the write: the file size tells.
            if os.fstat(self._fd).st_size == end:
                self.size = end
                raise
            failure = journal_error("written", self.path, error)
            self._fail(failure)
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
            if isinstance(error, OSError):
                raise failure from error
            raise

    def _truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self.size = size

    def _refusal(self) -> JournalError:
        if self._failure is not None:
            return JournalError(*self._failure.args, hint=self._failure.hint)
        if os.getpid() != self._pid:
            return JournalError(
                f"The journal {self.path} belongs to process {self._pid}.",
                hint="Make a new TiledWriter in each forked process.",
            )
        return JournalError(f"The journal {self.path} is closed.")
