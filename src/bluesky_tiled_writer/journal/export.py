"""Journals as JSON Lines, for people and other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from bluesky_tiled_writer.schema import to_json

from .reader import Damage, JournalReader


def to_json_lines(path: Path, file: TextIO) -> list[Damage]:
    """Write the documents of a journal as JSON Lines, ``{"name": ..., "doc": ...}`` a line.

    A value that JSON cannot hold is written in the nearest readable form, and an item ``"notes"``
    of the line says so.

    Parameters
    ----------
    path : Path
        The journal. Its owner may go on writing meanwhile.
    file : TextIO
        Receives the lines.

    Returns
    -------
    list of Damage
        The parts of the journal that could not be read and are missing from the lines.

    Raises
    ------
    JournalError
        If the file cannot be opened, or is not a journal.
    """
    with JournalReader.open(path) as reader:
        for entry in reader:
            plain, notes = to_json(entry.doc)
            line = {"name": entry.name, "doc": plain} | ({"notes": notes} if notes else {})
            file.write(json.dumps(line) + "\n")
        return reader.damage
