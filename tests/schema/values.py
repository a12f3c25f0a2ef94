"""Values as devices send them, and what they may become."""

from __future__ import annotations

import numpy as np
from faults import LONG
from hypothesis import settings
from hypothesis import strategies as st

quick = settings(max_examples=1000 if LONG else 60, deadline=None)

EDGES = [
    sign * (2**power + offset)
    for power in (7, 8, 15, 16, 24, 31, 32, 53, 63, 64, 70)
    for offset in (-1, 0, 1)
    for sign in (1, -1)
]
"""Integers about the limits of the types."""

whole = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from(EDGES))
fractions = st.one_of(
    st.floats(width=64), st.floats(width=32), st.sampled_from(EDGES).map(float), st.just(0.1)
)
imaginary = st.builds(complex, st.integers(-2, 2), st.sampled_from([0.0, 0.0, 1.5]))
numbers = st.one_of(whole, fractions)
any_number = st.one_of(numbers, imaginary)

NUMERIC = [np.dtype(name) for name in ("?", "i1", "u1", "i4", "u4", "i8", "u8", "f4", "f8")]
numeric_types = st.sampled_from(NUMERIC)
any_numeric_types = st.sampled_from([*NUMERIC, np.dtype("f2"), np.dtype("c8"), np.dtype("c16")])


def equal(a, b):
    """Return True if two plain values are equal, with NaN equal to NaN."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    numbers = isinstance(a, float | complex) and isinstance(b, float | complex)
    return bool(a == b) or (numbers and a != a and b != b)


def in_batches(values, sizes):
    """Split a list into batches of these sizes, and one of what is left."""
    start = 0
    for size in sizes:
        if values[start : start + size]:
            yield start, values[start : start + size]
        start += size
    if values[start:]:
        yield start, values[start:]


batchings = st.lists(st.integers(1, 3), max_size=4)


@st.composite
def arrays(draw, dtypes=any_numeric_types, max_size=6):
    """Arrays of numbers of one of the types, with one dimension."""
    dtype = draw(dtypes)
    elements = {"b": st.booleans(), "c": any_number, "f": numbers}.get(dtype.kind)
    if elements is None:
        info = np.iinfo(dtype)
        edges = [edge for edge in EDGES if info.min <= edge <= info.max]
        elements = st.one_of(st.integers(int(info.min), int(info.max)), st.sampled_from(edges))
    with np.errstate(over="ignore"):
        return np.array(draw(st.lists(elements, max_size=max_size)), dtype=object).astype(dtype)
