"""The room that journals take, in a directory of real files."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from bluesky_tiled_writer.journal import JournalDirectory, JournalSpace, JournalUse, Room, size_text
from bluesky_tiled_writer.journal.space import AGAIN, LITTLE, LOOK_EVERY

MOST = 10_000
DISK = 100 * LITTLE


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A directory of journals that somebody looks at, long after the last time."""

    def __init__(self, path: Path, most: int | None) -> None:
        self.path = path
        self._clock = Clock()
        self._space = JournalSpace(path, most, self._clock)

    def fill(self, nbytes: int) -> None:
        """Let the files take so much; one is a journal, and one that was put away."""
        (self.path / "a.journal").write_bytes(bytes(nbytes // 2))
        (self.path / "b.damaged").write_bytes(bytes(nbytes - nbytes // 2))

    def look(self, after: float = 2 * LOOK_EVERY) -> None:
        self._clock.now += after
        self._space.look()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path, MOST)


def levels(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.levelno for record in caplog.records]


def test_the_room_is_told_once_when_it_gets_little_when_it_is_over_and_when_it_is_back(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    for nbytes, expected in (
        (7_900, []),
        (8_000, [logging.WARNING]),
        (9_000, []),
        (10_000, [logging.ERROR]),
        (20_000, []),
        (9_000, []),  # not yet: it would be told again and again
        (10_000, []),
        (7_500, []),
        (8_500, []),
        (7_000, [logging.WARNING]),
        (20_000, [logging.ERROR]),
        (0, [logging.WARNING]),
    ):
        watched.fill(nbytes)
        watched.look()
        assert levels(caplog) == expected, nbytes
        caplog.clear()


def test_what_is_told_says_where_and_how_much(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    for nbytes in (8_200, 12_300, 100):
        watched.fill(nbytes)
        watched.look()
    little, over, again = caplog.messages
    for text in (little, over, again):
        assert str(watched.path) in text
        assert "are left on the disk" in text
    assert "8.2 kB of at most 10.0 kB" in little
    assert "make room" in little
    assert "12.3 kB of at most 10.0 kB" in over
    assert "no scan is stopped and nothing is deleted" in over
    assert "There is room for journals again" in again


def test_the_files_are_not_looked_at_each_time(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.look()
    watched.fill(20_000)
    watched.look(after=0.9 * LOOK_EVERY)
    assert caplog.messages == []
    watched.look(after=0.2 * LOOK_EVERY)
    assert levels(caplog) == [logging.ERROR]


def test_no_file_is_changed(watched: Watched) -> None:
    watched.fill(20_000)
    before = {path: path.read_bytes() for path in watched.path.iterdir()}
    watched.look()
    assert {path: path.read_bytes() for path in watched.path.iterdir()} == before


@pytest.mark.parametrize(
    ("nbytes", "most", "free", "disk", "room", "fraction"),
    [
        (0, None, 50 * LITTLE, DISK, Room.ENOUGH, 0.0),
        (0, None, 0, DISK, Room.ENOUGH, 0.0),  # others have filled it, and no run waits
        (1, None, 0, DISK, Room.LITTLE, 1.0),
        (1, None, LITTLE - 1, DISK, Room.LITTLE, 0.0),
        (1, None, LITTLE, DISK, Room.ENOUGH, 0.0),
        (1, None, 40, 1000, Room.LITTLE, 0.02),  # a small disk
        (1, None, 50, 1000, Room.ENOUGH, 0.02),
        (39 * LITTLE, None, 10 * LITTLE, DISK, Room.ENOUGH, 0.8),  # others take the rest
        (41 * LITTLE, None, 10 * LITTLE, DISK, Room.LITTLE, 0.8),
        (41 * LITTLE, 500 * LITTLE, 10 * LITTLE, DISK, Room.LITTLE, 0.8),  # it has not so much
        (79, 100, 50 * LITTLE, DISK, Room.ENOUGH, 0.79),
        (80, 100, 50 * LITTLE, DISK, Room.LITTLE, 0.8),
        (100, 100, 50 * LITTLE, DISK, Room.OVER, 1.0),
        (300, 100, 50 * LITTLE, DISK, Room.OVER, 3.0),
    ],
)
def test_the_room_is_that_of_the_cap_or_of_the_disk(
    nbytes: int, most: int | None, free: int, disk: int, room: Room, fraction: float
) -> None:
    use = JournalUse(Path(), nbytes, most, free, disk)
    assert use.room is room
    assert use.fraction == pytest.approx(fraction, abs=0.01)


def test_who_was_told_is_not_told_of_room_that_is_gone_soon() -> None:
    full = JournalUse(Path(), 100, None, 50 * LITTLE, DISK)
    assert full.has_room_again
    assert not replace(full, free=int(1.9 * LITTLE)).has_room_again
    assert not replace(full, most=130).has_room_again
    assert replace(full, most=int(100 / AGAIN) + 1).has_room_again
    assert replace(full, nbytes=0, free=0).has_room_again


@pytest.mark.parametrize("where", ["not/there/yet", "file"])
def test_a_directory_that_is_not_there_takes_no_room(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    use = JournalUse.of(tmp_path / where, None)
    assert (use.nbytes, use.room) == (0, Room.ENOUGH)
    assert use.disk > use.free > 0


def test_journals_count_in_full(tmp_path: Path) -> None:
    journal = JournalDirectory(tmp_path).create("a uid", "a server")
    journal.append("event", {"data": {"wave": [0.5] * 1000}})
    assert JournalUse.of(tmp_path, None).nbytes == journal.size > 8000
    journal.remove()
    assert JournalUse.of(tmp_path, None).nbytes == 0


def test_bytes_for_people() -> None:
    assert [*map(size_text, (999, 1000, 2_500_000, 3e9))] == [
        "999 bytes",
        "1.0 kB",
        "2.5 MB",
        "3.0 GB",
    ]
