from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
from array import array
from collections import OrderedDict, UserDict, UserList, UserString, deque, namedtuple
from pathlib import PurePosixPath
from types import MappingProxyType

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.json_values import MAX_DEPTH, safe_repr, to_json

from .values import quick

Point = namedtuple("Point", "x y")


class Color(str, enum.Enum):  # noqa: UP042  # as devices define them
    RED = "red"


class Axis(enum.Enum):
    X = 1


class Broken:
    def __repr__(self):
        raise RuntimeError

    __str__ = __repr__


exact_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),
)
clean_keys = st.text("ab_\u2400é", max_size=2)
odd_leaves = st.one_of(
    exact_leaves,
    st.floats(),
    st.integers(),
    st.binary(max_size=3),
    st.text(st.characters(exclude_categories=()), max_size=3),
    st.sets(st.integers(0, 3)),
    st.dates(),
    st.complex_numbers(),
    st.sampled_from([Color.RED, Axis.X, np.float32(0.1), np.longdouble("0.1")]),
    st.sampled_from([np.arange(3), np.array([b"a"]), np.array(1j), np.array([None, {1: 2}])]),
    st.builds(decimal.Decimal),
)
odd_keys = st.one_of(
    clean_keys,
    st.integers(0, 3),
    st.sampled_from(["0", "1", "\0", "\u2400", "\udc80", "\\udc80", None, "None", b"a", Axis.X]),
    st.sampled_from([1.5, (1, 2), np.str_("a"), Color.RED]),
)


def documents(leaves, keys):
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


@quick
@given(value=documents(exact_leaves, clean_keys))
def test_what_json_holds_stays_as_it_is_without_a_note(value):
    plain, notes = to_json(value)
    assert plain == value
    assert notes == []
    assert orjson.loads(orjson.dumps(plain)) == value


@quick
@given(value=documents(odd_leaves, odd_keys))
def test_anything_becomes_what_tiled_and_postgresql_can_hold(value):
    plain, _ = to_json(value)
    text = orjson.dumps(plain)
    assert b"\\u0000" not in text
    assert orjson.loads(text) == json.loads(json.dumps(plain, allow_nan=False))
    again, notes = to_json(plain)
    assert again == plain
    assert notes == []


@quick
@given(value=documents(odd_leaves, odd_keys))
def test_no_key_of_a_mapping_takes_the_place_of_another(value):
    def keys(value):
        if isinstance(value, dict):
            return len(value) + sum(map(keys, value.values()))
        return sum(map(keys, value)) if isinstance(value, list | tuple) else 0

    value = {"before": value, "after": 0}
    arrays_hold_one = keys(to_json(value)[0]) - keys(value)
    assert arrays_hold_one >= 0


def test_every_place_that_is_not_exact_has_a_note():
    value = {
        "a": [math.nan, math.inf],
        "b": {"c": b"text", "d": b"\xff"},
        "e": 2**70,
        3: "x",
        "f": {1},
        "g": datetime.date(2020, 1, 2),
        "h": 1j,
        "i": "a\0b",
    }
    plain, notes = to_json(value)
    assert plain == {
        "a": ["NaN", "Infinity"],
        "b": {"c": "text", "d": "/w=="},
        "e": str(2**70),
        "3": "x",
        "f": [1],
        "g": "2020-01-02",
        "h": "1j",
        "i": "a\u2400b",
    }
    assert notes == [
        "a[0]: JSON has no NaN; it is stored as the text 'NaN'.",
        "a[1]: JSON has no Infinity; it is stored as the text 'Infinity'.",
        "b.c: bytes are stored as UTF-8 text.",
        "b.d: bytes are stored as base64 text.",
        f"e: the integer {2**70} is beyond 64 bit and is stored as text.",
        "3: the key 3 is stored as text.",
        "f: a set is stored as a list.",
        "g: datetime.date(2020, 1, 2) is stored as text.",
        "h: complex has no JSON form; it is stored as its repr.",
        "i: 'a\\x00b' has characters that JSON storage cannot hold.",
    ]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(0.5), 0.5),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.longdouble(0.5), 0.5),
        (np.array([0.5, 2], np.longdouble), [0.5, 2.0]),
        ((1, 2), [1, 2]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (MappingProxyType({"a": [MappingProxyType({"b": 1})]}), {"a": [{"b": 1}]}),
        (deque([1, MappingProxyType({})]), [1, {}]),
        (UserList([1, UserString("a")]), [1, "a"]),
        (range(3), [0, 1, 2]),
        (array("d", [0.5]), [0.5]),
        (PurePosixPath("/data/a.h5"), "/data/a.h5"),
        (Color.RED, "red"),
        (Axis.X, 1),
        ({Color.RED: 1, np.str_("b"): 2}, {"red": 1, "b": 2}),
    ],
    ids=repr,
)
def test_values_in_disguise_are_exact(value, plain):
    found, notes = to_json(value)
    assert found == plain
    assert notes == []
    assert orjson.dumps(found) == orjson.dumps(plain)  # and of plain types


def test_a_long_double_that_no_float_equals_is_noted():
    third = np.longdouble(1) / 3
    if third == float(third):
        pytest.skip("long double is float64 here")
    assert to_json({"x": third}) == (
        {"x": float(third)},
        [f"x: {third.dtype} is stored as the nearest float64."],
    )


def test_keys_that_are_equal_as_text_are_told_apart():
    assert to_json({1: "a", "1": "b", "1_": "c"}) == (
        {"1__": "a", "1": "b", "1_": "c"},
        ["1: the key 1 is stored as text.", "1: another key is '1'; this one is '1__'."],
    )


def test_a_value_that_contains_itself_ends_where_it_begins_again():
    circle = {"a": 1}
    circle["self"] = [circle]
    plain, notes = to_json({"x": circle, "y": circle["a"]})
    assert plain == {"x": {"a": 1, "self": [repr(circle)]}, "y": 1}
    assert notes == ["x.self[0]: dict contains itself; it is stored as its repr."]


def test_a_value_that_is_there_twice_is_no_circle():
    shared = [1]
    assert to_json([shared, shared]) == ([[1], [1]], [])


def test_a_value_that_is_too_deep_for_orjson_is_text_below():
    deep = []
    for _ in range(3 * MAX_DEPTH):
        deep = [deep]
    plain, notes = to_json({"x": deep})
    orjson.dumps({"data": {"attributes": {"metadata": {"start": plain}}}})
    assert [note.split(": ", 1)[1] for note in notes] == [
        "list is nested too deeply; it is stored as its repr."
    ]


def test_an_object_whose_repr_fails_costs_its_value_only():
    plain, notes = to_json({"x": Broken(), "y": 1, Broken(): 2})
    assert plain["y"] == 1
    assert "Broken object at" in plain["x"]
    assert len(plain) == 3
    assert len(notes) == 2
    assert "Broken object at" in safe_repr(Broken())
