from __future__ import annotations

import fractions
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.widening import TypeRequirements, all_fit, fits

from .values import any_number, any_numeric_types, arrays, numbers, numeric_types, quick, whole


def exactly(value, dtype):
    """Return True if numpy gives the number back exactly from an array of the type."""
    try:
        with np.errstate(all="ignore"):
            back = np.array([value], dtype=object).astype(dtype)[0].item()
    except (OverflowError, TypeError, ValueError):
        return False
    parts = [(value.real, back.real), (value.imag, back.imag)]
    if any(isinstance(part, float) and math.isnan(part) for part, _ in parts):
        return all(a == b or (a != a and b != b) for a, b in parts)
    if any(isinstance(p, float) and math.isinf(p) for pair in parts for p in pair):
        return all(a == b for a, b in parts)
    return all(fractions.Fraction(a) == fractions.Fraction(b) for a, b in parts)


@quick
@given(value=any_number, dtype=any_numeric_types)
def test_a_number_fits_a_type_that_gives_it_back(value, dtype):
    if isinstance(value, complex) and dtype.kind != "c":
        expected = value.imag == 0 and exactly(value.real, dtype)
    elif dtype.kind == "b":  # of which numpy makes True of anything
        expected = value in (0, 1)
    elif dtype.kind in "iu" and isinstance(value, float):  # of which numpy cuts off what is behind
        expected = math.isfinite(value) and value == int(value) and exactly(int(value), dtype)
    else:
        expected = exactly(value, dtype)
    assert fits(value, dtype) == expected


@quick
@given(values=arrays(), dtype=any_numeric_types)
def test_an_array_fits_a_type_if_each_of_its_numbers_does(values, dtype):
    assert all_fit(values, dtype) == all(fits(value, dtype) for value in values.tolist())


@pytest.mark.parametrize(
    ("values", "kind", "dtype", "expected"),
    [
        ([2.0**63], "f8", "i8", False),
        ([-(2.0**63)], "f8", "i8", True),
        ([2.0**64], "f8", "u8", False),
        ([255.0, 0.0], "f8", "u1", True),
        ([-1.0], "f8", "u1", False),
        ([-math.inf], "f2", "i4", False),
        ([math.nan], "f8", "i8", False),
        ([math.nan, math.inf], "f8", "f4", True),
        ([2**11], "i4", "f2", True),
        ([2**11 + 1], "i4", "f2", False),
        ([-(2**31)], "i4", "f2", False),
        ([2**24 + 1], "i4", "f4", False),
        ([2**24 + 2], "i4", "f4", True),
        ([2**53 + 1], "i8", "f8", False),
        ([2**63 - 1], "i8", "f8", False),
        ([2**64 - 1], "u8", "f8", False),
        ([2**63], "u8", "f8", True),
        ([2**24 + 1], "i4", "c8", False),
        ([1 + 0.1j], "c16", "c8", False),
        ([1 + 0j], "c16", "i8", True),
        ([1j], "c16", "f8", False),
        ([complex(math.nan, 0.1)], "c16", "c8", False),
    ],
)
def test_arrays_at_the_limits_of_types(values, kind, dtype, expected):
    assert all_fit(np.array(values, kind), np.dtype(dtype)) == expected


def required(values, declared):
    requirements = TypeRequirements()
    for value in values:
        requirements.add(value, declared)
    return requirements.resolve(declared)


@quick
@given(data=st.data(), declared=any_numeric_types)
def test_the_type_depends_on_the_set_of_values_not_on_their_order(data, declared):
    values = data.draw(st.lists(any_number, min_size=1, max_size=6))
    shuffled = data.draw(st.permutations(values))
    assert required(values, declared) == required(shuffled, declared)
    assert required([*values, *values], declared) == required(values, declared)


@quick
@given(values=arrays(), declared=any_numeric_types, split=st.integers(0, 6))
def test_the_type_is_the_same_for_an_array_and_for_its_numbers_one_by_one(values, declared, split):
    requirements = TypeRequirements()
    for part in (values[split:], values[:split]):
        requirements.add_array(part, declared)
    assert requirements.resolve(declared) == required(values.tolist(), declared)


@quick
@given(declared=numeric_types, values=st.lists(numbers, max_size=6))
def test_the_type_is_the_declared_one_or_the_first_that_holds_all_numbers(declared, values):
    found = required(values, declared)
    if all(fits(value, declared) for value in values):
        assert found == declared
        return
    exact = [
        dtype
        for dtype in map(np.dtype, ("i8", "u8", "f8"))
        if all(fits(value, dtype) for value in values)
        and (dtype.kind == "f" or declared.kind != "f")
    ]
    if not exact:
        assert found == np.dtype("f8")
    else:
        assert found == exact[0]


@quick
@given(values=st.lists(whole, min_size=1, max_size=4), imag=st.floats(1, 2))
def test_an_imaginary_part_makes_the_type_complex(values, imag):
    assert required([*values, complex(0, imag)], np.dtype("i4")) == np.dtype("c16")


@pytest.mark.parametrize(
    ("declared", "values", "expected"),
    [
        ("u1", [255], "u1"),
        ("u1", [256], "i8"),
        ("i4", [2**63], "u8"),
        ("i4", [2**63, -1], "f8"),
        ("f4", [0.1], "f8"),
        ("?", [2], "i8"),
        ("c8", [0.1], "c16"),
        ("i8", [1.0], "i8"),
        ("i8", [math.nan], "f8"),
    ],
)
def test_types_that_numbers_ask_for(declared, values, expected):
    assert required(values, np.dtype(declared)) == np.dtype(expected)
