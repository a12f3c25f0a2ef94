"""The checks of normalizers find what they are there for, and say where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from detector_files import AD_TIFF, legacy_run
from documents import data_key, scalar_run

from bluesky_tiled_writer import RunNormalizer
from bluesky_tiled_writer.testing import (
    NormalizerCase,
    NormalizerTests,
    check_expected,
    check_inputs_unchanged,
    check_normalizer,
    check_nothing_lost,
    check_order,
    check_pages,
    check_schemas,
    check_writer_takes,
)


class ChangesInputs(RunNormalizer):
    def start(self, doc: Any) -> None:
        doc["scan_id"] = 1
        super().start(doc)


class ChangesValues(RunNormalizer):
    def event(self, doc: Any) -> None:
        doc["data"]["x"] += 1
        super().event(doc)


class NoStop(RunNormalizer):
    def stop(self, doc: Any) -> None:
        pass


class StopsEarly(RunNormalizer):
    def stop(self, doc: Any) -> None:
        super().stop(doc)
        self.emit("event", {})


class NoDescriptor(RunNormalizer):
    def descriptor(self, doc: Any) -> None:
        pass


class RenamesDescriptor(RunNormalizer):
    def descriptor(self, doc: Any) -> None:
        super().descriptor({**doc, "uid": "another"})

    def event(self, doc: Any) -> None:
        super().event({**doc, "descriptor": "another"})


class LosesEvents(RunNormalizer):
    def event(self, doc: Any) -> None:
        if doc["seq_num"] != 2:
            super().event(doc)


class RepeatsEvents(RunNormalizer):
    def event(self, doc: Any) -> None:
        super().event(doc)
        if doc["seq_num"] == 2:
            super().event(doc)


class Reorders(RunNormalizer):
    held: Any = None

    def event(self, doc: Any) -> None:
        if doc["seq_num"] == 1:
            self.held = doc
        else:
            super().event(doc)
            if self.held:
                super().event(self.held)
            self.held = None


class LosesAKey(RunNormalizer):
    def descriptor(self, doc: Any) -> None:
        keys = {key: spec for key, spec in doc["data_keys"].items() if key != "n"}
        super().descriptor({**doc, "data_keys": keys})

    def event(self, doc: Any) -> None:
        data = {key: value for key, value in doc["data"].items() if key != "n"}
        super().event({**doc, "data": data})


class AddsAStream(RunNormalizer):
    def stop(self, doc: Any) -> None:
        stream = {"uid": "new", "run_start": "", "time": 0, "name": "more", "data_keys": {}}
        self.emit("descriptor", stream)
        super().stop(doc)


class ForgetsPages(RunNormalizer):
    """As a class that passes pages on beside what it does to events."""

    def event(self, doc: Any) -> None:
        super().event({**doc, "data": {**doc["data"], "x": 0.0}})

    def event_page(self, doc: Any) -> None:
        self.emit("event_page", doc)


class BreaksTheSchema(RunNormalizer):
    def start(self, doc: Any) -> None:
        super().start({**doc, "time": "noon"})


FINDS: list[tuple[Callable[[NormalizerCase], object], type, str]] = [
    (check_inputs_unchanged, ChangesInputs, "changed the start document"),
    (check_inputs_unchanged, ChangesValues, "changed the event document"),
    (check_order, NoStop, "1 stop documents were given, and 0"),
    (check_order, StopsEarly, "stop last"),
    (check_writer_takes, NoDescriptor, "refuses an emitted event"),
    (check_nothing_lost, RenamesDescriptor, "descriptor .* of the stream 'primary' was lost"),
    (check_nothing_lost, LosesEvents, "'primary': the events"),
    (check_nothing_lost, RepeatsEvents, "'primary': the events"),
    (check_nothing_lost, Reorders, "in this order"),
    (check_nothing_lost, LosesAKey, "the data key 'n' was lost"),
    (check_nothing_lost, AddsAStream, r"\['more'\] were not in the given"),
    (check_pages, ForgetsPages, "but in a page as"),
    (check_schemas, BreaksTheSchema, "start document .* time: 'noon'"),
]


@pytest.mark.parametrize(("check", "normalizer", "words"), FINDS)
def test_a_check_finds_its_defect(
    check: Callable[[NormalizerCase], object], normalizer: type, words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        check(NormalizerCase(scalar_run().docs, normalizer))
    # None of it in what is right.
    check(NormalizerCase(scalar_run().docs))


def test_a_key_or_stream_may_be_left_out_or_added_on_purpose() -> None:
    check_nothing_lost(NormalizerCase(scalar_run().docs, LosesAKey, left_out=["n"]))
    check_nothing_lost(NormalizerCase(scalar_run().docs, NoDescriptor, left_out=["primary"]))
    check_nothing_lost(NormalizerCase(scalar_run().docs, AddsAStream, added=["more"]))


@pytest.mark.parametrize("change", ["lost", "repeated", "reordered"])
def test_external_rows_must_come_out_once_and_in_order(change: str) -> None:
    class Changes(RunNormalizer):
        last: Any = None

        def emit(self, name: Any, doc: Any) -> None:
            if name != "stream_datum":
                super().emit(name, doc)
            elif change == "lost" and doc["indices"]["start"] == 2:
                pass
            elif change == "reordered" and doc["indices"]["start"] == 2:
                self.last = doc
            else:
                super().emit(name, doc)
                if change == "repeated" and doc["indices"]["start"] == 2:
                    super().emit(name, doc)
                if self.last:
                    super().emit(name, self.last)
                    self.last = None

    docs = legacy_run("AD_TIFF", Path("/data"), late=False, paged=False, **AD_TIFF).docs
    with pytest.raises(AssertionError, match="'img' of stream 'primary': its rows"):
        check_nothing_lost(NormalizerCase(docs, Changes))
    check_nothing_lost(NormalizerCase(docs))


def test_expected_documents_are_compared() -> None:
    docs = scalar_run().docs
    out = NormalizerCase(docs).run()
    check_expected(NormalizerCase(docs, expected=out))
    with pytest.raises(AssertionError, match="emitted documents are"):
        check_expected(NormalizerCase(docs, expected=out[:-1]))
    with pytest.raises(AssertionError, match="A stop document is"):
        check_expected(NormalizerCase(docs, expected=[*out[:-1], ("stop", {})]))


def test_all_checks_at_once_return_the_documents() -> None:
    docs = scalar_run().docs
    patch = {"descriptor": lambda doc: {**doc, "data_keys": {**doc["data_keys"], "z": data_key()}}}
    case = NormalizerCase(docs, patches=patch)
    assert [name for name, _ in check_normalizer(case, schemas=True)] == [name for name, _ in docs]
    with pytest.raises(AssertionError):
        check_normalizer(NormalizerCase(docs, LosesEvents))
    with pytest.raises(AssertionError):
        check_normalizer(NormalizerCase(docs, BreaksTheSchema), schemas=True)
    check_normalizer(NormalizerCase(docs, BreaksTheSchema))


def test_the_base_class_needs_a_case() -> None:
    with pytest.raises(NotImplementedError, match="make_case"):
        NormalizerTests().test_order()


def test_documents_that_cannot_be_copied_are_checked_too() -> None:
    run = scalar_run(sample=MappingProxyType({"layers": [MappingProxyType({"nm": 3})]}))
    check_normalizer(NormalizerCase(run.docs, RunNormalizer))
