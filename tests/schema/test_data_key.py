from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.data_key import (
    TEXT,
    DeclaredKey,
    StorageForm,
    column_type_exists,
    numpy_type,
)

from .values import quick


@pytest.mark.parametrize(
    ("data_key", "is_array", "dtype", "shape"),
    [
        ({"dtype": "number", "shape": []}, False, np.dtype("f8"), ()),
        ({"dtype": "integer", "shape": []}, False, np.dtype("i8"), ()),
        ({"dtype": "boolean", "shape": []}, False, np.dtype("?"), ()),
        ({"dtype": "string", "shape": []}, False, TEXT, ()),
        ({"dtype": "number", "dtype_numpy": "<f4"}, False, np.dtype("f4"), ()),
        ({"dtype": "integer", "dtype_numpy": "no type"}, False, np.dtype("i8"), ()),
        ({"dtype": "string", "dtype_numpy": "|O"}, False, TEXT, ()),
        ({"dtype": "unheard of", "shape": []}, False, TEXT, ()),
        ({"dtype": "number", "shape": [3]}, False, np.dtype("f8"), ()),
        ({"dtype": "array", "shape": [2, 3]}, True, None, (2, 3)),
        ({"dtype": "array", "shape": []}, True, None, None),
        ({"dtype": "array"}, True, None, None),
        ({"dtype": "array", "shape": [None], "dtype_numpy": "<i2"}, True, np.dtype("i2"), (None,)),
        ({"dtype": "unheard of", "shape": [2]}, True, None, (2,)),
        ({}, False, np.dtype("f8"), ()),
    ],
)
def test_what_a_data_key_declares(data_key, is_array, dtype, shape):
    declared = DeclaredKey.from_data_key("x", data_key)
    assert (declared.is_array, declared.dtype, declared.shape) == (is_array, dtype, shape)
    assert declared.data_key is data_key
    assert not declared.external


def test_a_data_key_with_external_is_in_files():
    assert DeclaredKey.from_data_key("x", {"dtype": "array", "external": "STREAM:"}).external


@pytest.mark.filterwarnings("ignore:Data type alias 'a' was deprecated")
@quick
@given(
    description=st.one_of(
        st.text(max_size=8),
        st.text("<>|iufcSUOM?0123456789[]s,()", max_size=8),
        st.lists(st.lists(st.one_of(st.text("abif48", max_size=3), st.integers(0, 3)), max_size=3)),
        st.integers(),
        st.none(),
    )
)
def test_any_dtype_numpy_is_a_type_or_none(description):
    found = numpy_type(description)
    assert found is None or isinstance(found, np.dtype)


@pytest.mark.parametrize("description", ["no type", "01", "0:", "(", [["a"]], [1], 5, "", None, []])
def test_what_numpy_has_no_type_for_is_none(description):
    assert numpy_type(description) is None


def test_a_list_of_fields_is_a_structured_type():
    assert numpy_type([["a", "<i4"], ["b", "<f8", 2]]) == np.dtype(
        [("a", "<i4"), ("b", "<f8", (2,))]
    )


@pytest.mark.parametrize("name", ["?", "i1", "u8", ">i4", "f4", "<f8", "U", "U7"])
def test_types_that_a_column_can_have(name):
    assert column_type_exists(np.dtype(name))


@pytest.mark.parametrize("name", ["f2", "c16", "S3", "M8[s]", "m8[s]", "i4,f8", "O", "V3"])
def test_types_that_no_column_has(name):
    assert not column_type_exists(np.dtype(name))


def test_columns_are_in_the_table_and_nodes_are_not():
    in_table = {form for form in StorageForm if form.in_table}
    assert in_table == {StorageForm.COLUMN, StorageForm.LIST, StorageForm.JSON}
