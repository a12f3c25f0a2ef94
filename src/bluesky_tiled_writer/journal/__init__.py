"""What was measured, on disk before anything can fail: an append-only file for each run.

A package of its own: it knows documents only as values under a name, and nothing of Tiled.

::

    JournalDirectory     directory.py   begins journals, and finds orphans
    JournalFile          file.py        the journal of one run, as its owner sees it
    private files        disk.py        created, opened, removed under a lock (lock.py)
    JournalReader        reader.py      the documents in a journal, whatever happened to it
    headers and frames   format.py      what it looks like on disk
    values               codec.py       documents to bytes and back (dtypes.py for those of numpy)
"""

from .backup import Backup
from .codec import Foreign
from .directory import JournalDirectory, JournalInfo, default_path
from .durability import NOTE, DocumentCopies
from .export import to_json_lines
from .file import SUFFIX, JournalFile
from .format import MAGIC, Header
from .lock import try_lock
from .reader import Damage, Entry, JournalReader

__all__ = [
    "MAGIC",
    "NOTE",
    "SUFFIX",
    "Backup",
    "Damage",
    "DocumentCopies",
    "Entry",
    "Foreign",
    "Header",
    "JournalDirectory",
    "JournalFile",
    "JournalInfo",
    "JournalReader",
    "default_path",
    "to_json_lines",
    "try_lock",
]
