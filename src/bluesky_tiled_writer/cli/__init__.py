"""The command `bluesky-tiled-writer`: replays saved documents, compares runs, shows journals.

::

    app.py               the commands
    check.py             check: does a server do all that a run needs
    consume.py           consume: documents from a bus
    options.py           options that several commands have
    output.py            what they print
    replay.py            Replay: stores the runs of a file in Tiled
    reports.py           what became of these runs
    saved_documents.py   SavedDocuments, read_documents: journals, JSON Lines, msgpack
"""

from .app import app
from .saved_documents import SavedDocuments, read_documents

__all__ = ["SavedDocuments", "app", "read_documents"]
