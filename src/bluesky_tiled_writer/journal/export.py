"""Journals for people, and for programs that know nothing of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from bluesky_tiled_writer.schema import to_json

from .reader import Damage, JournalReader


def to_json_lines(path: Path, file: TextIO) -> list[Damage]:
    """Write the documents of a journal as JSON Lines: ``{"name": ..., "doc": ...}`` each.

    Where JSON cannot hold a value as it is, the nearest readable form of it stands there, and
    ``"notes"`` beside ``"doc"`` says so.

    Parameters
    ----------
    path : Path
        The journal; its owner may go on writing.
    file : TextIO
        Where to write the lines.

    Returns
    -------
    list of Damage
        What could not be read, and so is not among the lines.

    Raises
    ------
    JournalError
        If the file cannot be opened, or is no journal.
    """
    with JournalReader.open(path) as reader:
        for entry in reader:
            plain, notes = to_json(entry.doc)
            line = {"name": entry.name, "doc": plain} | ({"notes": notes} if notes else {})
            file.write(json.dumps(line) + "\n")
        return reader.damage
