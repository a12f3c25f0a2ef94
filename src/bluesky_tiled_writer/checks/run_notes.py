"""The notes of a run, read: under which names things are stored, and which cells differ."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from bluesky_tiled_writer.schema import Deviation, to_json


class RunNotes:
    """The notes of a run: under which names things are stored, and which cells differ.

    Parameters
    ----------
    notes : iterable
        As the metadata of the run have them.
    """

    def __init__(self, notes: Iterable[Any]) -> None:
        self._notes = [str(note) for note in notes]
        self._counts: dict[str, int] = {}

    def excuse(self, stream: str, key: str, seq_num: Any, measured: Any) -> bool:
        """Return True if the notes tell that this cell is stored otherwise than measured.

        A note of "n more values" excuses n cells, whichever are asked about first; one of cells
        without a value may be about a range of them.
        """
        where = f"Stream {stream!r}, key {key!r}"
        cell, missing = _noted(f"{where}, seq_num "), f"{Deviation.MISSING.value}."
        for note in self._about(cell):
            which = note.removeprefix(cell).partition(":")[0]
            if note.endswith(missing) == (measured is None) and _among(seq_num, which):
                return True
        for note in self._about(where):
            count, _, what = note.removeprefix(_noted(f"{where}: ")).partition(" more values: ")
            if count.isdecimal() and (what == missing) == (measured is None):
                left = self._counts.setdefault(note, int(count))
                self._counts[note] -= 1
                return left > 0
        return False

    def stream(self, name: str) -> str:
        """Return the name of a stream in Tiled."""
        return self._name_in(f"Stream {name!r}", ": stored as the stream ", name)

    def stored_as(self, stream: str, name: str, what: str) -> str:
        """Return the name of the column or node that holds a key, or its timestamps."""
        return self._name_in(f"Stream {stream!r}, key {name!r}", f": stored in the {what} ", name)

    def _name_in(self, subject: str, words: str, default: str) -> str:
        """Return the name that stands at the end of a note about a subject."""
        for note in self._about(subject + words):
            with suppress(ValueError, SyntaxError):
                return str(ast.literal_eval(note.partition(words)[2][:-1]))
        return default

    def mention_external(self, stream: str, key: str) -> bool:
        """Return True if the notes tell that the files of a key could not all be registered."""
        return bool(self._about(f"External key {key!r} of stream {stream!r}: "))

    def arrays_are_text(self, stream: str, key: str) -> bool:
        """Return True if the arrays of a key are JSON: the server had no node for them."""
        return bool(self._about(f"Stream {stream!r}, key {key!r}: its arrays are text, as JSON"))

    def verbatim_in(self, stream: str, key: str) -> str | None:
        """Return the column or node with the values of a key that are not stored as they came."""
        words = ": all values that are not stored as they came are in "
        for note in self._about(f"Stream {stream!r}, key {key!r}{words}"):
            with suppress(ValueError, SyntaxError):
                return str(ast.literal_eval(note.partition(words)[2].removesuffix(", as JSON.")))
        return None

    def streams(self) -> dict[str, str]:
        """Return the names that documents give to streams, by those in Tiled, where they differ."""
        words, names = ": stored as the stream ", {}
        for note in self._about("Stream "):
            given, found, stored = note.partition(words)
            with suppress(ValueError, SyntaxError):
                if found:
                    name = ast.literal_eval(given.removeprefix("Stream "))
                    names[str(ast.literal_eval(stored[:-1]))] = str(name)
        return names

    def _about(self, begin: str) -> list[str]:
        begin = _noted(begin)
        return [note for note in self._notes if note.startswith(begin)]


def _among(seq_num: Any, which: str) -> bool:
    """Return True for a `seq_num` that is named, or in a range such as "1 to 9"."""
    first, _, last = which.partition(" to ")
    if last:
        return isinstance(seq_num, int) and int(first) <= seq_num <= int(last)
    return which == str(seq_num)


def _noted(text: str) -> str:
    """Return a text as the notes have it, which are stored as JSON."""
    return str(to_json(text)[0])
