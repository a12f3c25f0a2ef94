"""Reading a journal, whatever happened to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

from bluesky_tiled_writer.errors import JournalError

from .codec import CodecError, decode
from .format import HEAD, HEADER, MARKER_SIZE, MAX_HEADER, good_header, parse_head

_CHUNK = 2**20


class Entry(NamedTuple):
    """A document in a journal, and where its frame begins and ends."""

    offset: int
    name: str
    doc: Any
    end: int


@dataclass(frozen=True)
class Damage:
    """Bytes of a journal that cannot be read, and why; whatever is outside of them can."""

    start: int
    end: int
    reason: str


class JournalReader:
    """The documents in a journal: iterate over it, as often as you like.

    It reads up to where the file ended when it was opened; the owner may go on writing.

    Parameters
    ----------
    file : BinaryIO
        Open for reading, and seekable; the reader closes it.

    Attributes
    ----------
    header : Header
        What the journal is about.
    marker : bytes
        What every frame begins with.
    start : int
        Offset of the first frame.
    size : int
        Where the file ended.
    damage : list of Damage
        What the last iteration could not read and had to skip.
    torn : int
        Bytes at the end that the last iteration found to be no whole frame: the write of it was
        cut off before the call that wrote it returned, or the power failed before it was on disk.

    Raises
    ------
    JournalError
        If neither copy of the header can be read, or a later version wrote it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self.damage: list[Damage] = []
        self.torn = 0
        copies = self._read(0, 2 * (HEADER.size + MAX_HEADER))
        good, self.header, self.marker = good_header(copies)
        self.start = 2 * len(good)
        self._header_damage = [
            Damage(start, start + len(good), "a copy of the header is damaged")
            for start in (0, len(good))
            if copies[start : start + len(good)] != good and start + len(good) <= self.size
        ]

    @classmethod
    def open(cls, path: Path) -> JournalReader:
        """Open a journal for reading; whoever writes it does not notice.

        Raises
        ------
        JournalError
            If the file cannot be opened, or is no journal.
        """
        try:
            file = path.open("rb")
        except OSError as error:
            raise JournalError(f"The journal {path} cannot be read: {error.strerror}.") from error
        try:
            return cls(file)
        except BaseException as error:
            file.close()
            if isinstance(error, JournalError):
                raise JournalError(f"{path}: {error.args[0]}", hint=error.hint) from error
            raise

    @property
    def gaps(self) -> list[Damage]:
        """The damage that the last iteration found where documents were."""
        return [damage for damage in self.damage if damage.start >= self.start]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Entry]:
        return self.since(0)

    def since(self, start: int) -> Iterator[Entry]:
        """The documents from an offset on: the end of an entry, or 0 for all."""
        for offset, payload in self.frames(start):
            end = offset + HEAD.size + len(payload)
            try:
                name, doc = decode(payload)
            except (CodecError, TypeError, ValueError):
                self.damage.append(Damage(offset, end, "it holds no document"))
                continue
            yield Entry(offset, name, doc, end)

    def frames(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """The offset and the payload of every good frame from `start` on, without decoding."""
        self.damage = list(self._header_damage)
        # Without its second copy, the header is all that there is.
        self.torn = self.size - self.start // 2 if self.size < self.start else 0
        offset = max(start, self.start)
        while offset < self.size:
            known = self._head_at(offset)
            if known is None:
                offset = self._skip_to_next_head(offset)
                continue
            size, checksum = known
            end = offset + HEAD.size + size
            if end > self.size:
                self.torn = self.size - offset
                return
            payload = self._read(offset + HEAD.size, size)
            if crc32(payload) == checksum:
                yield offset, payload
            else:
                self.damage.append(Damage(offset, end, "a document is damaged"))
            offset = end

    def _read(self, offset: int, size: int) -> bytes:
        try:
            self._file.seek(offset)
            return self._file.read(min(size, self.size - offset))
        except OSError as error:
            raise JournalError(f"The journal cannot be read: {error.strerror}.") from error

    def _head_at(self, offset: int) -> tuple[int, int] | None:
        return parse_head(self.marker, offset, self._read(offset, HEAD.size))

    def _skip_to_next_head(self, offset: int) -> int:
        """Go on behind bytes that are no head, and say what they are."""
        end = self._find_head(offset + 1)
        if end == self.size and self._is_torn(offset):
            self.torn = end - offset
        else:
            self.damage.append(Damage(offset, end, "the head of a document is damaged"))
        return end

    def _find_head(self, offset: int) -> int:
        """Where the next head begins, or else the end of the file."""
        while offset < self.size:
            # Heads that begin in this chunk, even if their marker ends outside of it.
            found = self._read(offset, _CHUNK + MARKER_SIZE - 1).find(self.marker)
            if found < 0:
                offset += _CHUNK
            elif self._head_at(offset + found) is not None:
                return offset + found
            else:
                offset += found + 1
        return self.size

    def _is_torn(self, offset: int) -> bool:
        """Whether what follows is what remains of a write rather than of a frame."""
        if self.size - offset < HEAD.size:
            return True
        # Blocks that a file system had reserved for a write, but not written, read as zeros.
        return all(not any(self._read(i, _CHUNK)) for i in range(offset, self.size, _CHUNK))
