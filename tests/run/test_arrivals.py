"""Documents that come again go no further; events that did not come are told."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from documents import Document, Pair, RunBuilder, data_key, scalar_run

from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.run import Arrivals, arrivals, interrupted_stop

STREAM = data_key("array", [2], external="STREAM:")


class Taker:
    """Takes what `Arrivals` hand on, as a pipeline does."""

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.taken: list[Pair] = []
        self.refuses: list[Any] = []
        self._ways: dict[Any, Any] = {}

    def emit(self, docs: Iterable[Pair]) -> None:
        for name, original in docs:
            doc = copy.deepcopy(original)
            if name == "event" and (way := self._ways.get(doc["descriptor"])):
                way(doc)
                continue
            self.arrivals.feed(name, doc, lambda new, name=name: self._take(name, new))  # type: ignore[misc]
            if name == "descriptor":
                way = self.arrivals.way(doc["uid"], lambda new: self._take("event", new))
                self._ways[doc["uid"]] = way

    def _take(self, name: str, doc: Any) -> bool:
        if doc in self.refuses:
            raise InvalidDocument("No.", hint="No.")
        self.taken.append((name, doc))
        return True

    def column(self, key: str = "n") -> list[Any]:
        values: list[Any] = []
        for name, doc in self.taken:
            if name == "event":
                values.append(doc["data"][key])
            elif name == "event_page":
                values += list(doc["data"][key])
        return values


def emitted(*docs: Iterable[Pair]) -> Taker:
    taker = Taker()
    for some in docs:
        taker.emit(some)
    return taker


def begun() -> RunBuilder:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer"})
    return run


def events(run: RunBuilder, numbers: Iterable[int]) -> list[Pair]:
    return [run.event("primary", {"n": n}) for n in numbers]


def page_of(events: Iterable[Pair], column: Any = list) -> Pair:
    docs = [doc for _, doc in events]
    return "event_page", {
        "descriptor": docs[0]["descriptor"],
        **{name: column([doc[name] for doc in docs]) for name in ("uid", "seq_num", "time")},
        "data": {"n": column([doc["data"]["n"] for doc in docs])},
        "timestamps": {"n": column([doc["timestamps"]["n"] for doc in docs])},
        "filled": {},
    }


def with_files() -> RunBuilder:
    """A run with every kind of document of today, and old resources and datums."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer", "image": STREAM})
    resource = run.stream_resource("image", "file://localhost/a.h5")
    for n in range(3):
        run.stream_datum("primary", resource, n, n + 1)
        run.event("primary", {"n": n})
    run.event_page("primary", [{"n": 3}, {"n": 4}])
    old = {"uid": "r", "run_start": run.uid, "spec": "X", "resource_path": "/a"}
    run.add("resource", old)
    run.add("datum", {"datum_id": "r/0", "resource": "r", "datum_kwargs": {}})
    ids = ["r/1", "r/2"]
    run.add("datum_page", {"datum_id": ids, "resource": "r", "datum_kwargs": {"f": [1, 2]}})
    run.stop()
    return run


def twice_in_a_row(docs: list[Pair]) -> list[Pair]:
    return [pair for pair in docs for _ in range(2)]


def all_again(docs: list[Pair]) -> list[Pair]:
    return [*docs, *docs]


def the_middle_again(docs: list[Pair]) -> list[Pair]:
    return [*docs[:9], *docs[2:]]


@pytest.mark.parametrize("order", [twice_in_a_row, all_again, the_middle_again])
def test_a_document_goes_on_once(order: Any) -> None:
    docs = with_files().docs
    assert emitted(order(docs)).taken == docs


def test_what_came_again_is_counted_by_kind() -> None:
    docs = with_files().docs
    taker = emitted(twice_in_a_row(docs[:-1]))
    (note,) = taker.arrivals.remarks(docs[-1][1])
    for counted in (
        "1 start",
        "1 descriptor",
        "1 stream_resource",
        "3 stream_datum",
        "5 event",
        "1 resource",
        "3 datum",
    ):
        assert f" {counted}" in note
    assert "page" not in note
    assert emitted(docs[:-1]).arrivals.remarks(docs[-1][1]) == []


@pytest.mark.parametrize("column", [list, tuple, np.array], ids=["list", "tuple", "array"])
def test_pages_that_overlap_bring_what_is_new(column: Any) -> None:
    run = begun()
    docs = events(run, range(10))
    taker = emitted(
        run.docs[:2],
        [page_of(docs[:4], column), docs[4], page_of(docs[2:8], column)],  # and one of both kinds
        [page_of(docs[2:4], column), docs[3], docs[6]],
        [page_of([docs[8], docs[8], docs[9]], column)],
    )
    assert taker.column() == [*range(10)]


def test_columns_of_other_lengths_are_left_to_be_refused() -> None:
    run = begun()
    docs = events(run, range(3))
    name, page = page_of(docs)
    page["time"] = [0.0]
    taker = emitted(run.docs[:2], docs[:1], [(name, page)])
    assert len(taker.taken[-1][1]["time"]) == 1


@pytest.mark.parametrize("odd", [5, None, "text", np.array(5), [], np.zeros((3, 2))])
@pytest.mark.parametrize("field", ["uid", "seq_num"])
def test_odd_columns_are_left_to_others(odd: Any, field: str) -> None:
    run = begun()
    name, page = page_of(events(run, range(3)))
    assert emitted(run.docs[:2], [(name, {**page, field: odd})]).taken[-1][0] == "event_page"
    ids = {"datum_id": odd, "resource": "r", "datum_kwargs": {}}
    assert emitted([("datum_page", ids)]).taken[-1][0] == "datum_page"


def test_rows_after_a_rewind_are_new() -> None:
    run = begun()
    first = events(run, range(5))
    again = [run.event("primary", {"n": n}, seq_num=n - 2) for n in range(5, 10)]
    taker = emitted(run.docs, first, again)
    assert taker.column() == [*range(10)]
    assert len(taker.arrivals.remarks({"num_events": {"primary": 7}})) == 1, "none is missing"


@pytest.mark.parametrize("odd", [None, "", 7, ["unhashable"], np.zeros(2), "constant", object()])
def test_events_whose_uid_tells_nothing_are_all_taken(odd: Any) -> None:
    run = begun()
    docs = events(run, range(4))
    docs.append(run.event("primary", {"n": 4}, seq_num=2))
    for _, doc in docs:
        doc["uid"] = odd
    pages = [page_of(docs[:2]), page_of(docs[2:])]
    for same in (docs, pages):
        assert emitted(run.docs[:2], same).column() == [*range(5)]


def test_events_without_a_uid_are_all_taken() -> None:
    run = begun()
    for _, doc in (docs := events(run, range(3))):
        del doc["uid"]
    name, page = page_of([(name, {**doc, "uid": 0}) for name, doc in docs])
    del page["uid"]
    taker = emitted(run.docs[:2], docs, docs, [(name, page)])
    assert taker.column() == [0, 1, 2] * 3
    assert taker.arrivals.remarks({"num_events": {"primary": 9}}) == []


@pytest.mark.parametrize("odd", [None, "1", float("nan"), np.arange(2), [1]])
def test_events_with_an_odd_seq_num_come_once_if_it_can_be_compared(odd: Any) -> None:
    run = begun()
    for _, doc in (docs := events(run, range(3))):
        doc["seq_num"] = odd
    taker = emitted(run.docs[:2], docs, docs)
    comparable = odd is None or odd in ("1", [1]) if not isinstance(odd, np.ndarray) else False
    assert taker.column() == ([0, 1, 2] if comparable else [0, 1, 2] * 2)


def test_another_document_of_the_same_uid_is_not_the_same_document() -> None:
    run = begun()
    name, doc = run.docs[1]
    later = {**doc, "configuration": {"device": {"data": {"gain": 2}}}}
    taker = emitted(run.docs, [(name, later)], [(name, later)])
    assert [kind for kind, _ in taker.taken] == ["start", "descriptor", "descriptor"]


def test_what_was_refused_may_come_again() -> None:
    run = begun()
    docs = events(run, range(3))
    taker = emitted(run.docs[:2])
    taker.refuses = [docs[1][1], page_of(docs)[1]]
    for pair in (docs[1], page_of(docs)):
        with pytest.raises(InvalidDocument):
            taker.emit([pair])
    taker.refuses = []
    taker.emit([*docs, *docs])
    assert taker.column() == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 3])
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(arrivals, "FULL", 2 * 100)
    run = begun()
    docs = events(run, range(600))
    pages = [page_of(docs[i : i + size]) if size > 1 else docs[i] for i in range(0, 600, size)]
    taker = emitted(run.docs[:2], pages)
    (stream,) = taker.arrivals._streams.values()
    assert len(stream.events.newer) + len(stream.events._older) <= 2 * (200 + size)
    taker.emit(docs[500:])
    assert taker.column() == [*range(600)], "as many are known at least"
    taker.emit(docs[:1])
    assert taker.column() == [*range(600), 0], "that was long ago"
    assert taker.arrivals.remarks({"num_events": {"primary": 601}})[1:] == []


def test_batching_changes_nothing() -> None:
    run = begun()
    docs = events(run, [*range(30)])
    again = [*docs[:20], *docs[10:], *docs[5:15]]
    expected = emitted(run.docs[:2], again).column()
    for size in (1, 2, 7, 50):
        batches = itertools.batched(again, size) if hasattr(itertools, "batched") else ()
        chunks = batches or (again[i : i + size] for i in range(0, len(again), size))
        assert emitted(run.docs[:2], [page_of(chunk) for chunk in chunks]).column() == expected


# -- what did not come ----------------------------------------------------------------------------


def remarks(docs: Iterable[Pair], num_events: Any, **stop: Any) -> list[str]:
    return emitted(docs).arrivals.remarks({"num_events": num_events, **stop})


def test_streams_that_lack_events_are_named() -> None:
    run = scalar_run(events=5)
    docs = [*run.docs[:3], *run.docs[4:]]
    (note,) = remarks(docs, {"primary": 5, "baseline": np.int64(2), "empty": 0})
    assert "stream 'primary' lacks 1 of 5" in note
    assert "stream 'baseline' lacks 2 of 2" in note
    assert "empty" not in note


def test_events_of_pages_count_and_what_comes_twice_does_not() -> None:
    run = begun()
    docs = events(run, range(6))
    sent = [*run.docs[:2], page_of(docs[:3]), docs[3], docs[3]]
    assert any("lacks 2 of 6" in note for note in remarks(sent, {"primary": 6}))
    assert not any("lacks" in note for note in remarks(sent, {"primary": 4}))


@pytest.mark.parametrize(
    "odd", [None, "many", 5, [5], {"primary": None}, {"primary": "9"}, {"primary": True}, {5: "x"}]
)
def test_odd_counts_tell_nothing(odd: Any) -> None:
    assert remarks(scalar_run(events=0).docs[:-1], odd) == []


def test_no_counts_tell_nothing() -> None:
    assert emitted(scalar_run().docs[:-1]).arrivals.remarks({}) == []


def test_a_stop_document_that_was_made_tells_nothing() -> None:
    run = scalar_run()
    stop: Document = interrupted_stop(run.uid, "The end.", {"primary": 7})
    assert emitted(run.docs[:-1]).arrivals.remarks(stop) == []


@pytest.mark.parametrize(("rows", "lacks"), [((2, 2), 0), ((2, 1), 2), ((1, 0), 2)])
def test_rows_in_files_count_where_no_event_came(rows: tuple[int, int], lacks: int) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("main", {"a": STREAM, "b": STREAM})
    resources = [run.stream_resource(key, f"file://localhost/{key}.h5") for key in "ab"]
    for resource, count in zip(resources, rows, strict=True):
        for n in range(count):
            run.stream_datum("main", resource, 2 * n, 2 * n + 2)
    found = remarks(run.docs, {"main": 4})
    assert [f"lacks {lacks} of 4" in note for note in found] == [True] * bool(lacks)


def test_an_event_that_was_refused_did_come() -> None:
    run = begun()
    docs = events(run, range(2))
    taker = emitted(run.docs[:2], docs[:1])
    taker.refuses = [docs[1][1]]
    with pytest.raises(InvalidDocument):
        taker.emit(docs[1:])
    assert taker.arrivals.remarks({"num_events": {"primary": 2}}) == []
