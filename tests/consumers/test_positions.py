"""From where a partition has to be read again if the process ends now."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.consumers import Start
from bluesky_tiled_writer.consumers.positions import Positions


def test_the_position_is_the_start_of_the_oldest_run_that_is_not_stored() -> None:
    positions = Positions(Start(100))
    assert positions.start == Start(100, seen=100)
    for offset, starts in ((100, "a"), (101, "b"), (102, None)):
        positions.take(offset)
        if starts:
            positions.begin(starts, offset)
    assert positions.start == Start(100, seen=103)
    positions.finish("b")
    assert positions.start == Start(100, seen=103)
    positions.finish("a")
    assert positions.start == Start(103, seen=103)


def test_a_start_document_that_comes_again_does_not_move_the_position_on() -> None:
    positions = Positions(Start(0))
    positions.begin("a", 0)
    positions.begin("a", 7)
    assert positions.start.offset == 0


def test_the_next_consumer_knows_which_messages_another_one_had() -> None:
    positions = Positions(Start(10, seen=20))
    positions.take(10)
    assert positions.came_before(19)
    assert not positions.came_before(20)
    assert positions.start == Start(11, seen=20)


@given(st.lists(st.integers(0, 4), min_size=1), st.data())
def test_whenever_a_consumer_ends_the_next_one_gets_all_of_each_run_that_is_not_stored(
    runs: list[int], data: st.DataObject
) -> None:
    """Each message belongs to a run; it begins with the first one, and is stored at any time."""
    positions, stored = Positions(Start(0)), set()
    for offset, run in enumerate(runs):
        positions.take(offset)
        if run in runs[:offset]:
            pass
        else:
            positions.begin(str(run), offset)
        complete = [run for run in set(runs[: offset + 1]) if run not in runs[offset + 1 :]]
        for run in complete:
            if run not in stored and data.draw(st.booleans()):
                stored.add(run)
                positions.finish(str(run))
        start = positions.start
        assert start.seen == offset + 1
        for run in set(runs[: offset + 1]) - stored:
            assert start.offset <= runs.index(run)
        # What comes again without its start is of a stored run, and known to have come before.
        for again in range(start.offset, offset + 1):
            if runs.index(runs[again]) < start.offset:
                assert runs[again] in stored
