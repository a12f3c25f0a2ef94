"""Which files the documents name, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from external_files import BYTES, HDF5, TIFF, Document, datum, descriptor, names, resource
from tiled.structures.data_source import Asset
from tiled.utils import path_from_uri

from bluesky_tiled_writer.consolidators import consolidator_factory
from bluesky_tiled_writer.consolidators.numbered import compile_template
from bluesky_tiled_writer.errors import InvalidDocument

# -- file names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "filename", "number", "name"),
    [
        ("{:05d}.tif", "", 7, "00007.tif"),
        ("{:s}_{:05d}.tif", "scan", 7, "scan_00007.tif"),
        ("%s_%05d.tif", "scan", 7, "scan_00007.tif"),
        ("%s%s_%6.6d.tif", "scan", 7, "scan_000007.tif"),
        ("%s%s_%.4d.tif", "scan", 7, "scan_0007.tif"),
        ("%s%s_%3d.tif", "scan", 7, "scan_  7.tif"),
        ("%s%s_%-3d.tif", "scan", 7, "scan_7  .tif"),
        ("%s%s_%+04d.tif", "scan", 7, "scan_+007.tif"),
        ("%s_%d.npy", "", 7, "_7.npy"),
        ("%s_%d%%.tif", "scan", 7, "scan_7%.tif"),
        ("{:d}.tif", "not asked for", 7, "7.tif"),
        pytest.param("%s_%d.tif", "{a}100%d", 7, "{a}100%d_7.tif", id="name is literal"),
        pytest.param("{:s}_{:d}.tif", "{a}", 7, "{a}_7.tif", id="name is literal, new style"),
        pytest.param("%s.tif", "scan_%03d", 7, "scan_007.tif", id="number in the name"),
        pytest.param("%s.tif", "scan_{:03d}", 7, "scan_007.tif", id="number in the name, new"),
    ],
)
def test_template_of_either_style_gives_the_file_name(
    template: str, filename: str, number: int, name: str
) -> None:
    assert compile_template(template, filename).format(number) == name


@pytest.mark.parametrize(
    ("uri", "template", "first"),
    [
        ("file://localhost/data/", "{:d}.tif", "file://localhost/data/0.tif"),
        ("file://localhost/data", "/{:d}.tif", "file://localhost/data/0.tif"),
        ("file://localhost/data/", "/{:d}.tif", "file://localhost/data/0.tif"),
        ("file://localhost/data/abc", "_{:d}.tif", "file://localhost/data/abc_0.tif"),
        pytest.param("file://localhost/d/{:d}.tif", "", "file://localhost/d/0.tif", id="in URI"),
        pytest.param("file://localhost/d/%03d.tif", "", "file://localhost/d/000.tif", id="in URI%"),
    ],
)
def test_uri_is_a_directory_or_the_start_of_a_name(uri: str, template: str, first: str) -> None:
    consolidator = consolidator_factory(resource(TIFF, uri, template=template), descriptor([4, 4]))
    assert consolidator.get_data_source().assets == []
    consolidator.consume_stream_datum(datum(0, 1))
    assert consolidator.assets == [Asset(first, is_directory=False, parameter="data_uris", num=0)]


@pytest.mark.parametrize(
    ("shape", "parameters", "files", "orig_chunks"),
    [
        pytest.param([4, 4], {}, 2, None, id="a file a datum"),
        pytest.param([3, 4, 4], {}, 2, None, id="pages in a file"),
        pytest.param([3, 4, 4], {"multiplier": 3}, 6, ((1,) * 6, (4,), (4,)), id="multiplier"),
        pytest.param([4, 4], {"multiplier": 3}, 6, ((1,) * 6, (4,), (4,)), id="multiplier alone"),
        pytest.param([3, 4, 4], {"files_per_datum": 3}, 6, ((1,) * 6, (4,), (4,)), id="stated"),
        pytest.param([3, 4, 4], {"chunk_shape": (1, 4, 4)}, 6, ((1,) * 6, (4,), (4,)), id="chunks"),
        pytest.param(
            [4, 2, 2], {"chunk_shape": (2, 2, 2)}, 4, ((1,) * 4, (2,), (2,), (2,)), id="2 a file"
        ),
        pytest.param(
            [4, 2, 2],
            {"files_per_datum": 2},
            4,
            ((1,) * 4, (2,), (2,), (2,)),
            id="stated, 2",
        ),
        pytest.param([4, 2], {"join_method": "concat", "chunk_shape": [2]}, 4, None, id="appended"),
        pytest.param([4, 2], {"join_method": "concat"}, 8, None, id="appended one by one"),
    ],
)
def test_files_of_each_datum(
    shape: list[int], parameters: Document, files: int, orig_chunks: Any
) -> None:
    consolidator = consolidator_factory(
        resource(TIFF, template="{:d}.tif", **parameters), descriptor(shape)
    )
    consolidator.consume_stream_datum(datum(0, 2))
    source = consolidator.get_data_source()
    assert names(source) == [f"{i}.tif" for i in range(files)]
    assert source.properties == ({"chunks": orig_chunks} if orig_chunks else {})


def test_frames_that_do_not_fill_files_are_one_file_a_datum_with_a_note() -> None:
    consolidator = consolidator_factory(
        resource(TIFF, template="{:d}.tif", join_method="concat", chunk_shape=[2]),
        descriptor([3, 4]),
    )
    consolidator.consume_stream_datum(datum(0, 2))
    assert names(consolidator) == ["0.tif", "1.tif"]
    assert consolidator.chunks == ((3, 3), (4,))
    assert "'det'" in consolidator.notes[0]


def test_numbers_begin_anew_with_each_resource() -> None:
    consolidator = consolidator_factory(resource(TIFF, template="a_{:d}"), descriptor([4, 4]))
    consolidator.consume_stream_datum(datum(0, 2))
    consolidator.update_from_stream_resource(resource(TIFF, uid="2", template="b_{:d}"))
    consolidator.consume_stream_datum(datum(2, 4, uid="2"))
    assert names(consolidator) == ["a_0", "a_1", "b_0", "b_1"]


def test_indices_may_begin_anew_with_each_resource() -> None:
    # As ophyd-async counts when a detector is prepared again.
    consolidator = consolidator_factory(resource(TIFF, template="a_{:d}"), descriptor([4, 4]))
    consolidator.consume_stream_datum(datum(0, 2))
    consolidator.update_from_stream_resource(resource(TIFF, uid="2", template="b_{:d}"))
    consolidator.consume_stream_datum(datum(0, 2, uid="2", seq_nums=(3, 5)))
    consolidator.consume_stream_datum(datum(2, 4, uid="2", seq_nums=(5, 7)))
    assert names(consolidator) == ["a_0", "a_1", "b_0", "b_1", "b_2", "b_3"]
    assert consolidator.shape == (6, 4, 4)


@pytest.mark.parametrize("mimetype", [TIFF, BYTES])
def test_each_resource_has_its_own_directory(mimetype: str) -> None:
    first = resource(mimetype, "file://localhost/a/", template="{:d}")
    second = resource(mimetype, "file://localhost/b/", uid="2", template="{:d}")
    consolidator = consolidator_factory(first, descriptor([4, 4]))
    consolidator.consume_stream_datum(datum(0, 1))
    consolidator.update_from_stream_resource(second)
    consolidator.consume_stream_datum(datum(1, 2, uid="2"))
    consolidator.consume_stream_datum(datum(1, 2))  # the first goes on
    assert [asset.data_uri[16:] for asset in consolidator.assets] == ["/a/0", "/b/0", "/a/1"]
    assert [asset.num for asset in consolidator.assets] == [0, 1, 2]


def test_resource_of_two_descriptors_counts_on() -> None:
    # The documents of one old Resource come again for each descriptor that uses it.
    consolidator = consolidator_factory(resource(TIFF, template="{:d}"), descriptor([4, 4]))
    consolidator.consume_stream_datum(datum(0, 2))
    consolidator.update_from_stream_resource(resource(TIFF, uid="2", template="{:d}"))
    consolidator.consume_stream_datum(datum(2, 3, uid="2"))
    assert names(consolidator) == ["0", "1", "2"]


@pytest.mark.parametrize("wrong", [{"template": "x"}, {"template": "{a}"}, {"files_per_datum": -1}])
def test_resource_that_cannot_be_used_leaves_the_earlier_ones_alone(wrong: Document) -> None:
    consolidator = consolidator_factory(
        resource(HDF5, template="{:d}", dataset="/x"), descriptor([4, 4])
    )
    consolidator.consume_stream_datum(datum(0, 1))
    before = consolidator.get_data_source()
    with pytest.raises(InvalidDocument, match=r"'det' .*'second'"):
        consolidator.update_from_stream_resource(resource(HDF5, uid="second", **wrong))
    assert consolidator.get_data_source() == before
    consolidator.consume_stream_datum(datum(1, 2))
    assert names(consolidator) == ["0", "1"]


def test_a_file_of_several_rows_is_registered_for_each() -> None:
    # Tiled takes a URI once, but not every way to write it is the same URI.
    consolidator = consolidator_factory(resource(TIFF, template="{:d}"), descriptor([4, 4]))
    for index in [0] * 40 + [1, 0]:
        consolidator.consume_stream_datum(datum(index, index + 1))
    uris = [asset.data_uri for asset in consolidator.assets]
    assert len(set(uris)) == len(uris) == consolidator.shape[0] == 42
    assert [str(path_from_uri(uri)) for uri in uris] == ["/data/0"] * 40 + ["/data/1", "/data/0"]
    assert max(map(len, uris)) < 60
    assert consolidator.notes == []


def test_an_opaque_file_is_registered_once() -> None:
    consolidator = consolidator_factory(resource(BYTES, template="{:d}"), descriptor())
    for _ in range(3):
        consolidator.consume_stream_datum(datum(0, 1))
    assert names(consolidator) == ["0"]
    assert len(consolidator.notes) == 1


@pytest.mark.parametrize("name", ["a?b.h5", "a#b.h5"])
@pytest.mark.parametrize("mimetype", [HDF5, BYTES])
def test_a_name_that_tiled_cannot_read_is_noted(mimetype: str, name: str) -> None:
    doc = resource(mimetype, f"file://localhost/data/{name}", dataset="/x")
    consolidator = consolidator_factory(doc, descriptor())
    consolidator.consume_stream_datum(datum(0, 1))
    (note,) = consolidator.notes
    assert f"/data/{name}" in note


def test_no_adapter_for_a_type_that_only_the_server_knows() -> None:
    consolidator = consolidator_factory(resource("application/x-own"), descriptor())
    with pytest.raises(ValueError, match="pass adapter_class"):
        consolidator.init_adapter()


@pytest.mark.parametrize("mimetype", [HDF5, TIFF])
def test_indices_that_do_not_count_on_after_all_are_noted(mimetype: str) -> None:
    def files(name: str) -> Document:
        parameters = {"template": f"{name}_{{:d}}"} if mimetype == TIFF else {"dataset": "/x"}
        return resource(mimetype, f"file://localhost/{name}/", name, **parameters)

    consolidator = consolidator_factory(files("a"), descriptor([4, 4]))
    consolidator.consume_stream_datum(datum(0, 1, uid="a"))
    consolidator.update_from_stream_resource(files("b"))
    consolidator.consume_stream_datum(datum(1, 2, uid="b"))
    assert consolidator.notes == []
    consolidator.consume_stream_datum(datum(0, 1, uid="b"))
    assert any("'b'" in note and "lower" in note for note in consolidator.notes)
