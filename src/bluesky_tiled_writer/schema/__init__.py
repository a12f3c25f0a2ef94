"""What a value becomes: from descriptors and values to columns, arrays and notes.

Pure functions and small objects without I/O: the result depends on the descriptor and on the set
of values, never on how rows were batched.
"""

from .data_key import (
    DeclaredKey,
    Names,
    Source,
    StorageForm,
    dimension_names,
    parts,
    timestamp_name,
)
from .field import Chunk, Field, Parsed
from .json_values import NOTES_KEY, to_json
from .limits import ServerLimits, ragged_name
from .notes import Deviation, Deviations, verbatim
from .ragged_rows import Content, RaggedRows, in_columns
from .row_numbers import SeqNums
from .scalars import plain_scalar
from .to_numpy import regular_block
from .widening import FLOAT_EXACT

__all__ = [
    "FLOAT_EXACT",
    "NOTES_KEY",
    "Chunk",
    "Content",
    "DeclaredKey",
    "Deviation",
    "Deviations",
    "Field",
    "Names",
    "Parsed",
    "RaggedRows",
    "SeqNums",
    "ServerLimits",
    "Source",
    "StorageForm",
    "dimension_names",
    "in_columns",
    "parts",
    "plain_scalar",
    "ragged_name",
    "regular_block",
    "timestamp_name",
    "to_json",
    "verbatim",
]
