"""Numbers in text files without a header, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import ConsolidatorBase, JoinMethod
from .files import StreamDocument, subject

_PARAMETERS = frozenset(
    {
        "assume_missing", "comment", "delimiter", "dtype", "encoding", "header", "names", "nrows",
        "sep", "skipfooter", "skiprows", "usecols",
    }
)  # fmt: skip


_MOVING_LINES = frozenset({"comment", "header", "nrows", "skipfooter", "skiprows"})
"""Parameters with which a row of the table is not a line of the file."""

MAX_SKIPPED = 10_000
"""Lines that are skipped at most, one by one, as pandas takes them."""


class CSVConsolidator(ConsolidatorBase):
    """CSV files without a header: each datum appends its rows, in a partition of its own.

    The adapter gets the parameters of the StreamResource that `pandas.read_csv` knows.
    Tiled reads each file as one chunk: where there are several, `chunk_shape` must be the rows
    of a file.
    """

    supported_mimetypes = {"text/csv;header=absent"}  # noqa: RUF012 - ClassVar in the base
    join_method: JoinMethod = "concat"
    join_chunks = False

    def __init__(self, stream_resource: StreamDocument, descriptor: StreamDocument) -> None:
        super().__init__(stream_resource, descriptor)
        self._skipped_lines: list[int] = []

    def adapter_parameters(self) -> dict[str, Any]:
        """Return the parameters for reading the text."""
        given = {k: v for k, v in self._sres_parameters.items() if k in _PARAMETERS}
        skipped = {"skiprows": self._skipped_lines} if self._skipped_lines else {}
        return {"header": None, **given, **skipped}

    @property
    def rows_matter(self) -> bool:
        """True, since Tiled cannot read a file with more rows than are registered."""
        return True

    def take_shapes(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Take the shapes of the tables in the files; return True if rows are to be skipped."""
        size = (self.datum_shape[0] if self.datum_shape else 1) or 1
        self._lengths_seen = [rows // size for rows, *_ in shapes]
        wanted = [self.frames.length(file) * size for file in range(len(shapes))]
        more = [range(end, shape[0]) for end, shape in zip(wanted, shapes, strict=True)]
        # Tiled skips the same lines of each file.
        skipped = sorted(set().union(*more))
        if not skipped:
            return False
        alike = all(
            skipped[0] >= min(end, shape[0]) for end, shape in zip(wanted, shapes, strict=True)
        )
        plain = not _MOVING_LINES & self._sres_parameters.keys()
        if alike and plain and len(skipped) <= MAX_SKIPPED:
            self._skipped_lines = skipped
            return True
        self.notes.append(
            f"{subject(self.data_key, self._sres_uid)}: its files have {sum(map(len, more))} rows"
            " more than were announced, so that Tiled cannot read them."
        )
        return False

    def update_from_stream_resource(self, stream_resource: StreamDocument) -> None:
        """Append another file.

        Raises
        ------
        InvalidDocument
            If it is of another type.
        """
        self._take_over(stream_resource)
        self._add_asset(self.uri)
