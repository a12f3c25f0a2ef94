"""Saved documents: journals of ours, JSON Lines and msgpack as others write them.

Whatever happened to a file, all that can be read of it is: what cannot is reported, by an error
that says where it stands, and costs only itself.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from bluesky_tiled_writer.errors import InvalidDocument, TiledWriterError, UnreadableFile
from bluesky_tiled_writer.journal import MAGIC, SUFFIX, JournalReader

logger = logging.getLogger("bluesky_tiled_writer")

Document = dict[str, Any]
Pair = tuple[str, Document]
Report = Callable[[TiledWriterError], None]

_SPACE = b" \t\r\n\x1e"
"""What may stand before a line of JSON: white space, and the mark of JSON text sequences."""
_BOM = b"\xef\xbb\xbf"
_PAIR = (b"\x92", b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x02")
"""How msgpack begins an array of two."""
_NOTE = "note"
"""What stands in journals where no document does: remarks on the run."""
_TORN = "The program that wrote it was cut off; what comes before is there."


class Format(Enum):
    """How documents are saved in a file."""

    JOURNAL = "a journal"
    JSON_LINES = "JSON Lines"
    MSGPACK = "msgpack"


def read_documents(path: str | Path, on_problem: Report | None = None) -> Iterator[Pair]:
    """Read the documents in a file; see `SavedDocuments`.

    Yields
    ------
    tuple of (str, dict)
        Name and document, in the order in which they were written. There may be several runs.
    """
    return iter(SavedDocuments(path, on_problem))


class SavedDocuments:
    """The documents in a file: iterate over it, as often as you like.

    Takes the journals of this package; JSON Lines with ``{"name": ..., "doc": ...}`` a line, as
    backups have them (those of bluesky in an array, too), or with ``[name, doc]``, as
    suitcase-jsonl writes them; and the msgpack of suitcase-msgpack.

    Parameters
    ----------
    path : str or Path
        The file. It may still be written to.
    on_problem : callable, optional
        Called with an error for each part of the file that could not be read. They are logged
        by default.

    Attributes
    ----------
    format : Format
        What the file is.
    size : int
        Its size in bytes, when it was opened.
    position : int
        How many of them the iteration has read.
    torn : bool
        Whether the iteration found the last document cut off.

    Raises
    ------
    UnreadableFile
        If the file cannot be opened, or is none of these.
    """

    def __init__(self, path: str | Path, on_problem: Report | None = None) -> None:
        self.path = Path(path)
        self.position = 0
        self.torn = False
        self._report = _log if on_problem is None else on_problem
        with _open(self.path) as file:
            self.size = os.fstat(file.fileno()).st_size
            self.format = _format_of(self.path, _read(file, self.path, 256))

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
                where = f"bytes {damage.start} to {damage.end} of {self.path}"
                self._report(InvalidDocument(f"Cannot read {where}: {damage.reason}."))
            if reader.torn:
                self._report_torn(f"The last {reader.torn} bytes")

    def _json_lines(self) -> Iterator[Pair]:
        with _open(self.path) as file:
            for number, line in enumerate(_lines(file, self.path), start=1):
                self.position += len(line)
                text = line.removeprefix(_BOM).strip(_SPACE)
                if text in (b"", b"[", b"]"):  # an array with an item a line
                    continue
                try:
                    entry = json.loads(text.removesuffix(b","))
                except (ValueError, RecursionError) as error:
                    if line.endswith(b"\n"):
                        self._report_invalid(f"line {number}", f"is no JSON: {error}")
                    else:
                        self._report_torn(f"Line {number}, the last one,")
                    continue
                match entry:
                    case {"name": name, "doc": doc} | [name, doc]:
                        yield from self._pair(name, doc, f"line {number}")
                    case _:
                        yield from self._pair(None, None, f"line {number}")

    def _msgpack(self) -> Iterator[Pair]:
        with _open(self.path) as file:
            unreadable: list[str] = []  # of the document that is being unpacked
            unpacker = msgpack.Unpacker(
                file,
                strict_map_key=False,
                # A document may be as large as the file; a damaged one claims to be larger.
                max_buffer_size=2 * self.size + 2**20,
                object_hook=lambda mapping: _from_numpy(mapping, unreadable),
            )
            while True:
                where = f"byte {unpacker.tell()}"
                try:
                    entry = unpacker.unpack()
                except msgpack.OutOfData:
                    break
                except Exception as error:
                    # Nothing tells where the next document would begin.
                    self._report_invalid(where, f"and what follows is no msgpack: {error!r}")
                    return
                self.position = unpacker.tell()
                if unreadable:
                    self._report_invalid(where, f"holds {unreadable[0]}")
                    unreadable.clear()
                    continue
                name, doc = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
                yield from self._pair(name, doc, where)
            if self.position < file.tell():
                self._report_torn(f"What follows byte {self.position}")
                self.position = file.tell()

    def _pair(self, name: Any, doc: Any, where: str) -> Iterator[Pair]:
        if isinstance(name, str) and isinstance(doc, dict):
            yield name, doc
        elif name != _NOTE:
            self._report_invalid(where, "holds no name with a document")

    def _report_invalid(self, where: str, what: str) -> None:
        self._report(InvalidDocument(f"{self.path}: {where} {what}."))

    def _report_torn(self, what: str) -> None:
        self.torn = True
        self._report(InvalidDocument(f"{self.path}: {what} is no whole document.", hint=_TORN))


class RunIndex:
    """Tells which run each of a sequence of documents belongs to."""

    def __init__(self) -> None:
        self._runs: dict[Any, str] = {}

    def run_of(self, name: str, doc: Mapping[str, Any]) -> str | None:
        """The uid of its run; None if neither the document nor one before it says."""
        if name == "start":
            return _text(doc.get("uid"))
        if name == "bulk_events":
            events = [event for events in doc.values() for event in events]
            return self.run_of("event", events[0]) if events else None
        if name == "bulk_datum":
            name = "datum_page"
        if name in ("descriptor", "resource", "stream_resource", "stop"):
            run, uid = _text(doc.get("run_start")), _text(doc.get("uid"))
            if run is not None and uid is not None and name != "stop":
                self._runs[uid] = run
            return run
        by = "resource" if name in ("datum", "datum_page") else "descriptor"
        return self._runs.get(_text(doc.get(by)))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


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
    """What a file is: by what it begins with, or else by its name."""
    if begin.startswith(MAGIC) or path.suffix == SUFFIX:
        return Format.JOURNAL
    if begin.startswith(_PAIR):
        return Format.MSGPACK
    text = begin.removeprefix(_BOM).lstrip(_SPACE)
    if not text or text.startswith((b"{", b"[")) or path.suffix in (".json", ".jsonl"):
        return Format.JSON_LINES
    raise UnreadableFile(
        f"{path} is no file of saved documents.",
        hint="It takes journals of this package, JSON Lines, and msgpack of suitcase.",
    )


def _from_numpy(mapping: Any, unreadable: list[str]) -> Any:
    """What msgpack_numpy made a mapping of: an array, a numpy scalar, a complex number.

    It must not raise, or nothing could be read that follows.
    """
    try:
        if b"nd" in mapping:
            if mapping.get(b"kind") == b"O":
                unreadable.append("an array of Python objects, pickled, which could be anything")
                return None
            dtype, data = _dtype(mapping[b"type"]), mapping[b"data"]
            array = np.ndarray(mapping.get(b"shape", ()), dtype, buffer=data)
            return array if mapping[b"nd"] else array[()]
        if b"complex" in mapping:
            return complex(mapping[b"data"])
    except Exception as error:
        unreadable.append(f"an array that cannot be read: {error!r}")
        return None
    return mapping


def _dtype(described: Any) -> np.dtype[Any]:
    if isinstance(described, str):
        return np.dtype(described)
    return np.dtype([(field[0], _dtype(field[1]), *map(_size, field[2:])) for field in described])


def _size(shape: Any) -> Any:
    return tuple(shape) if isinstance(shape, list) else shape
