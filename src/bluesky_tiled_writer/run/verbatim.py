"""Values that are not stored as they came, in a field beside that of their key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bluesky_tiled_writer.schema import Chunk, Content, Deviations, Field, Parsed

from .stream_fields import StreamFields


class VerbatimValues:
    """The fields of one stream for values that are not stored as they came.

    A key gets one as soon as the notes cannot hold all of them. That may be long after the first
    of their rows were stored: in another form they were exact.

    Parameters
    ----------
    fields : StreamFields
        The fields of the stream.
    deviations : Deviations
        Those of all rows that are stored.
    """

    def __init__(self, fields: StreamFields, deviations: Deviations) -> None:
        self._fields = fields
        self._deviations = deviations

    def __iter__(self) -> Iterator[Field]:
        return self._fields.verbatim

    def add_fields(self, deviations: Deviations, stored: int) -> set[str]:
        """Add a field for each key with more deviations than notes can hold.

        Parameters
        ----------
        deviations : Deviations
            Those of the next batch.
        stored : int
            Number of rows that are stored.

        Returns
        -------
        set of str
            Nodes of such fields that lack values of rows which are stored.
        """
        late = set()
        for key in {*self._deviations.kept_keys, *deviations.kept_keys}:
            if not self._deviations.beyond_notes(key, deviations):
                continue
            field = self._fields.keep_verbatim(key)
            if self._deviations.kept(key):  # the form must hold the rows before, too
                self.parsed(field, self._deviations, 0, stored)
                if field.stored_in is not None:
                    late.add(field.stored_in)
        return late

    @staticmethod
    def parsed(field: Field, deviations: Deviations, start: int, stop: int) -> Parsed:
        """Return the values of some rows, parsed by the field, empty where nothing is kept."""
        values = deviations.kept(field.key)
        return field.absorb([values.get(row) for row in range(start, stop)], start, Deviations())

    def before(self, field: Field, stored: int) -> Chunk:
        """Return the rows of a field before it was stored at all."""
        return field.pack(self.parsed(field, self._deviations, 0, stored), 0, Deviations())

    def again(
        self, field: Field, contents: Mapping[str, Content], found: Deviations, stored: int
    ) -> Chunk:
        """Return all rows of a field for a rebuild, with the values that were `found` in it.

        Of a row that was changed more than once, the first value is the one that came.
        """
        rows = {**found.kept(field.key), **self._deviations.kept(field.key)}
        if field.stored_in is not None:
            rows |= field.texts(contents[field.stored_in])
        texts = [rows.get(row_number) for row_number in range(stored)]
        return field.pack(field.absorb(texts, 0, Deviations()), 0, Deviations())

    def commit_rebuild(self, nodes: Sequence[str], found: Deviations) -> bool:
        """Take note that nodes were rebuilt, and of the deviations that were `found` in that.

        Returns
        -------
        bool
            False if there are values among them that must be stored in one of these fields.
        """
        for field in self:
            if field.stored_in in nodes:
                self._deviations.forget(field.key)
                found.forget(field.key)
        self._deviations.update(found)
        return not any(map(self._deviations.beyond_notes, found.kept_keys))
