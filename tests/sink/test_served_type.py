from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile

from bluesky_tiled_writer.sink.served_type import served_type

SHAPES = [(1,), (1, 5), (1, 4, 6), (1, 4, 6, 3), (1, 1, 4, 5), (1, 3, 4, 5), (1, 4, 1)]
TYPES = ["u1", "i1", "<u2", ">u2", "<i2", "<u4", ">i4", "<u8", "<f4", ">f4", "<f8", "<f2", "<c8"]


def as_tiff(array: np.ndarray) -> bytes:
    """Return an array as Tiled sends it as TIFF."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.atleast_2d(array))
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", TYPES)
def test_the_type_is_that_of_the_bytes(name: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape)).reshape(shape) + 1).astype(name)
    assert served_type(as_tiff(array), array.tobytes()) == np.dtype(name)


def test_without_a_type_that_both_have_there_is_none() -> None:
    array = np.arange(1, 7, dtype="<u2")
    assert served_type(as_tiff(array), (array + 1).tobytes()) is None
    assert served_type(as_tiff(array), array.tobytes()[:-1]) is None
    assert served_type(as_tiff(array), b"") is None
    assert served_type(b"", array.tobytes()) is None
    assert served_type(as_tiff(array)[:20], array.tobytes()) is None
    assert served_type(b"\x89PNG" + bytes(20), array.tobytes()) is None
