"""Consolidators: from StreamResources and StreamDatums to the data sources that Tiled serves."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from external_files import BYTES, CSV, HDF5, NPY, TIFF, Document, datum, descriptor, names, resource
from hypothesis import given
from hypothesis import strategies as st
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import Asset, Management

from bluesky_tiled_writer.consolidators import (
    CONSOLIDATOR_REGISTRY,
    BytesConsolidator,
    ConsolidatorBase,
    CSVConsolidator,
    HDF5Consolidator,
    MultipartHDF5Consolidator,
    MultipartRelatedConsolidator,
    NPYConsolidator,
    Patch,
    TIFFConsolidator,
    consolidator_factory,
    opaque_consolidator,
)
from bluesky_tiled_writer.consolidators.row_map import RowMap
from bluesky_tiled_writer.errors import InvalidDocument

# -- shapes and chunks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "parameters", "rows", "expected", "chunks"),
    [
        pytest.param([], {}, 3, (3,), ((3,),), id="scalars"),
        pytest.param([1], {}, 3, (3,), ((3,),), id="a lone value needs no dimension"),
        pytest.param([1], {"join_method": "concat"}, 3, (3,), ((3,),), id="unless appended"),
        pytest.param([4, 5], {}, 3, (3, 4, 5), ((3,), (4,), (5,)), id="one chunk"),
        pytest.param(
            [4, 5], {"chunk_shape": [2, 3]}, 3, (3, 4, 5), ((2, 1), (3, 1), (5,)), id="leading"
        ),
        pytest.param([4], {"chunk_shape": [9, 9]}, 3, (3, 4), ((3,), (4,)), id="larger chunks"),
        pytest.param([4], {"chunk_shape": [1]}, 0, (0, 4), ((0,), (4,)), id="no rows yet"),
        pytest.param(
            [7], {"join_method": "concat", "chunk_shape": [3]}, 2, (14,), ((3, 3, 3, 3, 2),),
            id="appended, chunks go on",
        ),
        pytest.param(
            [7], {"join_method": "concat", "join_chunks": False, "chunk_shape": [3]}, 2, (14,),
            ((3, 3, 1, 3, 3, 1),), id="appended, chunks start anew",
        ),
        pytest.param(
            [7, 2], {"join_method": "concat", "join_chunks": False, "chunk_shape": [3, 1]}, 0,
            (0, 2), ((0,), (1, 1)), id="nothing appended",
        ),
        pytest.param([], {"multiplier": 5}, 2, (2, 5), ((2,), (5,)), id="multiplier of scalars"),
        pytest.param([1, 4], {"multiplier": 5}, 2, (2, 5, 4), ((2,), (5,), (4,)), id="replaced"),
        pytest.param([4, 4], {"multiplier": 5}, 2, (2, 5, 4, 4), ((2,), (5,), (4,), (4,)), id="+"),
        pytest.param([5, 4], {"multiplier": 5}, 2, (2, 5, 4), ((2,), (5,), (4,)), id="as declared"),
        pytest.param(
            [4, 4], {"multiplier": 5, "join_method": "concat"}, 2, (10, 4, 4), ((10,), (4,), (4,)),
            id="multiplier, appended",
        ),
    ],
)  # fmt: skip
def test_shape_and_chunks_follow_from_the_documents(
    shape: list[int], parameters: Document, rows: int, expected: Any, chunks: Any
) -> None:
    consolidator = consolidator_factory(
        resource(HDF5, dataset="/x", **parameters), descriptor(shape)
    )
    patch = consolidator.consume_stream_datum(datum(0, rows))
    assert consolidator.shape == expected
    assert consolidator.chunks == chunks
    assert patch == Patch(shape=expected, offset=(0,) * len(expected))


@pytest.mark.parametrize("kind", [int, float, np.int64, np.uint8, np.float32, np.array])
@pytest.mark.parametrize("mimetype", [HDF5, TIFF])
def test_numbers_of_things_may_be_of_any_type(mimetype: str, kind: Any) -> None:
    parameters: Document = {"dataset": "/x"} if mimetype == HDF5 else {"template": "{:d}"}
    parameters |= {"multiplier": kind(2), "chunk_shape": [kind(1), kind(2)]}
    parameters |= {"files_per_datum": kind(2)} if mimetype == TIFF else {}
    consolidator = consolidator_factory(
        resource(mimetype, **parameters), descriptor([kind(4), kind(5)])
    )
    consolidator.consume_stream_datum(datum(0, 3))
    source = consolidator.get_data_source()
    assert source.structure.shape == (3, 2, 4, 5)
    assert source.structure.chunks == ((1, 1, 1), (2,), (4,), (5,))
    json.dumps([source.structure.shape, source.structure.chunks, consolidator.metadata])


@pytest.mark.parametrize("kind", [float, np.int64, np.float32])
def test_ranges_may_be_of_any_type_of_numbers(kind: Any) -> None:
    consolidator = consolidator_factory(resource(HDF5, dataset="/x"), descriptor())
    patch = consolidator.consume_stream_datum(datum(kind(0), kind(3)))
    assert patch == Patch((3,), (0,))
    json.dumps(consolidator.get_data_source().structure.shape)


@pytest.mark.parametrize("multiplier", [1.5, "2", float("nan"), float("inf"), -1.0, [2]])
def test_what_is_no_number_of_things_is_refused(multiplier: Any) -> None:
    with pytest.raises(InvalidDocument, match="multiplier"):
        consolidator_factory(
            resource(HDF5, dataset="/x", multiplier=multiplier), descriptor([4, 4])
        )


@pytest.mark.parametrize("mimetype", [HDF5, TIFF])
@pytest.mark.parametrize(
    ("chunk_shape", "expected"),
    [
        ([0], ((3,), (2,), (4,))),
        ([0, 1], ((3,), (1, 1), (4,))),
        ([1, 0, 0], ((1, 1, 1), (2,), (4,))),
        ([2, 0, 3], ((2, 1), (2,), (3, 1))),
    ],
)
def test_a_size_of_0_is_that_of_the_whole_dimension(
    mimetype: str, chunk_shape: list[int], expected: Any
) -> None:
    consolidator = consolidator_factory(
        resource(mimetype, dataset="/x", template="{:d}", chunk_shape=chunk_shape),
        descriptor([2, 4]),
    )
    consolidator.consume_stream_datum(datum(0, 3))
    assert consolidator.get_data_source().structure.chunks == expected


@pytest.mark.parametrize(
    ("chunk_shape", "rows"), [([0], (6,)), ([0, 1], (6,)), ([2, 0], (2, 2, 2))]
)
@pytest.mark.parametrize("mimetype", [HDF5, TIFF])
def test_a_size_of_0_is_that_of_all_rows_or_of_a_file(
    mimetype: str, chunk_shape: list[int], rows: tuple[int, ...]
) -> None:
    consolidator = consolidator_factory(
        resource(
            mimetype, dataset="/x", template="{:d}", chunk_shape=chunk_shape, join_method="concat"
        ),
        descriptor([2, 4]),
    )
    consolidator.consume_stream_datum(datum(0, 3))
    assert consolidator.get_data_source().structure.chunks[0] == rows
    assert len(consolidator.assets) == 3


def test_patch_is_the_part_that_the_datum_adds() -> None:
    consolidator = consolidator_factory(
        resource(HDF5, dataset="/x", join_method="concat"), descriptor([5, 4])
    )
    consolidator.consume_stream_datum(datum(0, 2))
    assert consolidator.consume_stream_datum(datum(2, 3)) == Patch((5, 4), (10, 0))


def test_combined_patch_covers_all() -> None:
    patches = [Patch((2, 4), (3, 0)), Patch((1, 2), (7, 3)), Patch((1, 1), (5, 1))]
    assert Patch.combine_patches(patches) == Patch((5, 5), (3, 0))
    assert Patch.combine_patches(patches[:1]) == patches[0]


@pytest.mark.parametrize(
    ("shape", "dims", "join_method", "expected"),
    [
        ([4, 5], ["y", "x"], "stack", ("time", "y", "x")),
        ([4, 5], ["y", "x"], "concat", ("y", "x")),
        ([4, 5], [], "stack", None),
        pytest.param([1], ["x"], "stack", None, id="names of other dimensions than it has"),
    ],
)
def test_dims_name_all_dimensions_or_none(
    shape: list[int], dims: list[str], join_method: str, expected: Any
) -> None:
    consolidator = consolidator_factory(
        resource(HDF5, dataset="/x", join_method=join_method), descriptor(shape, dims=dims)
    )
    assert consolidator.structure().dims == expected


@pytest.mark.parametrize(
    ("dtype_numpy", "expected"),
    [
        (None, "<f8"),
        ("<u2", "<u2"),
        ("|b1", "|b1"),
        ("<U5", "<U5"),
        ("<M8[ns]", "<M8[ns]"),
        ([["a", "<f8"], ["b", "<i4"]], [("a", "<f8"), ("b", "<i4")]),
        ([["a", "<f8", [2]]], [("a", "<f8", (2,))]),
        ([["a", [["x", "<i4"], ["y", "<i4"]]]], [("a", [("x", "<i4"), ("y", "<i4")])]),
    ],
)
def test_data_type_is_that_of_the_descriptor(dtype_numpy: Any, expected: Any) -> None:
    more = {} if dtype_numpy is None else {"dtype_numpy": dtype_numpy}
    consolidator = consolidator_factory(resource(HDF5, dataset="/x"), descriptor([3], **more))
    assert consolidator.data_type.to_numpy_dtype() == np.dtype(expected)


def test_rows_without_sequence_number_are_skips() -> None:
    consolidator = consolidator_factory(resource(HDF5, dataset="/x"), descriptor())
    consolidator.consume_stream_datum(datum(0, 3))
    assert not consolidator.has_skips
    consolidator.consume_stream_datum(datum(3, 8, seq_nums=(4, 6)))
    assert consolidator.has_skips
    assert dict(consolidator._seqnums_to_indices_map) == {1: 0, 2: 1, 3: 2, 4: 3, 5: 4}
    assert consolidator.shape == (5,)  # they are no rows


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 9)), max_size=12))
def test_row_map_is_a_dictionary(entries: list[tuple[int, int, int]]) -> None:
    rows, expected = RowMap(), {}
    for seq_num, index, length in entries:
        rows.add(seq_num, index, length)
        expected.update({seq_num + i: index + i for i in range(length)})
        assert len(rows) == len(expected)
    assert dict(rows) == expected
    assert 1000 not in rows


# -- formats --------------------------------------------------------------------------------------


def test_hdf5_parameters() -> None:
    given_ = {"dataset": "/x", "slice": "(:,0)", "squeeze": True, "swmr": False, "locking": True}
    full = consolidator_factory(resource(HDF5, **given_, other=1), descriptor())
    assert full.get_data_source().parameters == given_
    bare = consolidator_factory(resource(HDF5, dataset="/x", slice="", squeeze=False), descriptor())
    assert bare.get_data_source().parameters == {"dataset": "/x", "swmr": True, "locking": None}


def test_hdf5_files_of_several_resources_follow_one_another() -> None:
    consolidator = consolidator_factory(
        resource(HDF5, "file://localhost/a.h5", dataset="/x", chunk_shape=[2]), descriptor([4])
    )
    consolidator.consume_stream_datum(datum(0, 2))
    for uid, uri in [("2", "file://localhost/b.h5"), ("3", "file://localhost/b.h5")]:
        consolidator.update_from_stream_resource(
            resource(HDF5, uri, uid, dataset="/x", chunk_shape=(2,))
        )
    consolidator.consume_stream_datum(datum(2, 5, uid="2"))
    assert names(consolidator) == ["a.h5", "b.h5"]
    assert consolidator.shape == (5, 4)


@pytest.mark.parametrize("other", [{"dataset": "/y"}, {"dataset": "/x", "chunk_shape": [1]}])
def test_hdf5_files_must_be_alike(other: Document) -> None:
    consolidator = consolidator_factory(resource(HDF5, dataset="/x"), descriptor())
    before = consolidator.get_data_source()
    with pytest.raises(InvalidDocument, match=r"'det'.*'second'"):
        consolidator.update_from_stream_resource(resource(HDF5, uid="second", **other))
    assert consolidator.get_data_source() == before


def test_hdf5_with_template_is_multipart() -> None:
    made = HDF5Consolidator(resource(HDF5, dataset="/x", template="%d.h5"), descriptor([4]))
    assert isinstance(made, MultipartHDF5Consolidator)
    made.consume_stream_datum(datum(0, 2))
    assert names(made) == ["0.h5", "1.h5"]
    assert made.get_data_source().parameters == {"dataset": "/x", "swmr": True, "locking": None}


def test_csv_appends_rows_and_files() -> None:
    consolidator = consolidator_factory(
        resource(CSV, "file://localhost/a.csv", sep=" ", other=1), descriptor([3, 2])
    )
    consolidator.consume_stream_datum(datum(0, 2))
    consolidator.update_from_stream_resource(resource(CSV, "file://localhost/b.csv"))
    consolidator.consume_stream_datum(datum(2, 3))
    assert names(consolidator) == ["a.csv", "b.csv"]
    assert consolidator.shape == (9, 2)


def test_csv_parameters_are_those_of_the_reader() -> None:
    made = consolidator_factory(resource(CSV, sep=" ", names=["a"], other=1), descriptor([3, 2]))
    assert isinstance(made, CSVConsolidator)
    assert made.adapter_parameters() == {"header": None, "sep": " ", "names": ["a"]}


@pytest.mark.parametrize("shape", [[], [1], [4, 5]])
def test_npy_documents_need_no_template(shape: list[int]) -> None:
    doc = resource(NPY, "file://localhost/data/abc", index=0)
    before = copy.deepcopy(doc)
    consolidator = consolidator_factory(doc, descriptor(shape))
    consolidator.consume_stream_datum(datum(0, 1))
    consolidator.update_from_stream_resource(resource(NPY, "file://localhost/data/def", "2"))
    consolidator.consume_stream_datum(datum(1, 2, uid="2"))
    assert doc == before
    assert isinstance(consolidator, NPYConsolidator)
    assert names(consolidator) == ["abc_0.npy", "def_0.npy"]
    assert consolidator.structure().chunks[0] == (1, 1)


def test_opaque_file_is_registered_once_for_all_rows() -> None:
    consolidator = consolidator_factory(resource(BYTES, "file://localhost/a.raw"), descriptor())
    assert consolidator.get_data_source().assets == []
    assert consolidator.consume_stream_datum(datum(2, 5)) == Patch((3,), (2,))
    consolidator.consume_stream_datum(datum(5, 9))
    source = consolidator.get_data_source()
    assert names(source) == ["a.raw"]
    assert source.structure_family == StructureFamily.bytes
    assert source.management == Management.external
    assert consolidator.notes == []


def test_opaque_files_may_be_numbered() -> None:
    doc = resource(BYTES, template="%s%s_%3.3d.raw", filename="scan", spec="SPE")
    consolidator = consolidator_factory(doc, descriptor())
    consolidator.consume_stream_datum(datum(0, 2))
    assert names(consolidator) == ["scan_000.raw", "scan_001.raw"]
    assert consolidator.metadata == {"spec": "SPE"}


def test_type_that_only_the_server_knows_is_an_array_of_that_type() -> None:
    consolidator = consolidator_factory(resource("application/x-own"), descriptor([4]))
    consolidator.consume_stream_datum(datum(0, 3))
    source = consolidator.get_data_source()
    assert (source.mimetype, source.structure.shape) == ("application/x-own", (3, 4))
    assert "application/x-own" not in CONSOLIDATOR_REGISTRY


def test_type_that_no_one_knows_can_be_registered_as_bytes_with_a_note() -> None:
    doc = resource("application/x-own", "file://localhost/a.own")
    consolidator = opaque_consolidator(doc, "the server does not know the type")
    consolidator.consume_stream_datum(datum(0, 3))
    source = consolidator.get_data_source()
    assert (source.mimetype, names(source)) == (BYTES, ["a.own"])
    assert consolidator.metadata == {"mimetype": "application/x-own"}
    assert "'det'" in consolidator.notes[0]
    assert "application/x-own" in consolidator.notes[0]


def test_data_of_varying_shape_are_registered_as_bytes_with_a_note() -> None:
    consolidator = consolidator_factory(resource(HDF5, dataset="/x"), descriptor([None, 3]))
    assert isinstance(consolidator, BytesConsolidator)
    assert "shape varies" in consolidator.notes[0]


@pytest.mark.parametrize(
    ("stream", "parameters"),
    [
        (descriptor([4], dtype_numpy="|O"), {}),
        (descriptor([4]), {"chunk_shape": [-1]}),
        (descriptor([4]), {"chunk_shape": [1, 1, 1]}),
        ({"data_keys": {"det": {"dtype": "array"}}}, {}),
    ],
    ids=["type", "chunks", "dimensions of chunks", "shape"],
)
def test_files_of_an_unknown_type_that_are_no_array_are_bytes_with_a_note(
    stream: Document, parameters: Document
) -> None:
    consolidator = consolidator_factory(resource("application/x-own", **parameters), stream)
    assert isinstance(consolidator, BytesConsolidator)
    assert "'det'" in consolidator.notes[0]
    assert "'res'" in consolidator.notes[0]


def test_metadata_say_how_many_frames_a_point_has() -> None:
    doc = resource(TIFF, template="{:d}", multiplier=3, spec="AD_TIFF")
    assert consolidator_factory(doc, descriptor([4, 4])).metadata == {
        "spec": "AD_TIFF",
        "frame_per_point": 3,
    }


def test_data_source_is_a_copy() -> None:
    consolidator = consolidator_factory(resource(TIFF, template="{:d}"), descriptor([4, 4]))
    before = consolidator.get_data_source()
    consolidator.consume_stream_datum(datum(0, 2))
    assert before.assets == []
    assert before.structure.shape == (0, 4, 4)
    twin = copy.deepcopy(consolidator)
    consolidator.consume_stream_datum(datum(2, 3))
    assert twin.shape == (2, 4, 4)
    assert copy.deepcopy(HDF5Consolidator(resource(HDF5, dataset="/x"), descriptor())).shape == (0,)


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("doc", "stream", "message"),
    [
        pytest.param(resource(HDF5), {"data_keys": {}}, "no such data key", id="no key"),
        pytest.param(
            resource(HDF5), {"data_keys": {"det": {"dtype": "array"}}}, "fixed", id="no shape"
        ),
        pytest.param(resource(HDF5), descriptor(), "which dataset", id="no dataset"),
        pytest.param(
            resource(HDF5, dataset="/x", chunk_shape=[-1]), descriptor(), "chunk_shape", id="minus"
        ),
        pytest.param(
            resource(HDF5, dataset="/x", chunk_shape="12"), descriptor(), "chunk_shape", id="text"
        ),
        pytest.param(
            resource(HDF5, dataset="/x", chunk_shape=[1, 2, 3]), descriptor([4]),
            "more dimensions", id="too many",
        ),
        pytest.param(
            resource(HDF5, dataset="/x", join_method="glue"), descriptor(), "join_method", id="join"
        ),
        pytest.param(
            resource(HDF5, dataset="/x", multiplier=-2), descriptor(), "multiplier", id="multiplier"
        ),
        pytest.param(
            resource(HDF5, dataset="/x"), descriptor(dtype_numpy="nonsense"), "the type", id="type"
        ),
        pytest.param(
            resource(HDF5, dataset="/x"), descriptor(dtype_numpy="|O"), "the type", id="objects"
        ),
        pytest.param(resource(TIFF), descriptor([4, 4]), "no template", id="no template"),
        pytest.param(
            resource(TIFF, template="a.tif"), descriptor([4, 4]), "same name", id="no number"
        ),
        pytest.param(
            resource(TIFF, template="{a:d}.tif"), descriptor([4, 4]), "cannot be made", id="name"
        ),
        pytest.param(
            resource(TIFF, template="{:d}{:d}"), descriptor([4, 4]), "cannot be made", id="two"
        ),
        pytest.param(
            resource(TIFF, template="{:d", filename="a"), descriptor([4, 4]), "cannot be made",
            id="unfinished",
        ),
        pytest.param(
            resource(TIFF, template="{:d}", files_per_datum=0.5), descriptor([4, 4]),
            "files_per_datum", id="files",
        ),
        pytest.param(resource(BYTES, template="{a}"), descriptor(), "cannot be made", id="bytes"),
    ],
)  # fmt: skip
def test_bad_documents_are_refused_with_key_and_resource(
    doc: Document, stream: Document, message: str
) -> None:
    with pytest.raises(InvalidDocument, match=rf"'det' .*'res'.*{message}") as caught:
        consolidator_factory(doc, stream).get_data_source()
    assert caught.value.hint


@pytest.mark.parametrize("name", ["uri", "mimetype", "data_key"])
def test_resource_without_a_field_is_refused(name: str) -> None:
    doc = {k: v for k, v in resource(HDF5, dataset="/x").items() if k != name}
    with pytest.raises(InvalidDocument, match=f"no '{name}'"):
        consolidator_factory(doc, descriptor())


@pytest.mark.parametrize(
    "wrong",
    [
        {"indices": {"start": 3, "stop": 2}},
        {"indices": {"start": -1, "stop": 2}},
        {"indices": {"start": 0}},
        {"indices": None},
        {"seq_nums": {"start": "a", "stop": 2}},
    ],
)
@pytest.mark.parametrize("mimetype", [HDF5, TIFF])
def test_datum_without_ranges_is_refused_and_changes_nothing(
    mimetype: str, wrong: Document
) -> None:
    consolidator = consolidator_factory(
        resource(mimetype, dataset="/x", template="{:d}"), descriptor([4, 4])
    )
    with pytest.raises(InvalidDocument, match=f"'det'.*{next(iter(wrong))}"):
        consolidator.consume_stream_datum({**datum(0, 1), **wrong})
    assert consolidator.shape == (0, 4, 4)
    assert consolidator.assets == []


def test_class_refuses_other_types() -> None:
    with pytest.raises(InvalidDocument, match=r"TIFFConsolidator cannot handle.*x-hdf5"):
        TIFFConsolidator(resource(HDF5), descriptor())
    with pytest.raises(ValueError, match="cannot handle"):
        BytesConsolidator(resource(HDF5), descriptor())


def test_files_of_one_key_have_one_type() -> None:
    consolidator = consolidator_factory(resource(BYTES), descriptor())
    with pytest.raises(InvalidDocument, match="its MIME type is"):
        consolidator.update_from_stream_resource(resource(TIFF, template="{:d}"))


# -- classes of beamlines -------------------------------------------------------------------------


def test_own_class_can_do_what_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class MasterFiles(HDF5Consolidator):
        supported_mimetypes = {"application/x-hdf5;type=master"}  # noqa: RUF012

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.assets[0].parameter = "master"
            self.chunk_shape = self.chunk_shape or (1,)

        def adapter_parameters(self) -> dict[str, Any]:
            return {"image": self._sres_parameters["image"]}

        def consume_stream_datum(self, doc: Mapping[str, Any]) -> Patch:
            uri = f"{self.uri}_{self._num_rows}"
            self.assets.append(Asset(uri, is_directory=False, parameter="data", num=None))
            return super().consume_stream_datum(doc)

    (mimetype,) = MasterFiles.supported_mimetypes
    monkeypatch.setitem(CONSOLIDATOR_REGISTRY, mimetype, MasterFiles)
    consolidator = consolidator_factory(resource(mimetype, "file:///m", image=1), descriptor([4]))
    consolidator.consume_stream_datum(datum(0, 2))
    source = consolidator.get_data_source()
    assert [asset.parameter for asset in source.assets] == ["master", "data"]
    assert source.parameters == {"image": 1}
    assert source.structure.chunks == ((1, 1), (4,))


def test_own_class_may_start_from_the_base_and_clear_the_assets() -> None:
    class Directory(ConsolidatorBase):
        supported_mimetypes = {"application/x-directory"}  # noqa: RUF012
        join_method = "concat"
        join_chunks = False

        def __init__(self, stream_resource: Document, descriptor: Document) -> None:
            super().__init__(stream_resource, descriptor)
            self.assets.clear()
            self.data_type = type(self.data_type).from_numpy_dtype(np.dtype("u1"))

    consolidator = Directory(resource("application/x-directory"), descriptor([2]))
    consolidator.consume_stream_datum(datum(0, 2))
    assert consolidator.get_data_source().structure.shape == (4,)
    with pytest.raises(InvalidDocument, match="Override update_from_stream_resource"):
        consolidator.update_from_stream_resource(resource("application/x-directory"))


def test_own_image_format_needs_a_name_only() -> None:
    class CBF(MultipartRelatedConsolidator):
        supported_mimetypes = {"multipart/related;type=image/cbf"}  # noqa: RUF012

    consolidator = CBF(
        resource("multipart/related;type=image/cbf", template="{:d}.cbf"), descriptor([4, 4])
    )
    consolidator.consume_stream_datum(datum(0, 1))
    assert names(consolidator) == ["0.cbf"]


@pytest.mark.parametrize(
    ("changes", "declared", "words"),
    [
        ({"mimetype": ["x"]}, {}, "mimetype is"),
        ({"uri": None}, {}, "uri is None"),
        ({"data_key": 7}, {}, "data_key is 7"),
        ({"parameters": [1]}, {}, "parameters are"),
        ({}, {"shape": [[4]]}, "shape is"),
        ({}, None, "its data key is 'array'"),
    ],
)
def test_fields_of_another_kind_are_named(changes: Document, declared: Any, words: str) -> None:
    files = {**resource(HDF5, dataset="/x"), **changes}
    stream = (
        {"data_keys": {"det": "array"}}
        if declared is None
        else descriptor(**{"shape": [4], **declared})
    )
    with pytest.raises(InvalidDocument, match=words):
        consolidator_factory(files, stream)


def test_dims_of_another_kind_are_none() -> None:
    made = consolidator_factory(resource(HDF5, dataset="/x"), descriptor([4], dims=7))
    assert made.structure().dims is None


def test_own_class_whose_datums_bring_files_has_one_for_each_row() -> None:
    class Own(ConsolidatorBase):
        supported_mimetypes = {"application/x-own"}  # noqa: RUF012

        def consume_stream_datum(self, doc: Mapping[str, Any]) -> Patch:
            return super().consume_stream_datum(doc)

    for made, shape in ((Own, (3, 4)), (ConsolidatorBase, (5, 4))):
        consolidator = made(resource("application/x-own"), descriptor([4]))
        for index in (4, 2, 3):
            consolidator.consume_stream_datum(datum(index, index + 1))
        assert consolidator.shape == shape
        assert consolidator.frames.exact == (made is Own)
