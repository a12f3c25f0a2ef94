"""Reads saved documents: journals of this package, JSON Lines, and msgpack.

A damaged file is read as far as possible: each part that cannot be read is reported with its place
in the file, and skipped.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from bluesky_tiled_writer.errors import InvalidDocument, TiledWriterError, UnreadableFile
from bluesky_tiled_writer.journal import (
    MAGIC,
    NOTE,
    SUFFIX,
    JournalReader,
    OutOfData,
    Unpacker,
    from_msgpack_numpy,
)

logger = logging.getLogger("bluesky_tiled_writer")

Pair = tuple[str, dict[str, Any]]
"""Name and document."""
OnProblem = Callable[[TiledWriterError], None]

_SPACE = b" \t\r\n\x1e"
"""Bytes that may precede the JSON of a line: white space, and the mark of JSON text sequences."""
_BOM = b"\xef\xbb\xbf"
_PAIR = (b"\x92", b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x02")
"""First bytes of an array of two in msgpack."""
_TORN = "The program that wrote the file ended in the middle of it. What comes before was read."


class Format(Enum):
    """Format of a file of saved documents."""

    JOURNAL = "a journal"
    JSON_LINES = "JSON Lines"
    MSGPACK = "msgpack"


def read_documents(path: str | Path, on_problem: OnProblem | None = None) -> Iterator[Pair]:
    """Read the documents in a file; see `SavedDocuments`.

    Yields
    ------
    tuple of (str, dict)
        Name and document, in the order of the file, which may hold several runs.
    """
    return iter(SavedDocuments(path, on_problem))


class Documents(Protocol):
    """Documents that can be stored. They can be iterated over again and again."""

    one_run: bool
    """True if all of them are of one run, so that none need be read of one that is stored."""

    @property
    def options(self) -> dict[str, Any]:
        """Options that a writer needs for them."""
        ...

    def quiet(self) -> Iterable[Pair]:
        """Return the same documents, for another use at the same time; no problem is reported."""
        ...

    def __iter__(self) -> Iterator[Pair]: ...


class SavedDocuments:
    """The documents in a file. It can be iterated over again and again.

    The file may be a journal of this package; JSON Lines with ``{"name": ..., "doc": ...}`` a line,
    as in backups (and in an array, as bluesky's `JSONWriter` writes them), or with ``[name, doc]``
    a line, as suitcase-jsonl writes them; or the msgpack of suitcase-msgpack.

    Parameters
    ----------
    path : str or Path
        The file. It may still be written to.
    on_problem : callable, optional
        Called with an error for each part of the file that cannot be read. By default, the errors
        are logged.

    Attributes
    ----------
    path : Path
        The file.
    format : Format
        Its format.
    size : int
        Its size in bytes when it was opened.
    position : int
        Number of bytes that the iteration has read.
    torn : bool
        True if the iteration found that the last document is incomplete.

    Raises
    ------
    UnreadableFile
        If the file cannot be opened, or has none of these formats.
    """

    one_run = False

    def __init__(self, path: str | Path, on_problem: OnProblem | None = None) -> None:
        self.path = Path(path)
        self.position = 0
        self.torn = False
        self._report = _log if on_problem is None else on_problem
        with _open(self.path) as file:
            self.size = os.fstat(file.fileno()).st_size
            self.format = _format_of(self.path, _read(file, self.path, 256))

    @property
    def options(self) -> dict[str, Any]:
        """Options that a writer needs for these documents: none."""
        return {}

    def quiet(self) -> SavedDocuments:
        """Return the same documents, for another use at the same time; no problem is reported."""
        return SavedDocuments(self.path, on_problem=lambda _: None)

    def __iter__(self) -> Iterator[Pair]:
        self.position, self.torn = 0, False
        read = {
            Format.JOURNAL: self._journal,
            Format.JSON_LINES: self._json_lines,
            Format.MSGPACK: self._msgpack,
        }
        return read[self.format]()

    def _journal(self) -> Iterator[Pair]:
        with JournalReader.open(self.path) as reader:
            self.size = reader.size
            for entry in reader:
                self.position = entry.offset
                yield from self._pair(entry.name, entry.doc, f"byte {entry.offset}")
            self.position = reader.size
            for damage in reader.damage:
                self._report(InvalidDocument(f"{self.path}: cannot read {damage}."))
            if reader.torn:
                self._report_torn(f"byte {reader.size - reader.torn}")

    def _json_lines(self) -> Iterator[Pair]:
        with _open(self.path) as file:
            for number, line in enumerate(_lines(file, self.path), start=1):
                self.position += len(line)
                text = line.removeprefix(_BOM).strip(_SPACE)
                if text in (b"", b"[", b"]"):  # the lines of a JSON array, but its items
                    continue
                try:
                    entry = json.loads(text.removesuffix(b","))
                except (ValueError, RecursionError) as error:
                    if line.endswith(b"\n"):
                        self._report_invalid(f"line {number}", f"is not JSON: {error}")
                    else:
                        self._report_torn(f"line {number}")
                    continue
                match entry:
                    case {"name": name, "doc": doc} | [name, doc]:
                        yield from self._pair(name, doc, f"line {number}")
                    case _:
                        yield from self._pair(None, None, f"line {number}")

    def _msgpack(self) -> Iterator[Pair]:
        with _open(self.path) as file:
            unreadable: list[str] = []  # what cannot be read of the document being unpacked
            unpacker = Unpacker(
                file,
                strict_map_key=False,
                # A document may be as large as the file. A damaged one may claim any size.
                max_buffer_size=2 * self.size + 2**20,
                object_hook=lambda mapping: from_msgpack_numpy(mapping, unreadable),
            )
            while True:
                where = f"byte {unpacker.tell()}"
                try:
                    entry = unpacker.unpack()
                except OutOfData:
                    break
                except Exception as error:
                    # Nothing marks where the next document would begin.
                    self._report_invalid(where, f"and what follows is not msgpack: {error!r}")
                    return
                self.position = unpacker.tell()
                if unreadable:
                    self._report_invalid(where, f"holds {unreadable[0]}")
                    unreadable.clear()
                    continue
                name, doc = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
                yield from self._pair(name, doc, where)
            if self.position < file.tell():
                self._report_torn(f"byte {self.position}")
                self.position = file.tell()

    def _pair(self, name: Any, doc: Any, where: str) -> Iterator[Pair]:
        if isinstance(name, str) and isinstance(doc, dict):
            yield name, doc
        elif name != NOTE:
            self._report_invalid(where, "is not a name with a document")

    def _report_invalid(self, where: str, what: str) -> None:
        self._report(InvalidDocument(f"{self.path}: {where} {what}."))

    def _report_torn(self, where: str) -> None:
        self.torn = True
        message = f"{self.path}: {where}: the last document is incomplete."
        self._report(InvalidDocument(message, hint=_TORN))


def _log(problem: TiledWriterError) -> None:
    logger.warning("%s", problem)


def _open(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error


def _read(file: io.BufferedReader, path: Path, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error


def _lines(file: io.BufferedReader, path: Path) -> Iterator[bytes]:
    try:
        yield from file
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read further: {error.strerror}.") from error


def _format_of(path: Path, begin: bytes) -> Format:
    """Return the format of a file, by its first bytes or else by its name."""
    if begin.startswith(MAGIC) or path.suffix == SUFFIX:
        return Format.JOURNAL
    if begin.startswith(_PAIR):
        return Format.MSGPACK
    text = begin.removeprefix(_BOM).lstrip(_SPACE)
    if not text or text.startswith((b"{", b"[")) or path.suffix in (".json", ".jsonl"):
        return Format.JSON_LINES
    raise UnreadableFile(
        f"{path} is not a file of saved documents.",
        hint="Give a journal of this package, JSON Lines, or msgpack of suitcase.",
    )
