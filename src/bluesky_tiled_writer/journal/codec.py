"""Documents to bytes and back: msgpack, with extension types for what it has no word for.

What comes back equals what was given, and has its type, for

- everything that JSON has, NaN and infinities, bytes, integers of any size, complex numbers,
  tuples, sets, and the date and time types of the standard library;
- numpy scalars, and arrays of every dtype of numpy in every byte order: structured ones, text,
  objects, masked, with any number of dimensions.

Some types change into a plainer one of the same value:

========================================  ==================================================
a member of an enum                       its value
a subclass of dict, str, ndarray, ...     its base
another mapping, sequence or set          dict, list, set; `bytearray` and `memoryview`, bytes
an object that numpy takes for an array   array
in events: numpy's float64, str_, bytes_  float, str, bytes
in events: a tuple                        list; if one is a key, all lists become tuples
a named time zone                         its offset from UTC at that time
========================================  ==================================================

Of any other object there is only the repr: a `Foreign`.
"""

from __future__ import annotations

import datetime
import enum
import math
import struct
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, cast

import msgpack
import numpy as np

from .dtypes import describe, to_dtype


class CodecError(ValueError):
    """A value cannot be encoded at all (it contains itself, say), or bytes cannot be decoded."""


@dataclass(frozen=True)
class Foreign:
    """An object of a type that a journal cannot hold, of which only the repr was kept.

    Its own repr is that of the object.
    """

    type_name: str
    text: str

    def __repr__(self) -> str:
        return self.text


class Encoder:
    """Encodes values, one after the other, with one packer; not for several threads at once.

    Attributes
    ----------
    pack, pack_event : callable
        Do what `encode` does, without a function call around it; where they raise anything,
        `encode` has to say what became of the value. `pack_event` is for events: devices have
        float64 of numpy for almost every value, and finding their type takes longer than all else.
    """

    def __init__(self) -> None:
        self.pack = _packer()
        self.pack_event = _packer(strict_types=False)

    def encode(self, value: Any) -> bytes:
        """Turn a value into bytes.

        Raises
        ------
        CodecError
            If the value contains itself, is nested too deeply, or has a part beyond 4 GiB.
        """
        try:
            try:
                return self.pack(value)
            except UnicodeEncodeError:  # lone surrogates, for which every other text would pay
                return _pack(value)
        except Exception as error:
            raise CodecError(f"The document cannot be encoded: {error}.") from error


def decode(data: bytes) -> Any:
    """Turn bytes that an `Encoder` made back into the value; its arrays can be written to.

    Raises
    ------
    CodecError
        If an encoder made no such bytes.
    """
    try:
        return _unpack(data)
    except Exception as error:
        raise CodecError(f"This is no encoded document: {error}.") from error


def _packer(strict_types: bool = True, **options: Any) -> Callable[[Any], bytes]:
    # Unless strict, numpy's float64 and str_ pass for the Python types that they derive from.
    packer = msgpack.Packer(default=_to_extension, strict_types=strict_types, **options)
    return cast("Callable[[Any], bytes]", packer.pack)


def _pack(value: Any) -> bytes:
    # A packer of its own: one that is called again while it packs mixes up the two.
    return _packer(unicode_errors="surrogatepass")(value)


def _unpack(data: bytes) -> Any:
    try:
        return _unpack_as(data, use_list=True)
    except TypeError:  # a dict of an event has tuples for keys, and got lists
        return _unpack_as(data, use_list=False)


def _unpack_as(data: bytes, *, use_list: bool) -> Any:
    return msgpack.unpackb(
        data,
        raw=False,
        use_list=use_list,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        ext_hook=lambda code, data: _FROM[code](data),
    )


class _Ext(enum.IntEnum):
    """Codes of the extension types. They are part of the format: add, never change."""

    TUPLE = 1
    SET = 2
    FROZENSET = 3
    INTEGER = 4
    COMPLEX = 5
    DATETIME = 6
    DATE = 7
    TIME = 8
    TIMEDELTA = 9
    SCALAR = 10
    RECORD = 11
    TEXT = 12
    BYTES = 13
    ARRAY = 14
    ELEMENTS = 15
    MASKED = 16
    FOREIGN = 17


def _ext(code: _Ext, data: bytes) -> Any:
    return msgpack.ExtType(int(code), data)


_SCALAR = int(_Ext.SCALAR)
_NATIVE = {dict, list, str, float, bool, type(None), bytes, bytearray}
_COMMON_SCALARS = {
    kind: f"{np.dtype(kind).str}\0".encode()
    for kind in (np.bool_, np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64)
}
"""What precedes the value; asking every scalar for the name of its dtype takes microseconds."""


def _to_extension(value: Any) -> Any:
    """What msgpack packs in place of a value whose type it does not know."""
    if (head := _COMMON_SCALARS.get(type(value))) is not None:
        return msgpack.ExtType(_SCALAR, head + value.tobytes())
    if isinstance(value, np.generic):
        return _scalar_to_extension(value)
    if isinstance(value, np.ndarray):
        return _array_to_extension(value)
    if (known := _EXACT.get(type(value))) is not None:
        code, pack = known
        return _ext(code, pack(value))
    return _packable(_plainer(value))


def _packable(value: Any) -> Any:
    # msgpack asks only once: what it gets for a value must be something that it knows.
    if type(value) in _NATIVE or (type(value) is int and -(2**63) <= value < 2**64):
        return value
    return value if type(value) is msgpack.ExtType else _to_extension(value)


_EXACT: dict[type, tuple[_Ext, Callable[[Any], bytes]]] = {
    tuple: (_Ext.TUPLE, lambda value: _pack(list(value))),
    set: (_Ext.SET, lambda value: _pack(list(value))),
    frozenset: (_Ext.FROZENSET, lambda value: _pack(list(value))),
    # Only those beyond 64 bit come here.
    int: (_Ext.INTEGER, lambda v: v.to_bytes(v.bit_length() // 8 + 1, "little", signed=True)),
    complex: (_Ext.COMPLEX, lambda value: struct.pack("<dd", value.real, value.imag)),
    datetime.datetime: (_Ext.DATETIME, lambda value: _pack([value.isoformat(), value.fold])),
    datetime.date: (_Ext.DATE, lambda value: value.isoformat().encode()),
    datetime.time: (_Ext.TIME, lambda value: _pack([value.isoformat(), value.fold])),
    datetime.timedelta: (_Ext.TIMEDELTA, lambda v: _pack([v.days, v.seconds, v.microseconds])),
}


def _plainer(value: Any) -> Any:
    """A value of the nearest type that can be encoded."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    try:  # somebody else's objects, which may do as they like
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        if isinstance(value, tuple):
            return tuple(value)
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, Sequence):
            return list(value)
        if isinstance(value, Set):
            return set(value)
        if hasattr(value, "__array__") and not isinstance(value, type):
            return np.asarray(value)
    except Exception:
        pass
    return _foreign(value)


def _foreign(value: Any) -> Any:
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return _ext(_Ext.FOREIGN, _pack([type(value).__name__, text]))


# -- numpy --------------------------------------------------------------------------------------


def _scalar_to_extension(value: np.generic) -> Any:
    if isinstance(value, np.str_):  # which as an array would lose NUL at its end, as would bytes
        return _ext(_Ext.TEXT, str.__str__(value).encode("utf-8", "surrogatepass"))
    if isinstance(value, np.bytes_):
        return _ext(_Ext.BYTES, bytes(value))
    name = describe(value.dtype)
    if name is None:  # a type from outside of numpy
        item = value.item()
        return _foreign(value) if type(item) is type(value) else _packable(item)
    if value.dtype.kind in "biufcmM":
        return _ext(_Ext.SCALAR, f"{name}\0".encode() + value.tobytes())
    return _ext(_Ext.RECORD, _pack(np.asarray(value)))


def _array_to_extension(array: np.ndarray[Any, Any]) -> Any:
    if isinstance(array, np.ma.MaskedArray):
        parts = np.ma.getdata(array), np.ma.getmaskarray(array)
        return _ext(_Ext.MASKED, _pack([np.asarray(part) for part in parts]))
    array = np.asarray(array)
    described = describe(array.dtype)
    shape = list(array.shape)
    if described is None or array.dtype.hasobject:
        # A type from outside of numpy, of which the elements become objects one by one, or objects.
        return _ext(_Ext.ELEMENTS, _pack([described or "|O", shape, array.ravel().tolist()]))
    head = _pack([described, shape])
    return _ext(_Ext.ARRAY, b"".join((struct.pack("<I", len(head)), head, array.tobytes())))


def _scalar(data: bytes) -> Any:
    name, _, value = data.partition(b"\0")
    return np.frombuffer(value, np.dtype(name.decode()))[0]


def _array(data: bytes) -> np.ndarray[Any, Any]:
    (size,) = struct.unpack_from("<I", data)
    described, shape = _unpack(data[4 : 4 + size])
    # A bytearray, since nobody can write to an array that lies in bytes.
    return np.ndarray(shape, to_dtype(described), buffer=bytearray(memoryview(data)[4 + size :]))


def _elements(data: bytes) -> np.ndarray[Any, Any]:
    described, shape, items = _unpack(data)
    array = np.empty(math.prod(shape), to_dtype(described))
    for i, item in enumerate(items):
        array[i] = item
    return array.reshape(shape)


def _folded(parse: Callable[[str], Any], data: bytes) -> Any:
    text, fold = _unpack(data)
    return parse(text).replace(fold=fold)


_FROM: dict[int, Callable[[bytes], Any]] = {
    _Ext.TUPLE: lambda data: tuple(_unpack(data)),
    _Ext.SET: lambda data: set(_unpack(data)),
    _Ext.FROZENSET: lambda data: frozenset(_unpack(data)),
    _Ext.INTEGER: lambda data: int.from_bytes(data, "little", signed=True),
    _Ext.COMPLEX: lambda data: complex(*struct.unpack("<dd", data)),
    _Ext.DATETIME: lambda data: _folded(datetime.datetime.fromisoformat, data),
    _Ext.DATE: lambda data: datetime.date.fromisoformat(data.decode()),
    _Ext.TIME: lambda data: _folded(datetime.time.fromisoformat, data),
    _Ext.TIMEDELTA: lambda data: datetime.timedelta(*_unpack(data)),
    _Ext.SCALAR: _scalar,
    _Ext.RECORD: lambda data: _unpack(data)[()],
    _Ext.TEXT: lambda data: np.str_(data.decode("utf-8", "surrogatepass")),
    _Ext.BYTES: lambda data: np.bytes_(data),
    _Ext.ARRAY: _array,
    _Ext.ELEMENTS: _elements,
    _Ext.MASKED: lambda data: np.ma.MaskedArray(*_unpack(data)),
    _Ext.FOREIGN: lambda data: Foreign(*_unpack(data)),
}
