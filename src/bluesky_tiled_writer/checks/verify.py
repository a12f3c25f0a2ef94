"""Compare the documents of a run with what Tiled holds of it, row by row.

What to expect is derived from the documents alone; of the code that stores them only the normalizer
is used, and what tells documents that came before. A cell that the notes of the run mention is no
difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bluesky_tiled_writer.errors import DocumentError, UnknownReference
from bluesky_tiled_writer.normalizer import RunNormalizer
from bluesky_tiled_writer.run import Arrivals
from bluesky_tiled_writer.schema import to_json

from .compare import different_metadata, different_rows, shortened
from .expected import ExpectedRun, ExpectedStream
from .readback import RunInTiled, StreamInTiled
from .run_notes import RunNotes

_ACCESS = ("tiled_access_tags", "tiled_specs")
"""Keys of the start document that are for the writer, and are not stored in the metadata."""


@dataclass(frozen=True)
class Difference:
    """Something that Tiled holds otherwise than the documents have it.

    Parameters
    ----------
    text : str
        What is different.
    stream, key : str, optional
        The stream and the data key, if it concerns one of them.
    seq_num : int, optional
        The row, if it concerns one.
    """

    text: str
    stream: str | None = None
    key: str | None = None
    seq_num: int | None = None

    def __str__(self) -> str:
        where = [
            f"{name} {value!r}"
            for name, value in (("stream", self.stream), ("key", self.key))
            if value is not None
        ]
        if self.seq_num is not None:
            where.append(f"seq_num {self.seq_num}")
        return f"{', '.join(where)}: {self.text}" if where else self.text


def verify(documents: Iterable[tuple[str, Any]], stored: RunInTiled | None) -> Iterator[Difference]:
    """Compare the documents of one run with what Tiled holds.

    Parameters
    ----------
    documents : iterable of (str, dict)
        All documents of the run. Without a stop document, the one in Tiled is not compared.
    stored : RunInTiled or None
        The run in Tiled; None if there is none.

    Yields
    ------
    Difference
        Each as soon as it is found; the values of a stream are read key by key.

    Raises
    ------
    UnknownReference
        If there is no start document.
    StorageError
        If Tiled cannot be read.
    """
    expected = ExpectedRun()
    normalizer = RunNormalizer()
    normalizer.subscribe(expected)
    arrivals = Arrivals()  # what comes twice is stored once
    for name, doc in documents:
        try:
            arrivals.feed(name, doc, lambda new, name=name: bool(normalizer(name, new)))  # type: ignore[misc]
        except (DocumentError, LookupError, TypeError, AttributeError) as error:
            text = str(error) if isinstance(error, DocumentError) else repr(error)
            yield Difference(f"a document ({name}) cannot be stored: {text}")
    if expected.start is None:
        raise UnknownReference(
            "There is no start document.", hint="Does the file have this run, and from its start?"
        )
    if stored is None:
        yield Difference("Tiled has no such run")
        return
    notes = RunNotes(stored.metadata.get("notes") or ())
    documents_of_run = {"start": stored_start(expected.start)}
    if expected.stop is not None:
        documents_of_run["stop"] = to_json(expected.stop)[0]
    for name, plain in documents_of_run.items():
        held = stored.metadata.get(name)
        if held is None:
            yield Difference(f"Tiled has no {name} document")
            continue
        for path, text in different_metadata(plain, held, name):
            yield Difference(f"{path}: {text}")
    for name, stream in expected.streams.items():
        found = notes.stream(name)
        nodes = stored.stream(found)
        if nodes is None:
            yield Difference("Tiled has no such stream", name)
        else:
            yield from _verify_stream(replace(stream, name=found), nodes, notes)
    for name in sorted(stored.names - set(map(notes.stream, expected.streams))):
        yield Difference("Tiled has this stream, and the documents do not", name)


def stored_start(start: Mapping[str, Any]) -> Any:
    """Return a start document as it is stored in the metadata of its run."""
    return to_json({key: value for key, value in start.items() if key not in _ACCESS})[0]


# -- what is stored -----------------------------------------------------------------------------


def _verify_stream(
    expected: ExpectedStream, stored: StreamInTiled, notes: RunNotes
) -> Iterator[Difference]:
    name = expected.name
    yield from _verify_external(expected, stored, notes)
    if not expected.seq_nums:
        if len(stored.seq_nums):
            yield Difference(f"{len(stored.seq_nums)} rows are stored, and there is no event", name)
        return
    rows, differences = _matching_rows(expected.seq_nums, stored.seq_nums)
    yield from (Difference(text, name) for text in differences)
    for _, column, values in expected.columns():
        held = stored.column(
            notes.stored_as(name, column, "column"), notes.stored_as(name, column, "node")
        )
        if held is None:
            yield Difference("is not stored", name, column)
            continue
        if len(held) != len(stored.seq_nums):
            yield Difference(
                f"its node has {len(held)} rows, the table {len(stored.seq_nums)}", name, column
            )
        pairs = [(i, row) for i, row in enumerate(rows) if row is not None and row < len(held)]
        if rows == list(range(len(held))):
            compared = held
        else:
            values, compared = [values[i] for i, _ in pairs], [held[row] for _, row in pairs]
        for index in different_rows(values, compared):
            measured, seq_num = values[index], expected.seq_nums[pairs[index][0]]
            if not notes.excuse(name, column, seq_num, measured):
                text = f"{shortened(measured)}, but {shortened(compared[index])} is stored"
                yield Difference(text, name, column, seq_num)


def _matching_rows(
    expected: Sequence[Any], stored: Sequence[Any]
) -> tuple[list[int | None], list[str]]:
    """Match the rows of the documents with those stored, by `seq_num`.

    After a pause and resume several rows may have the same `seq_num`: these match in order.

    Parameters
    ----------
    expected, stored : sequence
        The `seq_num` of each row.

    Returns
    -------
    list of (int or None), list of str
        For each row of the documents the row that is stored, None if it is not; and the
        differences, in words.
    """
    expected, stored = list(expected), list(stored)
    if expected == stored:
        return list(range(len(expected))), []
    differences = []
    missing, surplus = Counter(expected), Counter(stored)
    missing.subtract(stored)
    surplus.subtract(expected)
    if lost := sorted((+missing).elements()):
        differences.append(f"{len(lost)} rows are not stored: seq_num {_ranges(lost)}")
    if more := sorted((+surplus).elements()):
        differences.append(f"{len(more)} rows are stored once too often: seq_num {_ranges(more)}")
    places: dict[Any, list[int]] = {}
    for row, seq_num in reversed(list(enumerate(stored))):
        places.setdefault(seq_num, []).append(row)
    rows = [places[seq_num].pop() if places.get(seq_num) else None for seq_num in expected]
    known = [row for row in rows if row is not None]
    if known != sorted(known):
        differences.append("the rows are stored in another order")
    return rows, differences


def _ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers as text, such as "1-4, 7"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number <= parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in parts]
    return ", ".join(texts if len(texts) <= 20 else [*texts[:20], "..."])


def _verify_external(
    expected: ExpectedStream, stored: StreamInTiled, notes: RunNotes
) -> Iterator[Difference]:
    """Compare numbers of rows; the values are in the files."""
    for key, rows in expected.external_rows.items():
        if notes.mention_external(expected.name, key):
            continue
        shape = stored.shape(notes.stored_as(expected.name, key, "node"))
        if shape is None:
            yield Difference("no files are registered for this key", expected.name, key)
        elif shape:
            # One row an event, or, if the datums are concatenated, as many as each has.
            datum = expected.data_keys.get(key, {}).get("shape") or [1]
            if shape[0] not in (rows, rows * (datum[0] or 1)):
                text = f"{rows} rows, but the shape {shape} is registered"
                yield Difference(text, expected.name, key)
