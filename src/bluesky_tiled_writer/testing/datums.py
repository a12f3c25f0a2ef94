"""StreamResources and StreamDatums, fed to a consolidator in different batchings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Datum = Mapping[str, Any]
Batching = Callable[[Sequence[Datum]], list[Datum]]
"""Cuts the same rows into other StreamDatums."""


class Feed:
    """The documents of one external key.

    Parameters
    ----------
    documents : sequence of (str, dict)
        Descriptors, StreamResources and StreamDatums; others are ignored.
    key : str
        The data key; may be empty if there are StreamResources of one key only.
    factory : callable
        Makes a consolidator of the first StreamResource and a descriptor.

    Raises
    ------
    ValueError
        If the documents have no StreamDatum of the key, or leave open which key is meant.
    """

    def __init__(
        self,
        documents: Sequence[tuple[str, Mapping[str, Any]]],
        key: str,
        factory: Callable[[Any, Any], Any],
    ) -> None:
        resources = [doc for name, doc in documents if name == "stream_resource"]
        keys = {str(doc.get("data_key")) for doc in resources}
        if not key and len(keys) != 1:
            raise ValueError(f"Say which data_key is meant: there are files of {sorted(keys)}.")
        self.key = key or keys.pop()
        self.documents = [doc for _, doc in documents]
        self._factory = factory
        self._resources = {r["uid"]: r for r in resources if r.get("data_key") == self.key}
        self._data_keys: dict[str, Any] = {}
        for name, doc in documents:
            if name == "descriptor":
                self._data_keys.update(doc.get("data_keys") or {})
        self.datums = [
            doc
            for name, doc in documents
            if name == "stream_datum" and doc.get("stream_resource") in self._resources
        ]
        if not self.datums:
            raise ValueError(f"There is no stream_datum of {self.key!r} in the documents.")

    def steps(self, datums: Sequence[Datum]) -> Iterator[tuple[Any, Any]]:
        """Feed datums, each after its StreamResource; yield the consolidator and each patch."""
        consolidator: Any = None
        taken: set[Any] = set()
        for datum in datums:
            uid = datum["stream_resource"]
            if consolidator is None:
                descriptor = {"data_keys": self._data_keys}
                consolidator = self._factory(self._resources[uid], descriptor)
            elif uid not in taken:
                consolidator.update_from_stream_resource(self._resources[uid])
            taken.add(uid)
            yield consolidator, consolidator.consume_stream_datum(datum)

    def consolidator(self, cut: Batching | None = None) -> Any:
        """Return a consolidator that has taken all documents, in a batching of choice."""
        datums = cut(self.datums) if cut else self.datums
        return [consolidator for consolidator, _ in self.steps(datums)][-1]


def batchings() -> list[tuple[str, Batching]]:
    """Return ways to cut the same rows into StreamDatums, each with a name for messages."""
    return [
        ("with the datums as they are given", list),
        ("with a datum for each row", lambda datums: _cut(datums, 1)),
        ("with a datum for every two rows", lambda datums: _cut(datums, 2)),
        ("with as few datums as possible", _merged),
    ]


def _cut(datums: Sequence[Datum], size: int) -> list[Datum]:
    return [piece for datum in _merged(datums) for piece in _pieces(datum, size)]


def _pieces(datum: Datum, size: int) -> Iterator[Datum]:
    start, stop = datum["indices"]["start"], datum["indices"]["stop"]
    first, last = datum["seq_nums"]["start"], datum["seq_nums"]["stop"]
    if start == stop:
        yield datum
    for begin in range(start, stop, size):
        end = min(begin + size, stop)
        # Rows beyond the last sequence number are those that no event stands for.
        seq_nums = [min(first + index - start, last) for index in (begin, end)]
        yield {
            **datum,
            "uid": f"{datum.get('uid')}-{begin}",
            "indices": {"start": begin, "stop": end},
            "seq_nums": {"start": seq_nums[0], "stop": seq_nums[1]},
        }


def _merged(datums: Sequence[Datum]) -> list[Datum]:
    """Join datums of one StreamResource and descriptor that follow on each other."""
    merged: list[Datum] = []
    for datum in datums:
        if merged and _follows(merged[-1], datum):
            last = merged.pop()
            indices = {"start": last["indices"]["start"], "stop": datum["indices"]["stop"]}
            seq_nums = {"start": last["seq_nums"]["start"], "stop": datum["seq_nums"]["stop"]}
            datum = {**last, "indices": indices, "seq_nums": seq_nums}
        merged.append(datum)
    return merged


def _follows(last: Datum, datum: Datum) -> bool:
    same = all(last.get(name) == datum.get(name) for name in ("stream_resource", "descriptor"))
    full = _length(last["indices"]) == _length(last["seq_nums"])
    ends = all(last[name]["stop"] == datum[name]["start"] for name in ("indices", "seq_nums"))
    return same and full and ends


def _length(span: Mapping[str, int]) -> int:
    return span["stop"] - span["start"]
