from __future__ import annotations

import json
from enum import Enum, IntEnum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.plain_values import json_text, plain_scalar

from .values import equal, quick


class Color(str, Enum):  # noqa: UP042  # as devices define them
    RED = "red"


class Level(IntEnum):
    HIGH = 2


class Wrapped(Enum):
    ONE = np.float32(1.5)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.array(3), 3),
        (np.array("a"), "a"),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), b"a"),
        (np.complex64(1 + 2j), 1 + 2j),
        (Color.RED, "red"),
        (Level.HIGH, 2),
        (Wrapped.ONE, 1.5),
        (None, None),
        (True, True),
        ("a", "a"),
        (1.5, 1.5),
    ],
)
def test_scalars_without_what_wraps_them(value, plain):
    found = plain_scalar(value)
    assert found == plain
    assert type(found) is type(plain)


@pytest.mark.parametrize(
    "value", [[1], {"a": 1}, np.arange(2), np.datetime64("2020-01-01"), np.array([1.5])], ids=repr
)
def test_other_values_are_left_as_they_are(value):
    assert plain_scalar(value) is value


nested = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
).filter(lambda value: not isinstance(value, str))


@quick
@given(value=nested)
def test_json_text_is_read_back_as_the_value(value):
    back = json.loads(json_text(value))
    assert equal(back, value) or repr(back) == repr(value)  # NaN within a dict


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (b"a", "a"),
        (b"\xff", "/w=="),
        (np.arange(2), "[0, 1]"),
        ({"a": np.float64(0.5)}, '{"a": 0.5}'),
        ([b"a", 1 + 2j], '["a", "(1+2j)"]'),
        ({(1, 2): 3}, "{(1, 2): 3}"),
    ],
)
def test_what_json_lacks_is_text_all_the_same(value, text):
    assert json_text(value) == text


def test_a_value_that_contains_itself_is_text():
    circle = [1]
    circle.append(circle)
    assert json_text(circle) == "[1, [...]]"
