from __future__ import annotations

from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.names import (
    MAX_COLUMNS,
    MAX_NAME_BYTES,
    Names,
    dimension_names,
    is_column_name,
    parts,
    timestamp_name,
)

from .values import quick

any_text = st.text(st.characters(exclude_categories=()), max_size=80)
odd_text = st.text("aA%41.b_/?#\0\udc80é ", max_size=70)
names = st.one_of(any_text, odd_text, st.sampled_from(["", ".", "..", "internal", "internal_0"]))


@quick
@given(keys=st.lists(st.one_of(names, st.text("aAbBéÉ", max_size=3)), max_size=12))
def test_no_two_columns_are_equal_but_for_case(keys):
    taken = Names()
    accepted = [column for key in keys if (column := taken.column(key)) is not None]
    lowered = [key.lower() for key in [*accepted, "seq_num", "time"]]
    assert len(set(lowered)) == len(lowered)
    for key in accepted:
        assert len(key.encode()) <= MAX_NAME_BYTES
        assert not set(key) & set("'\"`;\\%()=+\0\n")
    plain = [key for key in keys if key.isascii() and key.isalpha() and len(key) < 9]
    assert {key.lower() for key in plain} <= set(lowered)


@quick
@given(name=st.text("abé", min_size=1, max_size=80), reserve=st.integers(0, 5))
def test_a_column_leaves_room_for_the_prefix_of_its_timestamps(name, reserve):
    fits = name[0] != "é" and len(name.encode()) + reserve <= MAX_NAME_BYTES
    assert Names().column(name, reserve=reserve) == (name if fits else None)


@pytest.mark.parametrize("name", ["a--b", "_a", "1a", "é", "", "/a", "?", "Time"])
def test_names_that_sql_refuses(name):
    assert Names().column(name) is None


def test_columns_that_a_url_would_change_get_another_name():
    taken = Names()
    assert taken.column("x_y") == "x_y"
    assert [taken.column(name) for name in ("x?y", "x#y", "det/x", "x%41", "a/*b")] == [
        "x_y_",
        "x_y__",
        "det_x",
        "x_41",
        "a_*b",
    ]


def test_a_column_name_of_its_own_alphabet_is_accepted():
    assert is_column_name("sample:x-y.z [mm] é/?#")


@quick
@given(keys=st.lists(names, max_size=12))
def test_every_node_can_be_put_into_a_url_and_a_file_name(keys):
    taken = Names()
    nodes = [taken.node(key) for key in keys]
    assert len(set(nodes)) == len(nodes)
    for node in nodes:
        assert unquote(node) == node  # Tiled's client puts it into the URL as it is
        assert unquote(quote(node, safe="")) == node
        assert not set(node) & set("/?#\0\n")
        assert node not in ("", ".", "..")
        assert not node.startswith("internal") or node.endswith("_") or "_" not in node[:9]
        assert len(quote_plus(node)) <= 255


@quick
@given(name=st.text("abcDEF:.- é", min_size=1, max_size=39))
def test_a_name_that_can_be_used_is_kept(name):
    if name not in (".", ".."):
        assert Names().node(name) == name


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("det/x", "det_x"),
        ("q?#", "q__"),
        ("x%41", "x_41"),
        ("per%cent", "per_cent"),  # %ce is an escape, too
        ("50%", "50%"),
        ("internal", "internal_"),
        ("internal_7", "internal_7_"),
        ("internal_x", "internal_x"),
        ("", "_"),
        ("..", ".._"),
        ("\udc80", "_"),
    ],
)
def test_names_of_nodes(name, node):
    assert Names().node(name) == node


def test_long_names_that_begin_alike_are_told_apart():
    taken = Names()
    nodes = [taken.node("é" * 300 + end) for end in "ab"]
    assert nodes[0] != nodes[1]
    assert all(node.startswith("é" * 30) for node in nodes)
    assert all(len(quote_plus(node)) <= 255 for node in nodes)
    assert Names().node("é" * 300 + "b") == nodes[1]  # whatever else there is


@quick
@given(count=st.one_of(st.integers(0, 5000), st.sampled_from([MAX_COLUMNS, MAX_COLUMNS + 1])))
def test_columns_are_spread_over_tables_in_equal_parts(count):
    columns = [f"c{i:05}" for i in reversed(range(count))]
    tables = parts(columns)
    sizes = [len(table) for _, table in tables]
    assert max(sizes) <= MAX_COLUMNS
    assert sorted(name for _, table in tables for name in table) == sorted(columns)
    assert len(sizes) == max(1, -(-count // MAX_COLUMNS))
    if count <= MAX_COLUMNS:
        assert tables == [("internal", columns)]  # in the order of the descriptor
    else:
        assert [name for name, _ in tables] == [f"internal_{i}" for i in range(len(tables))]
        assert max(sizes) - min(sizes) < len(tables)


@quick
@given(
    shapes=st.lists(
        st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=4), min_size=1, max_size=5
    )
)
def test_dimensions_of_equal_names_have_equal_sizes(shapes):
    shared = {}
    sizes = {}
    for shape in shapes:
        dims = dimension_names(shape, shared)
        assert len(set(dims)) == len(dims) == len(shape) + 1
        assert dims[0] == "time"
        for axis, (name, size) in enumerate(zip(dims[1:], shape, strict=True), start=1):
            if size is None:
                assert name == f"dim_rgd_{axis}"
            else:
                assert sizes.setdefault(name, size) == size
    assert all(dimension_names(shape, shared) == dimension_names(shape, shared) for shape in shapes)


def test_equal_sizes_of_two_keys_share_a_name():
    shared = {}
    assert dimension_names((2, 3), shared) == ("time", "dim_int_1", "dim_int_2")
    assert dimension_names((3, 3), shared) == ("time", "dim_int_2", "dim_int_3")


def test_the_column_of_timestamps_has_a_prefix():
    assert timestamp_name("motor") == "ts_motor"
