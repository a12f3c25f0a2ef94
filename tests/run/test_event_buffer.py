"""Rows go into an event buffer and come out again: all of them, once, in order, as they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.run import Batch, RunSettings
from bluesky_tiled_writer.run.batch import BYTES_PER_CELL
from bluesky_tiled_writer.run.event_buffer import FEWEST, EventBuffer, Waiting
from bluesky_tiled_writer.schema import DeclaredKey, Source

F8 = np.dtype("f8")
X = DeclaredKey("x", False, F8, (), {})
IMAGE = DeclaredKey("image", True, F8, (2,), {})
FILES = DeclaredKey("files", True, F8, (2,), {}, external=True)
MORE = DeclaredKey("more", True, F8, (2,), {}, external=True)

Row = dict[str, Any]


def new_buffer(*declared: DeclaredKey, **settings: Any) -> EventBuffer:
    """A buffer whose lock cannot be taken twice by one thread: no call does."""
    buffer = EventBuffer("primary", RunSettings(**settings), threading.Lock())  # type: ignore[arg-type]
    for key in declared:
        buffer.declare(key)
    return buffer


def event(number: int, data: Row, filled: Row | None = None) -> dict[str, Any]:
    return {
        "uid": f"event-{number}",
        "seq_num": number,
        "time": number / 2,
        "data": data,
        "timestamps": dict.fromkeys(data, number / 4),
        "filled": filled or {},
    }


def page(first: int, rows: list[Row], filled: Row | None = None) -> dict[str, Any]:
    numbers = range(first, first + len(rows))
    keys = rows[0].keys()
    return {
        "uid": [f"event-{number}" for number in numbers],
        "seq_num": list(numbers),
        "time": [number / 2 for number in numbers],
        "data": {key: [row[key] for row in rows] for key in keys},
        "timestamps": {key: [number / 4 for number in numbers] for key in keys},
        "filled": filled or {},
    }


def take(buffer: EventBuffer) -> list[Waiting]:
    with buffer._lock:
        return buffer.take()


def rows_of(parts: list[Waiting], keys: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    for part in parts:
        if isinstance(part, Batch):
            columns = [part.column(Source.SEQ_NUM), part.column(Source.TIME)]
            columns += [part.column(Source.DATA, key) for key in keys]
            columns += [part.column(Source.TIMESTAMPS, key) for key in keys]
            yield from zip(*map(list, columns), strict=True)


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(cell.tolist() if isinstance(cell, np.ndarray) else cell for cell in row)


def scribble(value: Any) -> None:
    """Change a document as a device, or another callback, may do once the call has returned."""
    if isinstance(value, dict):
        for item in value.values():
            scribble(item)
        value.clear()
    elif isinstance(value, list):
        for item in value:
            scribble(item)
        value[:] = ["changed"]
    elif isinstance(value, np.ndarray):
        value[...] = -1


values = st.sampled_from(
    [1.5, None, "text", lambda: [1.0, 2.0], lambda: np.array([1.0, 2.0]), lambda: {"a": [1]}]
)
arrays = st.sampled_from([lambda: np.arange(2.0), lambda: [[1], [2]], lambda: np.ones((2, 2))])
rows = st.fixed_dictionaries(
    {"x": st.sampled_from([1.5, 2, None])},
    optional={"image": arrays, "files": arrays, "more": arrays},
)
same_keys = st.sets(st.sampled_from(["image", "files", "more"])).flatmap(
    lambda keys: st.lists(
        st.fixed_dictionaries({"x": values, **dict.fromkeys(sorted(keys), arrays)}),
        min_size=1,
        max_size=3,
    )
)
actions = st.lists(
    st.one_of(
        rows.map(lambda row: ("event", [row])),
        same_keys.map(lambda rows: ("page", rows)),
        st.just(("take", [])),
    ),
    max_size=12,
)


@given(actions)
def test_rows_come_out_once_and_in_order_whatever_came_in_between(
    actions: list[tuple[str, list[Row]]],
) -> None:
    buffer = new_buffer(X, IMAGE, FILES, MORE)
    keys = ("x", "image", "files", "more")
    expected: list[tuple[Any, ...]] = []
    taken: list[Waiting] = []
    taken_bytes = 0
    number = 0
    for kind, drawn in actions:
        if kind == "take":
            before = buffer.nbytes
            parts = take(buffer)
            taken_bytes += before
            assert sum(part.nbytes for part in parts if isinstance(part, Batch)) == before
            assert (buffer.pending, buffer.nbytes, buffer.has_marks) == (0, 0, False)
            taken += parts
            continue
        made = [
            {key: value() if callable(value) else value for key, value in row.items()}
            for row in drawn
        ]
        for i, row in enumerate(made):
            n = number + i
            stamps = [n / 4 if key in row else None for key in keys]
            cells = plain(tuple(row.get(key) for key in keys))
            expected.append((n, n / 2, *map(frozen, cells), *stamps))
        doc = event(number, made[0]) if kind == "event" else page(number, made)
        getattr(buffer, "event" if kind == "event" else "event_page")(doc)
        number += len(made)
        scribble(doc)
    assert buffer.rows == number
    waiting = buffer.pending
    taken += take(buffer)
    assert sum(len(part) for part in taken if isinstance(part, Batch)) == number >= waiting
    got = [tuple(map(frozen, plain(row))) for row in rows_of(taken, keys)]
    assert got == [tuple(map(frozen, row)) for row in expected]
    # An external key is announced once, and before its first value.
    marks = [part.key for part in taken if isinstance(part, DeclaredKey)]
    assert sorted(marks) == sorted({key for key in ("files", "more") if brought(expected, key)})
    for key in marks:
        index = next(i for i, part in enumerate(taken) if getattr(part, "key", None) == key)
        assert not brought(list(rows_of(taken[:index], keys)), key)


def brought(rows: list[tuple[Any, ...]], key: str) -> bool:
    index = 2 + ("x", "image", "files", "more").index(key)
    return any(row[index] is not None for row in rows)


def frozen(value: Any) -> Any:
    return repr(value) if isinstance(value, list | dict) else value


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_memory_is_the_same_by_events_and_by_pages(parts: list[tuple[bool, int]]) -> None:
    texts = [("x" * length, np.zeros(length)) for _, length in parts]
    text = DeclaredKey("text", False, np.dtype("U"), (), {})
    by_events, by_pages = new_buffer(X, text, IMAGE), new_buffer(X, text, IMAGE)
    rows = [{"x": 1.5, "text": t, "image": a} for t, a in texts]
    for number, row in enumerate(rows):
        by_events.event(event(number, row))
    by_pages.event_page(page(0, rows))
    size = sum(len(t) + a.nbytes for t, a in texts)
    assert by_events.nbytes == by_pages.nbytes == len(rows) * 8 * BYTES_PER_CELL + size


def test_arrays_are_copied_even_where_a_number_is_declared() -> None:
    buffer = new_buffer(X)
    device = np.zeros(2)  # which a device fills anew for each event
    for number in range(6):
        device[:] = number
        buffer.event(event(number, {"x": device}))
        if number == 3:
            take(buffer)
    device[:] = -1
    assert [row[2].tolist() for row in rows_of(take(buffer), ("x",))] == [[4.0, 4.0], [5.0, 5.0]]


# -- when there is enough -----------------------------------------------------------------------


def test_a_batch_is_reported_once_and_again_when_an_eighth_has_come_on_top() -> None:
    buffer = new_buffer(X, batch_size=800)
    said = [n for n in range(1, 1201) if buffer.event(event(n, {"x": 1.0}))]
    assert said == [800, 900, 1000, 1100, 1200]
    take(buffer)
    assert [n for n in range(1, 801) if buffer.event(event(n, {"x": 1.0}))] == [800]


@pytest.mark.parametrize("batch_size", [1, 0, -3])
def test_with_a_batch_size_of_one_or_less_the_first_event_is_enough(batch_size: int) -> None:
    buffer = new_buffer(X, batch_size=batch_size)
    for _ in range(2):  # the sender takes all that waits, however many have come meanwhile
        said = [n for n in range(1, 2 * FEWEST + 2) if buffer.event(event(n, {"x": 1.0}))]
        assert said == [1, FEWEST + 1, 2 * FEWEST + 1]
        take(buffer)
    assert buffer.event_page(page(5, [{"x": 1.0}]))


def test_rows_of_pages_and_of_events_count_together() -> None:
    buffer = new_buffer(X, batch_size=5)
    assert not buffer.event(event(1, {"x": 1.0}))
    assert not buffer.event_page(page(2, [{"x": 1.0}, {"x": 1.0}]))
    assert not buffer.event(event(4, {"x": 1.0}))
    assert buffer.event(event(5, {"x": 1.0}))


def test_a_key_that_comes_later_does_not_start_the_count_anew() -> None:
    buffer = new_buffer(X, FILES, batch_size=3)
    assert not buffer.event(event(1, {"x": 1.0}))
    assert not buffer.event(event(2, {"x": 1.0, "files": [1.0]}))
    assert buffer.event(event(3, {"x": 1.0, "files": [1.0]}))


def test_large_rows_are_enough_before_there_are_many() -> None:
    buffer = new_buffer(X, IMAGE, ready_bytes=100_000)
    image = np.zeros(5_000)
    said = [n for n in range(1, 6) if buffer.event(event(n, {"x": 1.0, "image": image}))]
    assert said[0] == 3
    take(buffer)
    assert not buffer.event_page(page(1, [{"x": 1.0, "image": image}] * 2))
    assert buffer.event_page(page(3, [{"x": 1.0, "image": image}]))


def test_many_small_rows_are_enough_by_their_bytes() -> None:
    buffer = new_buffer(X, ready_bytes=4 * BYTES_PER_CELL * 10)
    assert [n for n in range(1, 11) if buffer.event(event(n, {"x": 1.0}))] == [10]


# -- external keys ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "filled", "kept"),
    [
        ("datum-1", {"files": False}, None),
        ("datum-1", {"files": "datum-1"}, "datum-1"),
        ([1.0, 2.0], {"files": False}, [1.0, 2.0]),  # an array is no reference
        ([1.0, 2.0], {}, [1.0, 2.0]),
        ([1.0, 2.0], ["files"], [1.0, 2.0]),  # no mapping
    ],
)
def test_an_event_refers_to_external_data_or_brings_them(
    value: Any, filled: Any, kept: Any
) -> None:
    buffer = new_buffer(X, FILES)
    buffer.event({**event(1, {"x": 1.0, "files": value}), "filled": filled})
    assert buffer.has_marks == (kept is not None)
    assert [row[3] for row in rows_of(take(buffer), ("x", "files"))] == [kept]


def test_a_page_may_bring_some_external_values_and_refer_to_others() -> None:
    buffer = new_buffer(X, FILES)
    doc = page(1, [{"x": 1.0, "files": [1.0]}, {"x": 2.0, "files": "datum-1"}])
    buffer.event_page({**doc, "filled": {"files": [True, False]}})
    buffer.event_page({**page(3, [{"x": 3.0, "files": "datum-2"}]), "filled": {"files": [False]}})
    rows = list(rows_of(take(buffer), ("x", "files")))
    assert [row[2:4] for row in rows[:2]] == [(1.0, [1.0]), (2.0, None)]


def test_keys_that_events_bring_come_in_the_order_of_the_event() -> None:
    keys = [DeclaredKey(name, True, F8, (2,), {}, external=True) for name in "hgfedcba"]
    buffer = new_buffer(*keys)
    buffer.event(event(1, {name: [1.0] for name in "fhacegbd"}))
    marks = [part.key for part in take(buffer) if isinstance(part, DeclaredKey)]
    assert "".join(marks) == "fhacegbd"


# -- what is refused ----------------------------------------------------------------------------

GOOD = event(1, {"x": 1.0})


class Raises(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no such luck")


BAD_EVENTS = {
    "no data": {k: v for k, v in GOOD.items() if k != "data"},
    "no timestamps": {k: v for k, v in GOOD.items() if k != "timestamps"},
    "no seq_num": {k: v for k, v in GOOD.items() if k != "seq_num"},
    "no time": {k: v for k, v in GOOD.items() if k != "time"},
    "an undeclared key": event(1, {"x": 1.0, "y": 2.0}),
    "an undeclared key beside an external one": event(1, {"files": [1.0], "x": 1.0, "y": 2.0}),
    **{f"data {d!r}": {**GOOD, "data": d} for d in (None, 5, "x", [1.0], {1.0}, object)},
    **{f"timestamps {d!r}": {**GOOD, "timestamps": d} for d in (None, 5, "x", [1.0])},
    "data that raise": {**GOOD, "data": Raises(x=1.0)},
    "timestamps that are no mapping with an external key": {
        **event(1, {"x": 1.0, "files": [1.0]}),
        "timestamps": 7,
    },
    "not a document": None,
}


@pytest.mark.parametrize("doc", BAD_EVENTS.values(), ids=BAD_EVENTS.keys())
def test_an_event_that_makes_no_row_leaves_the_buffer_as_it_was(doc: Any) -> None:
    buffer = new_buffer(X, FILES)
    buffer.event(event(0, {"x": 0.5}))
    before = buffer.pending, buffer.nbytes, buffer.has_marks
    with pytest.raises(InvalidDocument, match="'primary'") as raised:
        buffer.event(doc)
    assert raised.value.hint
    assert (buffer.pending, buffer.nbytes, buffer.has_marks) == before
    buffer.event(event(1, {"x": 1.5}))
    assert [row[2] for row in rows_of(take(buffer), ("x",))] == [0.5, 1.5]


PAGE = page(1, [{"x": 1.0}, {"x": 2.0}])
BAD_PAGES = {
    "no data": {k: v for k, v in PAGE.items() if k != "data"},
    "no seq_num": {k: v for k, v in PAGE.items() if k != "seq_num"},
    "an undeclared key": page(1, [{"x": 1.0, "y": 2.0}]),
    "columns of two lengths": {**PAGE, "data": {"x": [1.0]}},
    **{f"column {c!r}": {**PAGE, "data": {"x": c}} for c in (1.0, None, "ab", b"ab", {0: 1, 1: 2})},
    "a column that is an array without rows": {**PAGE, "data": {"x": np.array(1.0)}},
    **{f"seq_num {c!r}": {**PAGE, "seq_num": c} for c in (1, None, "ab")},
    **{f"data {c!r}": {**PAGE, "data": c} for c in (1, None, "ab", [1.0, 2.0])},
    "flags without a truth": {
        **page(1, [{"x": 1.0, "files": "d"}]),
        "filled": {"files": [np.array([True, False])]},
    },
    "not a document": 5,
}


@pytest.mark.parametrize("doc", BAD_PAGES.values(), ids=BAD_PAGES.keys())
def test_a_page_that_makes_no_rows_leaves_the_buffer_as_it_was(doc: Any) -> None:
    buffer = new_buffer(X, FILES)
    buffer.event(event(0, {"x": 0.5}))
    before = buffer.pending, buffer.nbytes, buffer.has_marks
    with pytest.raises(InvalidDocument, match="'primary'") as raised:
        buffer.event_page(doc)
    assert raised.value.hint
    assert (buffer.pending, buffer.nbytes, buffer.has_marks) == before


ODD = [object(), "now", [1], np.array([1, 2]), float("nan"), {"a": 1}, None]


@pytest.mark.parametrize("field", ["seq_num", "time"])
@pytest.mark.parametrize("value", ODD, ids=[type(value).__name__ for value in ODD])
def test_an_odd_seq_num_or_time_is_kept_with_its_row(field: str, value: Any) -> None:
    buffer = new_buffer(X)
    buffer.event({**GOOD, field: value})
    (row,) = rows_of(take(buffer), ("x",))
    assert row[0 if field == "seq_num" else 1] is value
    assert row[2] == 1.0
