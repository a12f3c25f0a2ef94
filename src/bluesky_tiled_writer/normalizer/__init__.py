"""Bring the documents of a run, of whatever age, to today's event model.

::

    RunNormalizer    run_normalizer.py    one for each run: documents in, today's documents out
    LegacyResources  legacy.py            Resources and Datums, as StreamResources and StreamDatums
    of_today         stream_resources.py  where the files of a Resource are, in today's words
    upgrade.py       data keys of a descriptor: their names, types and shapes
    events.py        events and pages: rename keys, take references out, unpack
    documents.py     copies of documents, and what counts as blank in them
"""

from .documents import own_copy
from .run_normalizer import RunNormalizer

__all__ = ["RunNormalizer", "own_copy"]
