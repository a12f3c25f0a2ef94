"""The command `bluesky-tiled-writer`: replays saved documents, moves catalogs, compares runs.

::

    app.py               the commands
    check.py             check: does a server do all that a run needs
    consume.py           consume: documents from a bus
    options.py           options that several commands have
    output.py            what they print
    replay.py            Replay: stores the runs of a file in Tiled
    reports.py           what became of these runs
    saved_documents.py   SavedDocuments, read_documents: journals, JSON Lines, msgpack
    migrate_command.py   the command `migrate`
    migrate.py           migrate: moves the runs of a catalog, several at a time
    sources.py           where they come from: Tiled, databroker, files, a program
    run_filter.py        which of them are wanted
    stored_runs.py       StoredRun: the documents of a run in Tiled
    stored_rows.py       the values of its events
"""

from .app import app
from .migrate import MigrationReport, migrate
from .saved_documents import SavedDocuments, read_documents
from .stored_runs import StoredRun

__all__ = ["MigrationReport", "SavedDocuments", "StoredRun", "app", "migrate", "read_documents"]
