"""Decides what is stored of a value: a column, an array, JSON or a note. Pure functions, no I/O.

=================  ==============================================================================
`data_key`         what a descriptor declares of a data key; the storage forms
`names`            names that SQL, URLs and file systems accept; tables of at most 1024 columns
`field`            one data key of a stream: its storage form, its encoder, its rows widened
`scalars`          scalars into a column
`arrays`           arrays into a block, ragged rows, a list column or JSON, and which of them
`array_type`       the type and the shape that hold all arrays of a key
`records`          tables and records into arrays of a structured type
`packing`          parsed arrays into what is sent
`to_numpy`         nested lists into arrays, without numpy's silent changes
`widening`         the numeric type that holds all values
`plain_values`     scalars without their wrapping; values as text
`notes`            deviations: values that are not stored as they came
`row_numbers`      sets of rows, and the `seq_num` of each
`row_order`        `RowOrder`: which columns tell the order of the rows
`ragged_rows`      rows of varying lengths, and their offsets
`limits`           what a server cannot hold
`json_values`      metadata as JSON
`arrow_file`       tables as Tiled takes and serves them
=================  ==============================================================================
"""

from .arrow_file import column_groups, join_columns, read_arrow_file, to_arrow_file
from .data_key import TEXT, DeclaredKey, Source, StorageForm
from .field import Chunk, Field, Parsed
from .json_values import NOTES_KEY, fields_of, to_json
from .limits import RequestSize, ServerLimits, ragged_name
from .names import (
    MAX_COLUMNS,
    Names,
    dimension_names,
    further_parts,
    is_addressable,
    parts,
    timestamp_name,
)
from .notes import MAX_NOTES, Deviation, Deviations, verbatim
from .plain_values import plain_number, plain_scalar
from .ragged_rows import Content, NestedRow, RaggedRows, Row, in_columns
from .row_numbers import SeqNums
from .row_order import (
    BY_SEQ_NUM,
    BY_TIME_AND_SEQ_NUM,
    ROW_NUMBER,
    RowNumbers,
    RowOrder,
    supersedes,
)
from .to_numpy import only_element, ragged_row, regular_block
from .widening import FLOAT_EXACT

__all__ = [
    "BY_SEQ_NUM",
    "BY_TIME_AND_SEQ_NUM",
    "FLOAT_EXACT",
    "MAX_COLUMNS",
    "MAX_NOTES",
    "NOTES_KEY",
    "ROW_NUMBER",
    "TEXT",
    "Chunk",
    "Content",
    "DeclaredKey",
    "Deviation",
    "Deviations",
    "Field",
    "Names",
    "NestedRow",
    "Parsed",
    "RaggedRows",
    "RequestSize",
    "Row",
    "RowNumbers",
    "RowOrder",
    "SeqNums",
    "ServerLimits",
    "Source",
    "StorageForm",
    "column_groups",
    "dimension_names",
    "fields_of",
    "further_parts",
    "in_columns",
    "is_addressable",
    "join_columns",
    "only_element",
    "parts",
    "plain_number",
    "plain_scalar",
    "ragged_name",
    "ragged_row",
    "read_arrow_file",
    "regular_block",
    "supersedes",
    "timestamp_name",
    "to_arrow_file",
    "to_json",
    "verbatim",
]
