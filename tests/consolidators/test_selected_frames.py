"""Which frames the rows of an array are: any order, gaps, repeats and splits over files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.consolidators.frames import MAX_RUNS, Frames, Selection

Runs = list[tuple[int, int, int]]
RUNS: st.SearchStrategy[Runs] = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(1, 3)), min_size=1, max_size=6
)


def of(runs: Runs, selection: Selection, *, solid: bool = False) -> Frames:
    """Frames of files that come in the order of their numbers."""
    order = list(dict.fromkeys(file for file, _, _ in runs))
    frames = Frames(selection)
    for file, start, length in runs:
        frames.add(order.index(file), start, length, solid=solid)
    return frames


def joined(runs: Runs) -> tuple[list[Any], list[Any]]:
    """The frames of the events, and those of the files as Tiled joins them, each by its place."""
    order = list(dict.fromkeys(file for file, _, _ in runs))
    wanted = [(file, i) for file, start, length in runs for i in range(start, start + length)]
    lengths = {file: 1 + max(i for name, i in wanted if name == file) for file in order}
    return wanted, [(file, i) for file in order for i in range(lengths[file])]


def served(frames: Frames, files: list[Any]) -> list[Any]:
    begin, number, step = frames.slice()
    return [files[begin + i * step] for i in range(number)]


@given(RUNS, st.sampled_from([Selection.NOTHING, Selection.SLICE]))
def test_rows_are_the_frames_or_it_is_said_which_rows_they_are(
    runs: Runs, selection: Selection
) -> None:
    frames = of(runs, selection)
    wanted, files = joined(runs)
    rows = served(frames, files)
    assert len(rows) == frames.rows
    assert frames.count == len(wanted)
    if frames.exact:
        assert rows == wanted
        assert frames.deviation() is None
    else:
        assert [rows[i] for a, b in frames.of_events() for i in range(a, b)] == wanted
        assert str(len(rows)) in str(frames.deviation())
    if selection is Selection.NOTHING:
        assert rows == files[: len(rows)]


@given(RUNS, st.sampled_from([Selection.NOTHING, Selection.SLICE]))
def test_an_array_never_gets_fewer_rows(runs: Runs, selection: Selection) -> None:
    rows = [of(runs[:end], selection).rows for end in range(1, len(runs) + 1)]
    assert rows == sorted(rows)


@given(st.integers(0, 9), st.integers(-3, 3).filter(bool), st.integers(1, 4))
def test_frames_at_equal_distances_are_a_slice(begin: int, step: int, number: int) -> None:
    indices = [begin + i * step for i in range(number)]
    if min(indices) >= 0:
        frames = of([(0, index, 1) for index in indices], Selection.SLICE)
        assert frames.exact
        assert frames.slice() == (begin, number, step if number > 1 else 1)


@pytest.mark.parametrize("indices", [[0, 2, 4], [2, 1, 0]])
def test_blocks_are_no_slice_unless_they_follow_one_another(indices: list[int]) -> None:
    assert not of([(0, index, 1) for index in indices], Selection.SLICE, solid=True).exact
    assert of([(0, index, 1) for index in (3, 4, 5)], Selection.SLICE, solid=True).exact


@given(RUNS)
def test_files_for_each_row_have_any_frames(runs: Runs) -> None:
    frames = of(runs, Selection.ANY)
    assert frames.exact
    assert frames.rows == frames.count == sum(length for _, _, length in runs)


def test_runs_are_kept_up_to_a_limit() -> None:
    frames = Frames(Selection.SLICE)
    for number in range(MAX_RUNS + 5):
        frames.add(0, number * 3 + number % 2, 1)
    assert len(frames.of_events()) == MAX_RUNS
    assert len(str(frames.deviation())) < 500
