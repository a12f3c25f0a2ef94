"""The room that journals take, what is left of it, and who is told when that gets less."""

from __future__ import annotations

import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from .units import size_text

logger = logging.getLogger("bluesky_tiled_writer")

NEARLY = 0.8
"""Part of the room for journals that they take when somebody is told."""

AGAIN = 0.7
"""Part of it that they take at most when they are said to have room again."""

LITTLE = 10**9
"""Bytes on a disk that are little: an hour of a thousand events/s, of five numbers each."""

LITTLE_PART = 0.05
"""Part of a small disk that is little."""

LOOK_EVERY = 5.0
"""Seconds between two looks at the journals."""


class Room(IntEnum):
    """The room for journals, in three grades."""

    ENOUGH = 0
    LITTLE = 1
    """They take most of what they may take, or their disk is nearly full."""
    OVER = 2
    """They take more than `journal_max_bytes`, and are written nevertheless."""


@dataclass(frozen=True)
class JournalUse:
    """The room that the journals of a directory take, whichever process they are of.

    Parameters
    ----------
    path : Path
        The directory.
    nbytes : int
        Bytes of all of its files.
    most : int, optional
        Bytes that they should take at most, if there is such a limit.
    free, disk : int
        Bytes that are left on the disk, and those of the disk.
    """

    path: Path
    nbytes: int
    most: int | None
    free: int
    disk: int

    @classmethod
    def of(cls, path: Path, most: int | None) -> JournalUse:
        """Look at a directory; one that is not there, or cannot be read, takes no room."""
        nbytes = free = disk = 0
        with suppress(OSError), os.scandir(path) as files:
            for file in files:
                with suppress(OSError):  # it was removed meanwhile
                    nbytes += file.stat(follow_symlinks=False).st_size
        for where in (path, *path.parents):  # it may not have been made yet
            with suppress(OSError):
                disk, _, free = shutil.disk_usage(where)
                break
        return cls(path, nbytes, most, free, disk)

    @property
    def fraction(self) -> float:
        """Part of the room that they take: of `most`, or of the disk if that has less room."""
        room = self.nbytes + self.free
        if self.most is not None:
            room = min(room, self.most)
        return self.nbytes / room if room > 0 else float(self.nbytes > 0)

    @property
    def _little(self) -> float:
        return min(LITTLE, LITTLE_PART * self.disk)

    @property
    def room(self) -> Room:
        """The room for journals, in three grades."""
        if self.most is not None and self.nbytes >= self.most:
            return Room.OVER
        if self.nbytes and (self.fraction >= NEARLY or self.free < self._little):
            return Room.LITTLE
        return Room.ENOUGH

    @property
    def has_room_again(self) -> bool:
        """True if there is so much room that somebody who was told will not soon be told again."""
        if not self.nbytes:
            return True
        return self.fraction <= AGAIN and self.free >= 2 * self._little

    def __str__(self) -> str:
        limit = "" if self.most is None else f" of at most {size_text(self.most)}"
        return f"{size_text(self.nbytes)}{limit}, {size_text(self.free)} are left on the disk"


class JournalSpace:
    """Looks now and then at the room that journals take, and tells once when that gets less.

    It only tells: no journal is refused, shortened or deleted for want of room.

    Parameters
    ----------
    path : Path
        The directory of the journals.
    most : int, optional
        Bytes that they should take at most.
    clock : callable, optional
        Returns the time in seconds.
    """

    def __init__(
        self, path: Path, most: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()  # guards these; held to decide, never across I/O
        self._look_at = -math.inf
        self._told = Room.ENOUGH

    @property
    def use(self) -> JournalUse:
        """The room that they take now."""
        return JournalUse.of(self._path, self._most)

    def look(self) -> None:
        """Log what has changed, unless that was looked at just now; never raise an error."""
        now = self._clock()
        with self._lock:
            if now < self._look_at:
                return
            self._look_at = now + LOOK_EVERY
        use = self.use
        with self._lock:
            before, room = self._told, use.room
            if room < before and not use.has_room_again:
                return
            self._told = room
        if room is not before:
            _tell(use)


def _tell(use: JournalUse) -> None:
    if use.room is Room.OVER:
        logger.error(
            "The journals in %s take %s: more than journal_max_bytes. They are written all the"
            " same, since no scan is stopped and nothing is deleted that Tiled does not have. See"
            " what keeps Tiled from taking the runs before the disk is full.",
            use.path,
            use,
        )
    elif use.room is Room.LITTLE:
        logger.warning(
            "The room for journals is nearly used up: those in %s take %s. See what keeps Tiled"
            " from taking the runs, and make room.",
            use.path,
            use,
        )
    else:
        logger.warning("There is room for journals again: those in %s take %s.", use.path, use)
