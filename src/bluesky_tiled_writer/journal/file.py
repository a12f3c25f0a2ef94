"""The journal of one run, as its owner sees it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import threading
import time
import weakref
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
    """The journal of one run, open for writing and locked; make one by `create` or `adopt`.

    `append` is for the thread that has the documents, `sync` for another one. What `append` was
    given is with the operating system when it returns: the end of the process cannot take it
    back. A failure of the power can, until `sync`.

    A journal holds a run without a gap. So the first failure of `append` is the last: after it
    every other fails as well, and what was written before stays readable.

    In a child process that was forked off, a journal of its parent is closed, and stays the
    parent's.

    Attributes
    ----------
    path : Path
        Where it is.
    header : Header
        What it is about.
    size : int
        Bytes in it.
    is_empty : bool
        Whether it was adopted without any document, not even a damaged one.
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
        self._refuses = False  # whatever the reason: one look for what every document waits for
        self._synced = -1
        self._sync_failed = False
        self._append_lock = threading.Lock()
        self._sync_lock = threading.Lock()  # not the same: no document waits for the disk
        _open_here.add(self)

    @classmethod
    def create(cls, directory: Path, header: Header) -> JournalFile:
        """Begin a journal, in a file that is private to the user.

        Its name is a hash of the run's uid. A run has a second journal if there is one already,
        such as for another server.

        Parameters
        ----------
        directory : Path
            Created if it is missing, private to the user as well.
        header : Header
            What the journal is about; `since`, `host` and `pid` are set here if they are empty.

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
        """Become the owner of a journal whose owner is gone, and cut off a torn end.

        Returns
        -------
        JournalFile or None
            None if the journal has an owner, or was removed meanwhile. Of several processes that
            try at the same time, one at most gets it.

        Raises
        ------
        JournalError
            If it cannot be read or locked, or belongs to another user.
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

    def append(self, name: str, doc: Any) -> None:
        """Write a document; when this returns, the end of the process does not harm it.

        Parameters
        ----------
        name, doc : str, dict
            Kind of document, and the document. What of it comes back is told in `.codec`.

        Raises
        ------
        JournalError
            If it was not written; nothing of it was. Nor will be any other, see the class.
        """
        lock = self._append_lock
        lock.acquire()  # what `with` does takes longer, and every event of a scan comes by here
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
        """Wait until all that was appended is on the disk; `append` does not wait meanwhile.

        Raises
        ------
        JournalError
            If it could not be written there. After that, `append` and `sync` fail for good.
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
                # What did not get there is forgotten, and the next call would succeed.
                self._sync_failed = True
                self._fail(error)
                raise
            if self._synced < 0:
                sync_directory(self.path.parent)
            self._synced = size

    def documents(self) -> JournalReader:
        """What is in the journal by now, for reading; close it afterwards."""
        return JournalReader.open(self.path)

    def close(self) -> None:
        """Give the journal up, but leave it: it is an orphan that anybody may adopt."""
        with self._sync_lock, self._append_lock:
            self._close()

    def put_away(self) -> Path:
        """Close the journal, and keep its file under another name, where nobody adopts it.

        Raises
        ------
        JournalError
            If the file cannot be renamed, or is the parent process's.
        """
        kept = self.path.with_name(f"{self.path.stem}-{time.time_ns()}{DAMAGED_SUFFIX}")
        with self._last_act("renamed"):
            self.path.rename(kept)
        return kept

    def remove(self) -> None:
        """Delete the journal, and close it.

        Raises
        ------
        JournalError
            If the file cannot be deleted, or is the parent process's.
        """
        with self._last_act("deleted"):
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _last_act(self, done: str) -> Iterator[None]:
        """Do something to the file while it is locked, so that nobody adopts it; then close it."""
        with self._sync_lock, self._append_lock:
            if os.getpid() != self._pid or self._file.closed:
                raise self._refusal()
            if os.name == "nt":  # which renames and deletes no open file
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
            # Ask the file what became of it: this may be KeyboardInterrupt, too, at any point.
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
                hint="A process that was forked off needs a TiledWriter of its own.",
            )
        return JournalError(f"The journal {self.path} is closed.")


_open_here: weakref.WeakSet[JournalFile] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a child process: keep no lock of the parent's journals alive, and wait for none."""
    for journal in list(_open_here):
        journal._append_lock, journal._sync_lock = threading.Lock(), threading.Lock()
        journal._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
