"""The frames that the rows of an array refer to: the file and the index of each, as runs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

EVENT_ROWS = "event_rows"
"""Key in the metadata of a node whose rows are not those of the events: which rows these are."""

MAX_RUNS = 10_000
"""Ranges of rows that are kept for this metadata."""


class Selection(Enum):
    """The frames that an adapter in Tiled can leave out, repeat or reorder."""

    NOTHING = "nothing"
    """It serves its files from their first frame on, one after another."""
    SLICE = "slice"
    """It serves a slice of its files, which are joined first."""
    ANY = "any"
    """It has a file for each row, in the order in which they are registered."""


class Frames:
    """The frames of the events, in their order, and those that the adapter can serve.

    Files follow one another as they were named first. A file is taken to end with the last frame
    that was referred to, unless it is the last: no file is opened to find out.

    Parameters
    ----------
    selection : Selection
        What the adapter can do.
    lengths : sequence of int, optional
        Numbers of frames in the files, where they were opened to find out.
    """

    def __init__(self, selection: Selection, lengths: Sequence[int] = ()) -> None:
        self._selection = selection
        self._known = lengths  # of files, by their number
        self._solid = False
        self._offsets: list[int] = []  # of files that have frames, in all files as joined
        self._lengths: list[int] = []
        self._runs: list[tuple[int, int, int]] = []  # file, first index, length
        self._exact = True
        self._begin = self._last = 0
        self._step: int | None = None
        self._first = 0  # the lowest index in the first file
        self._count = 0

    @property
    def count(self) -> int:
        """The number of frames that the events refer to."""
        return self._count

    @property
    def exact(self) -> bool:
        """True if the rows of the array are these frames, in this order."""
        return self._exact

    @property
    def total(self) -> int:
        """The number of frames in all files, as far as it is known."""
        return sum(self._lengths)

    @property
    def longest(self) -> int:
        """The number of frames in the longest file, as far as it is known."""
        return max(self._lengths, default=0)

    def length(self, file: int) -> int:
        """Return the number of frames in a file, as far as it is known."""
        return self._lengths[file] if file < len(self._lengths) else 0

    def add(self, file: int, start: int, length: int, *, solid: bool = False) -> None:
        """Let further rows be frames of a file.

        Parameters
        ----------
        file : int
            Its number: files are counted from 0, in the order in which they come first.
        start, length : int
            The index of the first frame in the file, and how many there are.
        solid : bool
            Frames are blocks of the dataset, so that none may be left out in between.
        """
        if length <= 0:
            return
        while file >= len(self._lengths):
            self._offsets.append(self.total)
            number = len(self._lengths)
            self._lengths.append(self._known[number] if number < len(self._known) else 0)
        self._solid |= solid
        if self._selection is not Selection.ANY and self._exact:
            self._exact = file == len(self._lengths) - 1 and self._goes_on(
                self._offsets[file] + start, length, solid
            )
        if file == 0:
            self._first = min(start, self._first) if self._count else start
        self._lengths[file] = max(self._lengths[file], start + length)
        self._count += length
        self._remember(file, start, length)

    def _goes_on(self, start: int, length: int, solid: bool) -> bool:
        """Return True if frames continue those before them by equal steps, and note the step."""
        gap = start - self._last if self._count else 1
        step = self._step or (gap if self._count else None)
        if not self._count:
            self._begin = start
        if length > 1:
            step = step or 1
        self._last, self._step = start + length - 1, step
        if step is None:
            fits = True
        else:
            fits = (not self._count or gap == step != 0) and (length == 1 or step == 1)
            fits = fits and not (solid and step != 1)
        if self._selection is Selection.NOTHING:
            return fits and self._begin == 0 and step in (None, 1)
        return fits

    def _remember(self, file: int, start: int, length: int) -> None:
        if self._runs:
            last_file, last_start, last_length = self._runs[-1]
            if file == last_file and start == last_start + last_length:
                self._runs[-1] = (file, last_start, last_length + length)
                return
        if len(self._runs) <= MAX_RUNS:
            self._runs.append((file, start, length))

    def with_lengths(self, lengths: Sequence[int]) -> Frames | None:
        """Return the same frames in files of these lengths.

        The last file may be longer than is known, which changes nothing. None if no other is, or
        if there are too many ranges of frames.
        """
        earlier = list(map(max, zip(lengths, self._lengths[:-1], strict=False)))
        if earlier == self._lengths[:-1] or len(self._runs) > MAX_RUNS:
            return None
        frames = Frames(self._selection, earlier)
        for run in self._runs:
            frames.add(*run, solid=self._solid)
        return frames

    # -- what is served -------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """The number of rows of the array: all frames in a range of files if it is not exact."""
        return self._count if self._exact else self.total - self._floor

    @property
    def _floor(self) -> int:
        """The first frame that is served if the array is not exact."""
        return self._first if self._selection is Selection.SLICE else 0

    def slice(self) -> tuple[int, int, int]:
        """Return the part of the joined files that is served: begin, number of frames, step."""
        if self._exact:
            return self._begin, self._count, self._step or 1
        return self._floor, self.rows, 1

    def of_events(self) -> list[list[int]]:
        """Return the rows of the array that the events refer to, as ranges: start and stop.

        Those of the first `MAX_RUNS` ranges only.
        """
        offsets = [sum(self._lengths[:file]) for file in range(len(self._lengths))]
        return [
            [start, start + length]
            for file, index, length in self._runs[:MAX_RUNS]
            for start in (offsets[file] + index - self._floor,)
        ]

    def deviation(self) -> str | None:
        """Return in words how the rows of the array differ from the frames of the events."""
        if self._exact:
            return None
        return (
            f"its {self.rows} rows are all frames in the order of the files, since Tiled cannot"
            f" select those of the events, which are its rows {ranges_in_words(self.of_events())}."
        )


def ranges_in_words(ranges: Sequence[Sequence[int]]) -> str:
    """Return ranges, of start and stop, as text such as "2, 0-1"; the first 20 of them."""
    texts = [f"{start}" if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in ranges]
    return ", ".join(texts if len(texts) <= 20 else [*texts[:20], "..."])
