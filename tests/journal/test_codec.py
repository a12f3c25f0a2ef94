"""Encoding and decoding documents: every value comes back, or as a plainer one of its value."""

from __future__ import annotations

import collections.abc
import contextlib
import datetime
import enum
import math
import pathlib
import types
import zoneinfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bluesky_tiled_writer.journal import codec
from bluesky_tiled_writer.journal.codec import CodecError, Encoder, Foreign, decode
from bluesky_tiled_writer.journal.dtypes import describe, to_dtype
from bluesky_tiled_writer.schema.json_values import to_json


def round_trip(value):
    return decode(Encoder().encode(value))


def assert_same(got, given):
    """True if both are equal, of the same type, in every element; NaN equals itself."""
    assert type(got) is type(given)
    if isinstance(given, np.ndarray | np.generic):
        assert got.dtype == given.dtype
        assert got.dtype.str == given.dtype.str
        assert got.shape == given.shape
        if given.dtype.hasobject:
            for one, other in zip(got.ravel().tolist(), given.ravel().tolist(), strict=True):
                assert_same(one, other)
        else:
            assert got.tobytes() == given.tobytes()
    elif isinstance(given, dict):
        assert len(got) == len(given)
        for (key, item), (got_key, got_item) in zip(given.items(), got.items(), strict=True):
            assert_same(got_key, key)
            assert_same(got_item, item)
    elif isinstance(given, list | tuple):
        assert len(got) == len(given)
        for one, other in zip(got, given, strict=True):
            assert_same(one, other)
    elif isinstance(given, float) and math.isnan(given):
        assert math.isnan(got)
    else:
        assert got == given
        assert repr(got) == repr(given) or isinstance(given, set | frozenset)


UTC = datetime.UTC
PLAIN = [
    None, True, False, 0, -1, 2**63, 2**64 - 1, -(2**63), 1.5, -0.0, math.nan, math.inf, "", "Å",
    "\0", "lone \ud800 surrogate", b"\x00\xff", [], {}, [1, [2, {"a": None}]], {1: 2, None: 3},
]  # fmt: skip
RARE = [
    2**64, -(2**63) - 1, 10**400, -(10**400), 2**71, -(2**71),
    complex(-0.0, math.inf), (), (1, ("a", [2])),
    {(1, "a"): 2, frozenset({1}): 3}, {1, "a", None}, frozenset(), set(),
    datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 1, 12, 0, 0, 1), datetime.time(1, 2, 3),
    datetime.datetime(2024, 10, 27, 2, 30, fold=1),
    datetime.datetime(2024, 1, 1, tzinfo=UTC),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-3.5))),
    datetime.time(1, tzinfo=UTC, fold=1), datetime.timedelta(-1, 2, 3),
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN + RARE, ids=lambda value: type(value).__name__)
def test_python_values_come_back_exactly(value):
    assert_same(round_trip(value), value)
    assert_same(round_trip({"data": {"key": [value]}}), {"data": {"key": [value]}})


SCALARS = [
    *(np.dtype(code).type(1) for code in "?bBhHiIlLefdgFDG"),
    np.float64(math.nan), np.float32(math.inf), np.complex64(complex(math.nan, -0.0)),
    np.uint64(2**64 - 1), np.int8(-128), np.str_("ab\0"), np.str_(""), np.str_("\ud800"),
    np.bytes_(b"ab\0"), np.bytes_(b""), np.void(b"\x00\x01"), np.datetime64("2024-01-01", "ns"),
    np.datetime64("NaT", "s"), np.datetime64("2024-01-01T00", "25s"), np.timedelta64(3, "D"),
    np.array([(1, 2.5, "x")], dtype=[("a", ">i4"), ("b", "<f8"), ("c", "U2")])[0],
]  # fmt: skip


@pytest.mark.parametrize("value", SCALARS, ids=lambda value: f"{value.dtype}-{value!r}"[:40])
def test_numpy_scalars_come_back_exactly(value):
    assert_same(round_trip([value, {"a": value}]), [value, {"a": value}])


BASES = {np.float64: float, np.str_: str.__str__, np.bytes_: bytes}


def plainer(value):
    """Return what a value in an event is expected to come back as."""
    if isinstance(value, list | tuple):
        return [plainer(item) for item in value]
    if isinstance(value, dict):
        return {key: plainer(item) for key, item in value.items()}
    return BASES.get(type(value), lambda same: same)(value)


@pytest.mark.parametrize("value", PLAIN + RARE + SCALARS, ids=lambda value: type(value).__name__)
def test_values_in_events_come_back_equal(value):
    encoder = Encoder()
    doc = {"data": {"key": value, "list": [value]}, "seq_num": 1}
    try:
        data = encoder.pack_event(["event", doc])
    except UnicodeEncodeError:
        data = encoder.encode(["event", doc])  # as a journal does
        assert_same(decode(data), ["event", doc])
        return
    got = decode(data)
    if isinstance(value, dict) and any(isinstance(key, tuple) for key in value):
        assert dict(got[1])["data"]["key"] == value
        return
    assert_same(got, ["event", plainer(doc)])


STRUCTURED = np.dtype(
    [("a", ">i2"), ("b", [("x", "<f4"), ("y", "U3")]), ("c", "<u8", (2, 3)), (("title", "d"), "?")]
)
OVERLAPPING = np.dtype(
    {"names": ["word", "low"], "formats": ["<u4", "<u2"], "offsets": [0, 0], "itemsize": 12}
)


@pytest.mark.parametrize(
    "dtype",
    [
        "?", "<i8", ">i8", "<u2", ">u2", "<f2", ">f4", "<f8", "<c16", ">c8", "g", "S5", "<U4",
        ">U4", "V3", "<M8[us]", ">M8[ns]", "<m8[D]", "S0", "U0",
        STRUCTURED, OVERLAPPING, np.dtype([("a", "i1"), ("b", "f8")], align=True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3), (1, 1, 1)])
def test_arrays_come_back_exactly(dtype, shape):
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    array = np.ndarray(shape, dtype, buffer=bytearray(b"\1" * size))
    got = round_trip({"data": [array]})["data"][0]
    assert_same(got, array)
    assert got.flags.writeable
    assert got.dtype.isalignedstruct == dtype.isalignedstruct


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4).T,
        np.asfortranarray(np.eye(3)),
        np.arange(10)[::-2],
        np.broadcast_to(np.float32(2), (2, 3)),
        np.array(["a", "longer", "Å\ud800"]),
        np.array([None, {"a": np.arange(2)}, [1], "x", math.nan, 2**80, np.array(5)], dtype=object),
        np.array([[1, "a"], [None, b"b"]], dtype=object),
        np.array(None, dtype=object),
        np.array([], dtype=object),
        np.array([(1, [2], "x"), (2, None, "y")], dtype=[("a", ">i4"), ("b", "O"), ("c", "U1")]),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_of_any_layout_and_of_objects_come_back_exactly(array):
    assert_same(round_trip([array])[0], array)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 2")
def test_arrays_of_text_of_any_length_come_back_exactly():
    array = np.array(["a", "longer"], dtype=np.dtypes.StringDType())
    assert_same(round_trip(array), array)
    with_missing = np.array(["a", None], dtype=np.dtypes.StringDType(na_object=None))
    assert_same(round_trip(with_missing), np.array(["a", None], dtype=object))


def test_masked_arrays_keep_their_mask():
    array = np.ma.masked_array([1, 2, 3], [False, True, False])
    got = round_trip([array, np.ma.masked])
    assert_same(np.ma.getdata(got[0]), np.array([1, 2, 3]))
    assert got[0].mask.tolist() == [False, True, False]
    assert np.ma.is_masked(got[1])


@given(npst.arrays(npst.array_dtypes(allow_subarrays=True), npst.array_shapes(min_dims=0)))
def test_any_structured_array_comes_back_exactly(array):
    assert_same(round_trip(array), array)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
        | st.binary() | st.datetimes() | st.complex_numbers(allow_nan=False)
        | npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, min_side=0)),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    )
)  # fmt: skip
def test_any_nesting_comes_back_exactly(value):
    assert_same(round_trip(value), value)


class Mode(enum.Enum):
    STEP = "step"
    PAIR = (1, np.int8(2))


class Count(int):
    def __repr__(self):
        return "Count"


class Volt(float):
    pass


class Broken(collections.abc.Mapping):
    """Raises from every method, even from repr."""

    def __getitem__(self, key):
        raise RuntimeError

    __iter__ = __len__ = __repr__ = __getitem__


class Label(str):
    __slots__ = ()

    def __str__(self):
        return "not the text"


class Index(enum.IntEnum):
    HUGE = 2**70


class ArrayLike:
    def __array__(self, dtype=None, copy=None):
        return np.array([1.0, 2.0], dtype)


@pytest.mark.parametrize(
    ("value", "plainer"),
    [
        (Mode.STEP, "step"),
        (Mode.PAIR, (1, np.int8(2))),
        (Index.HUGE, 2**70),
        ({Mode.STEP: 1}, {"step": 1}),
        (Count(2**70), 2**70),
        (Volt(1.5), 1.5),
        (Label("text"), "text"),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.namedtuple("Pair", "a b")(1, 2), (1, 2)),
        (types.MappingProxyType({"a": types.MappingProxyType({"b": 1})}), {"a": {"b": 1}}),
        (collections.deque([1, types.MappingProxyType({})]), [1, {}]),
        (collections.UserList([1]), [1]),
        (collections.UserString("text"), "text"),
        (pathlib.PurePosixPath("/data/a.h5"), "/data/a.h5"),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), {"a"}),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (np.array([1, 2]).view(np.recarray), np.array([1, 2])),
        (ArrayLike(), np.array([1.0, 2.0])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_types_become_plainer_ones(value, plainer):
    assert_same(round_trip([value]), [plainer])


def test_a_named_time_zone_becomes_its_offset():
    moment = datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    got = round_trip(moment)
    assert got == moment
    assert got.utcoffset() == datetime.timedelta(hours=2)


def test_an_unknown_object_comes_back_as_its_repr():
    value = object()
    got = round_trip({"a": [value]})["a"][0]
    assert got == Foreign("object", repr(value))
    assert repr(got) == repr(value)
    assert to_json(got)[0] == repr(value)
    assert "Broken object" in repr(round_trip(Broken()))


def test_dtypes_of_other_packages_are_not_mistaken_for_those_of_numpy(monkeypatch):
    """Like bfloat16 of ml_dtypes, which has the name of a void dtype of two bytes."""
    monkeypatch.setattr(codec, "describe", lambda dtype: None if dtype == "f2" else describe(dtype))
    array = np.array([1.5, 2.5], "f2")
    got_array, got_scalar = round_trip([array, array[0]])
    assert_same(got_array, np.array([1.5, 2.5], object))
    assert_same(got_scalar, 1.5)


@pytest.mark.parametrize("dtype", [STRUCTURED, OVERLAPPING], ids=["structured", "overlapping"])
def test_a_described_dtype_comes_back_the_same(dtype):
    assert to_dtype(describe(dtype)) == dtype


def test_an_encoder_can_be_used_after_an_error():
    encoder = Encoder()
    loop: list[object] = []
    loop.append(loop)
    tuples: tuple[object, ...] = ()
    for _ in range(2000):
        tuples = (tuples,)
    for value in (loop, tuples):
        with pytest.raises(CodecError, match="recursion"):
            encoder.encode({"a": value})
        assert decode(encoder.encode([1, "a"])) == [1, "a"]


def test_an_encoder_can_be_used_after_text_with_a_surrogate():
    encoder = Encoder()
    for value in (["a", "\ud800"], ["b"], {"c": (np.float64(1), "\ud800")}):
        assert decode(encoder.encode(value)) == value


@given(st.binary())
def test_decoding_any_bytes_works_or_raises_codec_error(data):
    with contextlib.suppress(CodecError):
        decode(data)


@given(st.data())
def test_decoding_damaged_bytes_works_or_raises_codec_error(data):
    good = Encoder().encode([np.arange(3), (1, {2}), np.float64(1), datetime.timedelta(1), 2**70])
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(CodecError):
        decode(bytes(bad))
