"""Reads journals, also damaged ones and those that are still being written."""

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
    """A document in a journal, and the offsets at which its frame begins and ends."""

    offset: int
    name: str
    doc: Any
    end: int


@dataclass(frozen=True)
class Damage:
    """A range of bytes of a journal that cannot be read, and why. All the rest can."""

    start: int
    end: int
    reason: str

    def __str__(self) -> str:
        return f"bytes {self.start} to {self.end}: {self.reason}"


class JournalReader:
    """The documents in a journal. It can be iterated over again and again.

    It reads up to the end that the file had when it was opened; the owner may go on writing.

    Parameters
    ----------
    file : BinaryIO
        Open for reading, and seekable; the reader closes it.

    Attributes
    ----------
    header : Header
        Run, server and options.
    marker : bytes
        First bytes of every frame.
    start : int
        Offset of the first frame.
    size : int
        Size of the file when it was opened.
    damage : list of Damage
        What the last iteration could not read and skipped.
    torn : int
        Bytes of an incomplete frame that the last iteration found at the end. Its writer ended
        during the write, or the power failed before the frame was on disk.

    Raises
    ------
    JournalError
        If neither copy of the header can be read, or a later version of the format wrote it.
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
        """Open a journal for reading, without a lock.

        Raises
        ------
        JournalError
            If the file cannot be opened, or is not a journal.
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
        """The damage that the last iteration found among the documents, not in the header."""
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
        """Iterate over the documents from an offset on: the `end` of an entry, or 0 for all."""
        for offset, payload in self.frames(start):
            end = offset + HEAD.size + len(payload)
            try:
                name, doc = decode(payload)
            except (CodecError, TypeError, ValueError):
                self.damage.append(Damage(offset, end, "it does not hold a document"))
                continue
            yield Entry(offset, name, doc, end)

    def frames(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Iterate over offset and undecoded payload of every intact frame from `start` on."""
        self.damage = list(self._header_damage)
        # Cut off in the second copy of the header: there are no frames.
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
        """Return the offset of the next head, and record what is before it as damage or torn."""
        end = self._find_head(offset + 1)
        if end == self.size and self._is_torn(offset):
            self.torn = end - offset
        else:
            self.damage.append(Damage(offset, end, "the head of a document is damaged"))
        return end

    def _find_head(self, offset: int) -> int:
        """Return where the next head begins, or the end of the file if there is none."""
        while offset < self.size:
            # Read a little more than a chunk, for a marker that begins at its end.
            found = self._read(offset, _CHUNK + MARKER_SIZE - 1).find(self.marker)
            if found < 0:
                offset += _CHUNK
            elif self._head_at(offset + found) is not None:
                return offset + found
            else:
                offset += found + 1
        return self.size

    def _is_torn(self, offset: int) -> bool:
        """Return True if the rest of the file is an unfinished write rather than damage."""
        if self.size - offset < HEAD.size:
            return True
        # Blocks that the file system had reserved for a write that never came read as zeros.
        return all(not any(self._read(i, _CHUNK)) for i in range(offset, self.size, _CHUNK))
