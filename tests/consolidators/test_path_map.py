"""Where a detector writes, and where the server reads the same files."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.consolidators.path_map import PathMap, file_uri

MAP = {
    "/data": "/mnt/data",
    "/data/raw": "/fast/raw",
    "Z:/data": "/mnt/z",
    "Y:\\": "/mnt/y",
    "//nas/share": "/mnt/nas",
    "\\\\Nas2\\Share\\Sub": "/mnt/nas2",
    "s3://bucket/run": "https://example.org/run",
}


@pytest.mark.parametrize(
    ("uri", "mapped"),
    [
        ("file://localhost/data/x.h5", "file://localhost/mnt/data/x.h5"),
        ("file:///data/x.h5", "file://localhost/mnt/data/x.h5"),
        ("file://127.0.0.1/data/x.h5", "file://localhost/mnt/data/x.h5"),
        ("FILE://LocalHost/data/x.h5", "file://localhost/mnt/data/x.h5"),
        ("/data/x.h5", "file://localhost/mnt/data/x.h5"),
        pytest.param("file://localhost/data", "file://localhost/mnt/data", id="the prefix itself"),
        pytest.param("file://localhost/data/", "file://localhost/mnt/data/", id="a directory"),
        pytest.param("file://localhost//data//x", "file://localhost/mnt/data/x", id="slashes"),
        pytest.param("file://localhost/./data/x", "file://localhost/mnt/data/x", id="dot"),
        pytest.param("file://localhost/a/../data/x", "file://localhost/mnt/data/x", id="dots"),
        ("file://localhost/data/raw/x.h5", "file://localhost/fast/raw/x.h5"),
        ("file://localhost/data/rawer/x.h5", "file://localhost/mnt/data/rawer/x.h5"),
        ("file://localhost/Z:/data/x.h5", "file://localhost/mnt/z/x.h5"),
        ("file:///z:/DATA/X.h5", "file://localhost/mnt/z/X.h5"),
        ("file:///Z%3A/data/x.h5", "file://localhost/mnt/z/x.h5"),
        ("file://Z:/data/x.h5", "file://localhost/mnt/z/x.h5"),
        ("Z:\\data\\sub\\x.h5", "file://localhost/mnt/z/sub/x.h5"),
        ("file://localhost/Y:/x.h5", "file://localhost/mnt/y/x.h5"),
        ("file://nas/share/x.h5", "file://localhost/mnt/nas/x.h5"),
        ("file://NAS/Share/x.h5", "file://localhost/mnt/nas/x.h5"),
        ("file:////nas/share/x.h5", "file://localhost/mnt/nas/x.h5"),
        ("\\\\nas\\share\\x.h5", "file://localhost/mnt/nas/x.h5"),
        ("file://nas2/share/sub/x.h5", "file://localhost/mnt/nas2/x.h5"),
        ("s3://bucket/run/x.h5", "https://example.org/run/x.h5"),
        pytest.param("file:///d%61ta/x", "file://localhost/mnt/data/x", id="encoded prefix"),
        pytest.param("file:///data/a%20b", "file://localhost/mnt/data/a%20b", id="encoded rest"),
        pytest.param("file:///data/a_%05d.tif", "file://localhost/mnt/data/a_%05d.tif", id="%05d"),
    ],
)
def test_prefix_is_replaced(uri: str, mapped: str) -> None:
    assert PathMap(MAP)(uri) == (mapped, True)


@pytest.mark.parametrize(
    "uri",
    [
        "file://localhost/database/x.h5",
        "file://localhost/dat",
        "file://localhost/Data/x.h5",
        "file://localhost/X:/data/x.h5",
        "file://localhost/Z:/database/x.h5",
        "file://localhost/data/../secret",
        "file://nas/other/x.h5",
        "file://localhost/nas/share/x.h5",
        "s3://other/run/x.h5",
        "https://bucket/run/x.h5",
    ],
)
def test_other_places_stay_as_they_are(uri: str) -> None:
    assert PathMap(MAP)(uri) == (uri, False)


def test_a_root_maps_everything() -> None:
    assert PathMap({"/": "/mnt"})("file:///a/b") == ("file://localhost/mnt/a/b", True)
    assert PathMap({"/mnt": "/"})("file:///mnt/a") == ("file://localhost/a", True)
    assert PathMap({"/data": "D:\\data"})("file:///data/a") == ("file://localhost/D:/data/a", True)


def test_a_place_that_maps_to_itself_is_unchanged() -> None:
    assert PathMap({"/a": "/a"})("file://localhost/a/b") == ("file://localhost/a/b", False)
    assert not PathMap({})


@pytest.mark.parametrize(
    "prefixes",
    [
        {"": "/mnt"},
        {"/data": ""},
        {"data": "/mnt"},
        {"/data": "mnt"},
        {"Z:/data": "/a", "z:\\DATA\\": "/b"},
        {"/data": "/a", "file:///data/": "/b"},
    ],
)
def test_ambiguous_prefixes_are_refused(prefixes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="path_map"):
        PathMap(prefixes)


SEGMENTS = st.lists(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), max_size=4
)


@given(SEGMENTS, SEGMENTS, SEGMENTS.filter(bool))
def test_rest_of_the_path_is_kept(prefix: list[str], target: list[str], rest: list[str]) -> None:
    start, end = "/" + "/".join(prefix), "/".join(["", *rest])
    uri, _ = PathMap({start: "/" + "/".join(target)})("file://localhost" + start.rstrip("/") + end)
    assert uri == "file://localhost" + "/".join(["", *target, *rest])


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/data/x.h5", "file://localhost/data/x.h5"),
        ("/data//sub/", "file://localhost/data/sub"),
        ("C:\\data\\x.h5", "file://localhost/C:/data/x.h5"),
        ("C:/data/x.h5", "file://localhost/C:/data/x.h5"),
        ("\\\\nas\\share\\x.h5", "file://nas/share/x.h5"),
        ("file:///data/x.h5", "file://localhost/data/x.h5"),
        ("file://nas/share/x.h5", "file://nas/share/x.h5"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("/with space#and%20.h5", "file://localhost/with space#and%20.h5"),
    ],
)
def test_path_becomes_a_uri(path: str, uri: str) -> None:
    assert file_uri(path) == uri


def test_relative_path_starts_from_the_working_directory() -> None:
    assert file_uri("x.h5") == f"file://localhost{os.getcwd()}/x.h5"
    assert file_uri("a\\x.h5", windows=True) == f"file://localhost{os.getcwd()}/a/x.h5"
