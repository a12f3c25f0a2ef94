"""Documents on disk before anything else can fail: one append-only file for each run.

It treats documents as named values, and does not know Tiled.

::

    directory.py    JournalDirectory: creates journals, finds those whose owner is gone
    file.py         JournalFile: the journal of one run, open for writing and locked
    reader.py       JournalReader: the documents in a journal, damaged or not
    format.py       header and frames: the layout of a journal on disk
    codec.py        documents to bytes and back (dtypes.py: numpy dtypes)
    disk.py         private files: created, opened, removed under a lock (lock.py)
    durability.py   DocumentCopies: which copies of a run exist, and what they allow to promise
    backup.py       Backup: the documents of a run that Tiled refused, as JSON Lines or in memory
    findings.py     Finding, check_journals: what a check before the first run finds
    space.py        JournalSpace: the room that journals take, and who is told
    export.py       a journal as JSON Lines
    units.py        bytes and seconds for people to read
    plain_msgpack.py  msgpack, whatever other packages have made of it
    msgpack_numpy.py  values of numpy as msgpack_numpy writes them
"""

from .backup import Backup
from .codec import Foreign, fingerprint
from .directory import JournalDirectory, JournalInfo, default_path
from .durability import DocumentCopies
from .export import to_json_lines
from .file import SUFFIX, JournalFile
from .findings import Finding, Grade, check_journals
from .format import JOURNALED_OPTIONS, MAGIC, NOTE, Header, known_options
from .lock import try_lock
from .msgpack_numpy import from_msgpack_numpy
from .plain_msgpack import OutOfData, Unpacker, unpackb
from .reader import Damage, Entry, JournalReader
from .space import JournalSpace, JournalUse, Room
from .units import age_text, size_text

__all__ = [
    "JOURNALED_OPTIONS",
    "MAGIC",
    "NOTE",
    "SUFFIX",
    "Backup",
    "Damage",
    "DocumentCopies",
    "Entry",
    "Finding",
    "Foreign",
    "Grade",
    "Header",
    "JournalDirectory",
    "JournalFile",
    "JournalInfo",
    "JournalReader",
    "JournalSpace",
    "JournalUse",
    "OutOfData",
    "Room",
    "Unpacker",
    "age_text",
    "check_journals",
    "default_path",
    "fingerprint",
    "from_msgpack_numpy",
    "known_options",
    "size_text",
    "to_json_lines",
    "try_lock",
    "unpackb",
]
