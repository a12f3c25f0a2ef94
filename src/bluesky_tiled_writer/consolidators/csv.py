"""Numbers in text files without a header, row by row."""

from __future__ import annotations

from typing import Any

from .base import ConsolidatorBase, JoinMethod
from .files import StreamDocument

_PARAMETERS = frozenset(
    {
        "assume_missing", "comment", "delimiter", "dtype", "encoding", "header", "names", "nrows",
        "sep", "skipfooter", "skiprows", "usecols",
    }
)  # fmt: skip


class CSVConsolidator(ConsolidatorBase):
    """CSV files without a header: each datum appends its rows, in a partition of its own.

    The adapter gets the parameters of the StreamResource that `pandas.read_csv` knows.
    Tiled reads each file as one chunk: where there are several, `chunk_shape` must be the rows
    of a file.
    """

    supported_mimetypes = {"text/csv;header=absent"}  # noqa: RUF012 - ClassVar in the base
    join_method: JoinMethod = "concat"
    join_chunks = False

    def adapter_parameters(self) -> dict[str, Any]:
        """Return the parameters for reading the text."""
        given = {k: v for k, v in self._sres_parameters.items() if k in _PARAMETERS}
        return {"header": None, **given}

    def update_from_stream_resource(self, stream_resource: StreamDocument) -> None:
        """Append another file.

        Raises
        ------
        InvalidDocument
            If it is of another type.
        """
        self._take_over(stream_resource)
        self._add_asset(self.uri)
