"""Does Tiled hold what was measured? Compares a stored run with its documents and its files.

::

    verify.py         verify: the documents of a run beside its rows and metadata in Tiled
    expected.py       ExpectedRun: what Tiled should hold, derived from the documents
    compare.py        same, different_rows, ...: values compared as readers see them; pure
    readback.py       RunInTiled, read_columns: a run as the server sends it
    run_notes.py      RunNotes: the names under which things are stored, and cells that differ
    validation.py     validate_run: what is registered beside files and server, without documents
    stored_files.py   file_problems: the files of one key beside what is registered of them
"""

from .readback import RunInTiled, read_columns
from .run_notes import RunNotes
from .validation import Problem, log_problems, validate_run
from .verify import Difference, stored_start, verify

__all__ = [
    "Difference",
    "Problem",
    "RunInTiled",
    "RunNotes",
    "log_problems",
    "read_columns",
    "stored_start",
    "validate_run",
    "verify",
]
