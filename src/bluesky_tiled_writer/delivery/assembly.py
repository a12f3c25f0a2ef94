"""Puts the parts of the delivery together."""

from __future__ import annotations

from pathlib import Path

from bluesky_tiled_writer.journal import JournalDirectory

from .jobs import Destination, Server
from .run_manager import RunManager
from .sender import Sender
from .settings import Settings


def new_manager(
    server: Server,
    destination: Destination,
    settings: Settings,
    journal_directory: str | Path | None,
) -> RunManager:
    """Return a manager of runs that go to a container of a server.

    `journal_directory` is "default" for the one in the user's state directory, None for no journal.
    """
    sender = Sender(
        server,
        settings.flush_interval,
        connections=settings.connections,
        exit_timeout=settings.timeout,
    )
    path = None if journal_directory == "default" else journal_directory
    journals = None if journal_directory is None else JournalDirectory(path)
    return RunManager(settings, sender, destination, journals)
