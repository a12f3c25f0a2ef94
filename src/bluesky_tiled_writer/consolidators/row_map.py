"""Indices by sequence number, kept as runs: files may hold millions of rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping


class RowMap(Mapping[int, int]):
    """Indices by sequence number; a later entry replaces an earlier one."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, int, int]] = []  # seq_num, index, length; in order, disjoint

    def add(self, seq_num: int, index: int, length: int) -> None:
        """Let `length` sequence numbers from `seq_num` stand for indices from `index`."""
        if length <= 0:
            return
        if self._runs:
            last_seq, last_index, last_length = self._runs[-1]
            if seq_num == last_seq + last_length and index == last_index + last_length:
                self._runs[-1] = (last_seq, last_index, last_length + length)
                return
            if seq_num < last_seq + last_length:
                self._runs = [*self._without(seq_num, seq_num + length)]
        self._runs.append((seq_num, index, length))
        self._runs.sort()

    def _without(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        for seq_num, index, length in self._runs:
            before = min(length, start - seq_num)
            after = min(length, seq_num + length - stop)
            if before > 0:
                yield seq_num, index, before
            if after > 0:
                yield seq_num + length - after, index + length - after, after

    def __getitem__(self, seq_num: int) -> int:
        position = bisect_right(self._runs, seq_num, key=lambda run: run[0]) - 1
        if position >= 0:
            first, index, length = self._runs[position]
            if seq_num < first + length:
                return index + seq_num - first
        raise KeyError(seq_num)

    def __iter__(self) -> Iterator[int]:
        for seq_num, _, length in self._runs:
            yield from range(seq_num, seq_num + length)

    def __len__(self) -> int:
        return sum(length for _, _, length in self._runs)
