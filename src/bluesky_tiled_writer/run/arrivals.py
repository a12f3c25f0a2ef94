"""Count the documents of a run: which ones come again, and whether all events came.

Message buses deliver at least once, and a writer may be subscribed twice. Documents are looked at
here as they came, before anything is done to them, and nothing but their sequence decides: so a
journal that is read again gives the same rows.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from operator import lt
from typing import Any

import numpy as np

from bluesky_tiled_writer.journal import fingerprint

from .document_fields import read_range
from .synthetic_stop import is_made

GENERATION = 10_000
"""Documents of a kind, or events of a stream, that are remembered at least; at most twice as many,
or those of one page."""

FULL = 2 * GENERATION
"""The length of the list of a generation."""

Take = Callable[[Any], bool]
"""Takes a document, and returns True if there is enough to be stored together."""


class Recent:
    """Remembers keys, each with a value, in two generations: the older one goes as a whole.

    A key that comes with another value is something else, and a key with several values tells
    nothing: a source that gives each event the same uid loses no row. A value beyond all others
    need not be looked for.

    Attributes
    ----------
    newer : list
        The newer generation: keys and values in turn, so that to add one costs next to nothing.
    highest : Any
        No value that can be compared with it is higher.
    """

    def __init__(self) -> None:
        self.newer: list[Any] = []
        self.highest: Any = -math.inf
        self._older: list[Any] = []
        self._forgotten = 0
        # By key, made when a key is looked for: as far as the lists were when that was last done.
        self._newer_values: dict[str, Any] = {}
        self._older_values: dict[str, Any] = {}
        self._newer_read = self._older_read = 0

    @property
    def came(self) -> int:
        """The number that came so far, whether they are still remembered or not."""
        return self._forgotten + (len(self._older) + len(self.newer)) // 2

    def count(self, number: int) -> None:
        """Count what is not to be remembered."""
        self._forgotten += number

    def has(self, key: Any, value: Any) -> bool:
        """Return True if a key that is text is remembered with this value."""
        self._look()
        both = (self._newer_values, self._older_values)
        try:
            found = [values[key] for values in both if key in values]
        except TypeError:  # an unhashable key
            return False
        return bool(found) and all(_same(other, value) for other in found)

    def _look(self) -> None:
        self._newer_read = _read(self.newer, self._newer_read, self._newer_values)
        self._older_read = _read(self._older, self._older_read, self._older_values)

    def add(self, keys: Iterable[Any], values: Sequence[Any]) -> None:
        """Remember keys with their values."""
        with suppress(Exception):  # no numbers
            self.highest = max(self.highest, *values)
        self.newer += chain.from_iterable(zip(keys, values, strict=True))
        if len(self.newer) >= FULL:
            self.turn()

    def turn(self) -> None:
        """Forget the older generation, and begin a new one."""
        self._forgotten += len(self._older) // 2
        self._older, self.newer = self.newer, []
        self._older_values, self._newer_values = self._newer_values, {}
        self._older_read, self._newer_read = self._newer_read, 0

    def new_rows(self, keys: Sequence[Any], values: Sequence[Any]) -> Sequence[int]:
        """Return the rows of a page that are not remembered, nor further up in the page."""
        with suppress(Exception):  # no numbers
            if values[0] > self.highest and all(map(lt, values, values[1:])):
                return range(len(keys))
        here, rows = Recent(), []
        for row, (key, value) in enumerate(zip(keys, values, strict=True)):
            if not (self.has(key, value) or here.has(key, value)):
                rows.append(row)
                here.newer += (key, value)
        return rows


_SEVERAL = object()
"""The value of a key that came with several ones."""


def _read(pairs: Sequence[Any], start: int, values: dict[str, Any]) -> int:
    """Take keys that are text, and their values, from a place in a list on; return its length."""
    if start < len(pairs):
        new = pairs[start:]
        for key, value in zip(new[::2], new[1::2], strict=True):
            if isinstance(key, str) and key:
                same = key not in values or _same(values[key], value)
                values[key] = value if same else _SEVERAL
    return len(pairs)


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays, say
        return False


class _StreamArrivals:
    """The events of a stream, and the rows of its external keys that came by datums alone."""

    def __init__(self) -> None:
        self.events = Recent()
        self.external: Counter[Any] = Counter()  # by data key

    @property
    def came(self) -> int:
        """Rows that came: events or, if there is none, those that every external key has."""
        return self.events.came or min(self.external.values(), default=0)


def _event_way(seen: Recent, again: Counter[str], take: Take) -> Take:
    """Return the way of the events of one descriptor: a scan waits for what happens there."""

    def take_if_new(doc: Any) -> bool:
        try:
            uid, seq_num = doc["uid"], doc["seq_num"]
            if seq_num > seen.highest:
                seen.highest = seq_num
                known = False
            else:
                known = seen.has(uid, seq_num)
        except KeyError:  # it is stored all the same, if a row can be made of it
            uid, seq_num, known = None, None, False
        except Exception:  # no number
            known = seen.has(uid, seq_num)
        if known:
            again["event"] += 1
            return False
        try:
            ready = take(doc)
        except Exception:
            seen.count(1)
            raise
        newer = seen.newer
        newer += (uid, seq_num)
        if len(newer) >= FULL:
            seen.turn()
        return ready

    return take_if_new


class Arrivals:
    """The documents of one run, as they came: those that come again go no further."""

    def __init__(self) -> None:
        self._again: Counter[str] = Counter()  # documents, by kind
        self._recent: defaultdict[str, Recent] = defaultdict(Recent)  # by kind
        self._streams: dict[Any, _StreamArrivals] = {}
        self._by_descriptor: dict[Any, _StreamArrivals] = {}
        self._keys: dict[Any, Any] = {}  # data keys, by uid of the stream resource

    def way(self, descriptor: Any, take: Take) -> Take | None:
        """Return what takes the events of a descriptor instead of `take`; None if it is unknown."""
        try:
            stream = self._by_descriptor[descriptor]
        except (KeyError, TypeError):
            return None
        return _event_way(stream.events, self._again, take)

    def feed(self, kind: str, doc: Any, take: Take) -> bool:
        """Hand on what is new of a document; return what comes back, or False.

        What `take` raises is raised. The document is then as if it had not come, except that its
        events are counted.
        """
        if not isinstance(doc, Mapping):
            return take(doc)
        if kind == "event":
            return (self.way(doc.get("descriptor"), take) or take)(doc)
        if kind == "event_page":
            return self._event_page(doc, take)
        if kind == "datum_page":
            ids = _column(doc.get("datum_id")) or []
            return self._page("datum", self._recent["datum"], ids, [doc.get("resource")], doc, take)
        key, value = _identity(kind, doc)
        recent = self._recent[kind]
        if recent.has(key, value):
            self._again[kind] += 1
            return False
        ready = take(doc)
        recent.add((key,), (value,))
        self._learn(kind, doc)
        return ready

    def _learn(self, kind: str, doc: Mapping[str, Any]) -> None:
        """Take note of what tells the stream of an event, and of rows that are in files."""
        try:
            if kind == "descriptor":
                stream = self._streams.setdefault(doc.get("name"), _StreamArrivals())
                self._by_descriptor[doc.get("uid")] = stream
            elif kind == "stream_resource":
                self._keys[doc.get("uid")] = doc.get("data_key")
            elif kind == "stream_datum":
                stream = self._by_descriptor[doc.get("descriptor")]
                rows = read_range(doc, "indices") or {"start": 0, "stop": 0}
                key = self._keys[doc.get("stream_resource")]
                stream.external[key] += rows["stop"] - rows["start"]
        except (KeyError, TypeError):  # a normalizer makes something of it
            pass

    # -- pages ----------------------------------------------------------------------------------

    def _event_page(self, doc: Mapping[str, Any], take: Take) -> bool:
        descriptor = doc.get("descriptor")
        try:
            seen = self._by_descriptor[descriptor].events
        except (KeyError, TypeError):
            return take(doc)
        seq_nums = _column(doc.get("seq_num")) or []
        uids = _column(doc.get("uid"))
        if uids is None or len(uids) != len(seq_nums):
            uids = [None] * len(seq_nums)
        try:
            return self._page("event", seen, uids, seq_nums, doc, take)
        except Exception:
            seen.count(len(uids))
            raise

    def _page(
        self,
        kind: str,
        recent: Recent,
        keys: Sequence[Any],
        values: Sequence[Any],
        doc: Mapping[str, Any],
        take: Take,
    ) -> bool:
        if len(values) != len(keys):
            values = [*values] * len(keys)
        rows = recent.new_rows(keys, values)
        if len(rows) == len(keys):
            ready = take(doc)
            recent.add(keys, values)
            return ready
        self._again[kind] += len(keys) - len(rows)
        if not rows:
            return False
        ready = take(_rows_of(doc, rows, len(keys)))
        recent.add([keys[row] for row in rows], [values[row] for row in rows])
        return ready

    # -- what there is to say -------------------------------------------------------------------

    def remarks(self, stop: Mapping[str, Any]) -> list[str]:
        """Return notes on a run that stops: what came again, and what did not come."""
        notes = []
        if self._again:
            counts = ", ".join(f"{number} {kind}" for kind, number in self._again.items())
            notes.append(f"Documents that came more than once are stored once. Left out: {counts}.")
        if missing := self._missing(stop):
            notes.append(
                "Fewer events came than the stop document counts (num_events):"
                f" {', '.join(missing)}."
            )
        return notes

    def _missing(self, stop: Mapping[str, Any]) -> list[str]:
        num_events = stop.get("num_events")
        if not isinstance(num_events, Mapping) or is_made(stop):
            return []
        missing = []
        for name, number in num_events.items():
            if not isinstance(number, int | np.integer) or isinstance(number, bool):
                continue
            if name not in self._streams and not all(isinstance(n, str) for n in self._streams):
                continue  # a descriptor without a name may be its own
            came = self._streams[name].came if name in self._streams else 0
            if came < number:
                missing.append(f"stream {name!r} lacks {number - came} of {number}")
        return missing


def _identity(kind: str, doc: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what tells a document other than an event from others, as a key and a value."""
    if kind == "datum":
        return doc.get("datum_id"), doc.get("resource")
    if not isinstance(doc.get("uid"), str) or (found := fingerprint(doc)) is None:
        return None, None
    return found.hex(), None


def _column(values: Any) -> list[Any] | None:
    """Return the values of a column as a list; None if it is none."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        return None
    try:
        return values.tolist() if isinstance(values, np.ndarray) and values.ndim else list(values)
    except Exception:  # an array of no dimensions, say
        return None


def _rows_of(page: Mapping[str, Any], rows: Sequence[int], length: int) -> dict[str, Any]:
    """Return a page with some of its rows. What is no column of all rows stays as it is."""

    def of(column: Any) -> Any:
        if isinstance(column, np.ndarray):
            return column[rows] if column.ndim and len(column) == length else column
        values = _column(column)
        return column if values is None or len(values) != length else [values[i] for i in rows]

    return {
        name: {key: of(column) for key, column in part.items()}
        if isinstance(part, Mapping)
        else of(part)
        for name, part in page.items()
    }
