"""Documents to bytes and back, by msgpack with extension types for the types that it lacks.

A decoded value equals the original and has the same type if it is

- any JSON value, NaN, an infinity, bytes, an integer of any size, a complex number, a tuple, a set,
  or of a date or time type of the standard library;
- a numpy scalar, or an array of any numpy dtype and byte order: structured, text, objects, masked,
  of any number of dimensions.

Some types become a plainer one of the same value:

========================================  ==================================================
a member of an enum                       its value
a subclass of dict, str, ndarray, ...     its base
a pydantic model                          dict
a path, a UserString                      str
another mapping, sequence or set          dict, list, set; `bytearray` and `memoryview`, bytes
an object with ``__array__``              array
in events: numpy's float64, str_, bytes_  float, str, bytes
in events: a tuple                        list; if a dict has one as key, lists become tuples
a named time zone                         its offset from UTC at that time
========================================  ==================================================

Any other object becomes a `Foreign`, which has only its repr.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import math
import struct
from collections import UserString
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, cast

import numpy as np

from bluesky_tiled_writer.schema import fields_of

from .dtypes import describe, to_dtype
from .plain_msgpack import ExtType, Packer, unpackb


class CodecError(ValueError):
    """A value cannot be encoded, because it contains itself, say; or bytes cannot be decoded."""


@dataclass(frozen=True)
class Foreign:
    """Stands for an object of a type that cannot be encoded, and has the same repr.

    Parameters
    ----------
    type_name : str
        Name of the object's type.
    text : str
        Its repr.
    """

    type_name: str
    text: str

    def __repr__(self) -> str:
        return self.text


class Encoder:
    """Encodes values. Not thread-safe.

    Attributes
    ----------
    pack : callable
        Encodes a value as `encode` does, without the cost of a Python call around msgpack's. If it
        raises anything, call `encode`, which may succeed and raises `CodecError` otherwise.
    pack_event : callable
        The same for events, less strict about types: almost every value from a device is a numpy
        float64, and encoding its type would take longer than everything else.
    """

    def __init__(self) -> None:
        self.pack = _packer()
        self.pack_event = _packer(strict_types=False)

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a value.

        Raises
        ------
        CodecError
            If the value contains itself, is nested too deeply, or has a part larger than 4 GiB.
        """
        try:
            try:
                return self.pack(value)
            except UnicodeEncodeError:  # lone surrogates: allowing them would slow down all text
                return _pack(value)
        except Exception as error:
            raise CodecError(f"The document cannot be encoded: {error}.") from error


def decode(data: bytes) -> Any:
    """Return the value that an `Encoder` turned into bytes; its arrays are writable.

    Raises
    ------
    CodecError
        If these are not the bytes of a value.
    """
    try:
        return _unpack(data)
    except Exception as error:
        raise CodecError(f"This is not an encoded document: {error}.") from error


def fingerprint(doc: Any) -> bytes | None:
    """Return what tells a document from others; None if it cannot be encoded."""
    try:
        encoded = _pack(doc)
    except Exception:  # it contains itself, say
        return None
    return hashlib.blake2b(encoded, digest_size=16).digest()


def _packer(strict_types: bool = True, **options: Any) -> Callable[[Any], bytes]:
    # If not strict, msgpack packs numpy's float64 and str_ as their Python base classes.
    packer = Packer(default=_to_extension, strict_types=strict_types, **options)
    return cast("Callable[[Any], bytes]", packer.pack)


def _pack(value: Any) -> bytes:
    # A new packer, because a packer must not be called again while it packs.
    return _packer(unicode_errors="surrogatepass")(value)


def _unpack(data: bytes) -> Any:
    try:
        return _unpack_as(data, use_list=True)
    except TypeError:  # in an event, a dict had tuples as keys, which were packed as lists
        return _unpack_as(data, use_list=False)


def _unpack_as(data: bytes, *, use_list: bool) -> Any:
    return unpackb(
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
    return ExtType(int(code), data)


_SCALAR = int(_Ext.SCALAR)
_NATIVE = {dict, list, str, float, bool, type(None), bytes, bytearray}
_COMMON_SCALARS = {
    kind: f"{np.dtype(kind).str}\0".encode()
    for kind in (np.bool_, np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64)
}
"""First bytes of common scalars; to ask a scalar for the name of its dtype takes microseconds."""


def _to_extension(value: Any) -> Any:
    """Return what msgpack is to pack for a value of a type that it does not know."""
    if (head := _COMMON_SCALARS.get(type(value))) is not None:
        return ExtType(_SCALAR, head + value.tobytes())
    if isinstance(value, np.generic):
        return _scalar_to_extension(value)
    if isinstance(value, np.ndarray):
        return _array_to_extension(value)
    if (known := _EXACT.get(type(value))) is not None:
        code, pack = known
        return _ext(code, pack(value))
    return _packable(_plainer(value))


def _packable(value: Any) -> Any:
    # msgpack calls its hook only once for a value, so the answer must be of a type that it knows.
    if type(value) in _NATIVE or (type(value) is int and -(2**63) <= value < 2**64):
        return value
    return value if type(value) is ExtType else _to_extension(value)


_EXACT: dict[type, tuple[_Ext, Callable[[Any], bytes]]] = {
    tuple: (_Ext.TUPLE, lambda value: _pack(list(value))),
    set: (_Ext.SET, lambda value: _pack(list(value))),
    frozenset: (_Ext.FROZENSET, lambda value: _pack(list(value))),
    # msgpack packs those of up to 64 bits itself.
    int: (_Ext.INTEGER, lambda v: v.to_bytes(v.bit_length() // 8 + 1, "little", signed=True)),
    complex: (_Ext.COMPLEX, lambda value: struct.pack("<dd", value.real, value.imag)),
    datetime.datetime: (_Ext.DATETIME, lambda value: _pack([value.isoformat(), value.fold])),
    datetime.date: (_Ext.DATE, lambda value: value.isoformat().encode()),
    datetime.time: (_Ext.TIME, lambda value: _pack([value.isoformat(), value.fold])),
    datetime.timedelta: (_Ext.TIMEDELTA, lambda v: _pack([v.days, v.seconds, v.microseconds])),
}


def _plainer(value: Any) -> Any:
    """Return the value as the nearest type that can be encoded."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, UserString | PurePath):  # the first is a sequence of its kind, for ever
        return str(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    try:  # classes of other packages, whose methods may raise anything
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        if isinstance(value, tuple):
            return tuple(value)
        if isinstance(value, Mapping):
            return dict(value)
        if (fields := fields_of(value)) is not None:
            return fields
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
    if isinstance(value, np.str_):  # an array of text, or of bytes, would lose a NUL at its end
        return _ext(_Ext.TEXT, str.__str__(value).encode("utf-8", "surrogatepass"))
    if isinstance(value, np.bytes_):
        return _ext(_Ext.BYTES, bytes(value))
    name = describe(value.dtype)
    if name is None:  # a dtype that another package has added to numpy
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
        # Objects, or a dtype of another package: encode each element by itself.
        return _ext(_Ext.ELEMENTS, _pack([described or "|O", shape, array.ravel().tolist()]))
    head = _pack([described, shape])
    return _ext(_Ext.ARRAY, b"".join((struct.pack("<I", len(head)), head, array.tobytes())))


def _scalar(data: bytes) -> Any:
    name, _, value = data.partition(b"\0")
    return np.frombuffer(value, np.dtype(name.decode()))[0]


def _array(data: bytes) -> np.ndarray[Any, Any]:
    (size,) = struct.unpack_from("<I", data)
    described, shape = _unpack(data[4 : 4 + size])
    # A bytearray, because an array on bytes is read-only.
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
