"""Descriptors are held against the schema of the event model; what was valid once is so again."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from documents import RunBuilder, data_key

from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.normalizer import upgrade as vintage
from bluesky_tiled_writer.normalizer.upgrade import validate


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vintage, "_valid", set())


def descriptor(**data_keys: Any) -> dict[str, Any]:
    keys = {"x": data_key("number"), **data_keys}
    gain = {"data": {"gain": 1}, "timestamps": {"gain": 1.0}, "data_keys": {"gain": keys["x"]}}
    return RunBuilder().descriptor("primary", keys, configuration={"det": gain})[1]


class Counting:
    """The validator, and the data keys that it was shown."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator
        self.seen: list[str] = []

    def validate(self, doc: Any) -> None:
        devices = doc["configuration"].values()
        self.seen += [*doc["data_keys"], *(key for d in devices for key in d["data_keys"])]
        self._validator.validate(doc)


@pytest.fixture
def validator(monkeypatch: pytest.MonkeyPatch) -> Counting:
    name = vintage.DocumentNames.descriptor
    counting = Counting(vintage.schema_validators[name])
    monkeypatch.setitem(vintage.schema_validators, name, counting)
    return counting


def test_a_data_key_is_looked_at_once(validator):
    validate("descriptor", descriptor())
    assert validator.seen == ["x", "gain"]
    validate("descriptor", descriptor(y=data_key("string")))
    assert validator.seen == ["x", "gain", "y"]


def test_a_document_is_left_as_it_is():
    doc = descriptor()
    before = copy.deepcopy(doc)
    for _ in range(2):
        validate("descriptor", doc)
        assert doc == before


def test_one_that_differs_is_looked_at(validator):
    validate("descriptor", descriptor())
    other = data_key("number") | {"units": "mm"}
    validate("descriptor", descriptor(x=other))
    assert validator.seen == ["x", "gain", "x", "gain"]


@pytest.mark.parametrize(
    "wrong", [{"dtype": "complex"}, {"shape": "none"}, {"source": 1}, {"precision": True}]
)
def test_what_is_wrong_is_so_each_time_and_beside_what_is_known(wrong):
    validate("descriptor", descriptor())
    doc = descriptor(bad=data_key("number") | wrong)
    if wrong == {"precision": True}:  # of JSON, not of Python: 1 was valid before
        validate("descriptor", descriptor(bad=data_key("number") | {"precision": 1}))
    for _ in range(3):
        with pytest.raises(InvalidDocument, match=r"data_keys\.bad"):
            validate("descriptor", doc)


def test_a_name_that_is_not_allowed_is_refused_though_its_data_key_is_known():
    validate("descriptor", descriptor())
    for _ in range(2):
        with pytest.raises(InvalidDocument, match=r"a\.b"):
            validate("descriptor", descriptor(**{"a.b": data_key("number")}))


def test_values_that_json_does_not_have_are_looked_at_each_time(validator):
    limits = {"control": {"low": np.float64(0), "high": np.float64(1)}}
    for _ in range(2):
        validate("descriptor", descriptor(x=data_key("number") | {"limits": limits}))
    assert validator.seen == ["x", "gain"] * 2


def test_no_more_is_remembered_than_that(monkeypatch):
    monkeypatch.setattr(vintage, "MOST_KNOWN", 10)
    for i in range(50):
        validate("descriptor", descriptor(**{f"key_{i}": data_key("number")}))
    assert len(vintage._valid) <= 13
