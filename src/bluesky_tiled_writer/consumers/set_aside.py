"""Keep what cannot be stored: messages in a file, and runs as journals, for people to look at."""

from __future__ import annotations

import base64
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from bluesky_tiled_writer.journal import JournalDirectory

from .source import Message

LARGEST = 2**20
"""Bytes of a message that are written to the file; of a larger one only its position is."""
MOST = 2**28
"""Size of the file beyond which only positions are written."""


class SetAside:
    """A directory for messages and runs that cannot be stored, while all others go on.

    Parameters
    ----------
    directory : Path
        Made when it is needed. ``messages.jsonl`` has a line for each message: when and why, the
        bus, partition and offset, and the message itself in base64. A run is a journal, which
        ``bluesky-tiled-writer replay`` stores.

    Attributes
    ----------
    messages, runs : int
        How many were set aside by this process.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.messages = self.runs = 0

    def put(self, source: str, message: Message, why: str, *, durable: bool) -> None:
        """Write down a message.

        If `durable`, it is on disk when this returns: so it is before the position goes on.
        """
        entry = {
            "time": time.time(),
            "why": why,
            "bus": source,
            "partition": message.partition,
            "offset": message.offset,
            "size": len(message.data),
        }
        self._make()
        is_small = not self.path.exists() or self.path.stat().st_size < MOST
        if is_small and len(message.data) <= LARGEST:
            entry["data"] = base64.b64encode(message.data).decode()
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(fd, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            if durable:
                os.fsync(file.fileno())
        self.messages += 1

    @property
    def path(self) -> Path:
        """The file of messages."""
        return self.directory / "messages.jsonl"

    def put_run(self, journals: Path, uid: str) -> list[Path]:
        """Move the journals of a run here; return where they are."""
        self._make()
        moved = []
        for info in JournalDirectory(journals).journals():
            if info.header is not None and info.header.uid == uid:
                with suppress(FileNotFoundError):
                    moved.append(info.path.rename(self.directory / info.path.name))
        self.runs += 1
        return moved

    def _make(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
