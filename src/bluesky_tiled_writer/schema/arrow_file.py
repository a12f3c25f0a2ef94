"""Tables as Tiled takes and serves them: Arrow's file format, a group of columns per request.

Tiled's own client reads tables through pandas and dask, which turn lists into text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

CELLS_PER_REQUEST = 4_000_000
"""Cells of a table that one request reads, about: 32 MB of numbers."""


def read_arrow_file(content: bytes) -> pa.Table:
    """Return the table in the content of an Arrow file.

    Parameters
    ----------
    content : bytes
        An answer of Tiled of media type ``application/vnd.apache.arrow.file``.

    Returns
    -------
    pyarrow.Table
        Its columns in the order of the file, which need not be that of a request.

    Raises
    ------
    pyarrow.ArrowInvalid
        If the content is no Arrow file.
    """
    return pa.ipc.open_file(pa.BufferReader(content)).read_all()


def to_arrow_file(table: pa.Table) -> bytes:
    """Return the content of an Arrow file with a table.

    The function that Tiled has for it is in a module that imports pandas, blosc2 and other
    formats, which takes as long as all other imports.
    """
    file = pa.BufferOutputStream()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    content: bytes = file.getvalue().to_pybytes()
    return content


def column_groups(
    columns: Sequence[str], rows: int, *, cells: int = CELLS_PER_REQUEST
) -> list[list[str]]:
    """Split the columns of a table into groups, each to be read by one request.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns.
    rows : int
        Rows of the table.
    cells : int
        Cells of a group at most, but at least one column.

    Returns
    -------
    list of list of str
        The columns, in order; no group if there are none.
    """
    width = max(1, cells // max(1, rows))
    return [list(columns[start : start + width]) for start in range(0, len(columns), width)]


def join_columns(tables: Iterable[pa.Table]) -> pa.Table:
    """Put tables of equal length side by side; a table without columns if there are none.

    Raises
    ------
    pyarrow.ArrowInvalid
        If their lengths differ.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    for table in tables:
        columns.update(zip(table.column_names, table.columns, strict=True))
    return pa.table(columns)
