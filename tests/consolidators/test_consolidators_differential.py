"""Consolidators with any documents: however they are split, and compared with others."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import pytest
from external_files import BYTES, CSV, HDF5, JPEG, NPY, TIFF, Document, datum, descriptor, resource
from hypothesis import assume, given
from hypothesis import strategies as st
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import DataSource

from bluesky_tiled_writer import consolidators
from bluesky_tiled_writer.consolidators import (
    CONSOLIDATOR_REGISTRY,
    HDF5Consolidator,
    MultipartRelatedConsolidator,
    Patch,
    consolidator_factory,
)
from bluesky_tiled_writer.errors import InvalidDocument

# -- any split of the datums ----------------------------------------------------------------------

MIMETYPES = st.sampled_from([HDF5, TIFF, JPEG, NPY, CSV, BYTES])
SIZES = st.lists(st.integers(1, 6), max_size=3)


@st.composite
def documents(draw: st.DrawFn) -> tuple[Document, Document]:
    """A StreamResource and a descriptor, any options of which make sense."""
    mimetype = draw(MIMETYPES)
    shape = draw(SIZES)
    parameters: Document = {"dataset": "/x"}
    optional = {
        "join_method": st.sampled_from(["stack", "concat"]),
        "join_chunks": st.booleans(),
        "chunk_shape": st.lists(st.integers(1, 5), max_size=3),
        "multiplier": st.integers(1, 4),
        "files_per_datum": st.integers(1, 3),
        "slice": st.just("(:,0)"),
        "sep": st.just(" "),
        "spec": st.just("SPEC"),
    }
    for name in draw(st.lists(st.sampled_from(sorted(optional)), unique=True)):
        parameters[name] = draw(optional[name])
    template = st.sampled_from(["{:d}.x", "%s%s_%3.3d.x", "{:s}_{:04d}.x", "/%s_%d.x"])
    if mimetype in (TIFF, JPEG) or draw(st.booleans()):
        parameters |= {"template": draw(template), "filename": "name"}
    more: Document = {"dtype_numpy": draw(st.sampled_from(["<u2", [["a", "<f8"], ["b", "<i4"]]]))}
    if draw(st.booleans()):
        more["dims"] = [f"dim_{i}" for i in range(len(shape))]
    return resource(mimetype, **parameters), descriptor(shape, **more)


def consume(
    doc: Document, stream: Document, ranges: Iterable[Sequence[int]], factory: Any
) -> tuple[DataSource, list[Any], Any]:
    consolidator = factory(copy.deepcopy(doc), copy.deepcopy(stream))
    patches = [consolidator.consume_stream_datum(datum(start, stop)) for start, stop in ranges]
    return consolidator.get_data_source(), patches, consolidator


@given(documents(), st.integers(1, 12), st.data())
def test_any_split_of_the_datums_gives_the_same_data_source(
    docs: tuple[Document, Document], rows: int, data: st.DataObject
) -> None:
    cuts = [*sorted(data.draw(st.sets(st.integers(0, rows)))), rows]
    ranges = list(itertools.pairwise([0, *cuts]))
    try:
        once, (patch,), _ = consume(*docs, [(0, rows)], consolidator_factory)
    except InvalidDocument:
        with pytest.raises(InvalidDocument):
            consume(*docs, ranges, consolidator_factory)
        return
    split, patches, _ = consume(*docs, ranges, consolidator_factory)
    assert split == once
    assert Patch.combine_patches(patches) == patch


# -- the same as bluesky-tiled-plugins ------------------------------------------------------------


@pytest.fixture(scope="module")
def peer() -> ModuleType:
    """The consolidators of bluesky-tiled-plugins, which readers know."""
    return pytest.importorskip("bluesky_tiled_plugins.writing.consolidators")


def plain(source: DataSource) -> Document:
    """A data source for comparison: Tiled takes a file once, and dims must fit the shape."""
    result = dataclasses.asdict(source)
    assets = {asset.pop("data_uri"): asset for asset in result["assets"]}
    result["assets"] = [(uri, {**asset, "num": i}) for i, (uri, asset) in enumerate(assets.items())]
    if source.structure_family == StructureFamily.array:
        dims, shape = result["structure"]["dims"], result["structure"]["shape"]
        result["structure"]["dims"] = dims if dims and len(dims) == len(shape) else None
    return result


def cut(source: DataSource, own: Any) -> Document:
    """A data source of theirs, with the slice of ours.

    They serve all frames of a file, or none if it has more than the rows need: after a scan that
    was aborted, say. Here those of the events are selected.
    """
    parameters = own.get_data_source().parameters
    begin, number, step = own.frames.slice()
    assert (begin, number, step) == (0, own.frames.count, 1)
    given = source.parameters.get("slice", ":")
    if isinstance(own, HDF5Consolidator) and parameters.get("slice", ":") != given:
        rows, *others = parameters["slice"].split(",")
        assert rows in (f":{number * size}" for size in (1, *own.datum_shape[:1]))
        assert others == given.strip("()").split(",")[1:]
        source.parameters["slice"] = parameters["slice"]
    return plain(source)


@pytest.mark.plugins
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Number of frames per file")
@given(docs=documents(), rows=st.integers(1, 6), more=st.integers(0, 6))
def test_data_source_is_that_of_bluesky_tiled_plugins(
    peer: ModuleType, docs: tuple[Document, Document], rows: int, more: int
) -> None:
    ranges = [(0, rows), (rows, rows + more)]
    try:
        expected, patches, consolidator = consume(*docs, ranges, peer.consolidator_factory)
    except (ValueError, IndexError):
        return  # what it cannot describe, other tests are about
    source, own_patches, own = consume(*docs, ranges, consolidator_factory)
    if isinstance(own, MultipartRelatedConsolidator) and len(own.datum_shape) == 1:
        # There, a row of numbers without more ado is one file a number, which none can read.
        stated = {"multiplier", "files_per_datum"} & docs[0]["parameters"].keys()
        assume(stated or own.join_method == "concat")
    assert plain(source) == (cut(expected, own) if source.mimetype == HDF5 else plain(expected))
    assert list(map(dataclasses.asdict, own_patches)) == list(map(dataclasses.asdict, patches))
    assert own.metadata == consolidator.metadata


@pytest.mark.plugins
@pytest.mark.parametrize("mimetype", [HDF5, TIFF, BYTES])
def test_files_of_two_resources_are_those_of_bluesky_tiled_plugins(
    peer: ModuleType, mimetype: str
) -> None:
    parameters = {"dataset": "/x"} if mimetype == HDF5 else {"template": "a_{:d}"}
    later = {"dataset": "/x"} if mimetype == HDF5 else {"template": "b_{:d}"}
    first, second = "file://localhost/", "file://localhost/b" if mimetype == HDF5 else None
    sources, own = [], None
    for factory in (consolidator_factory, peer.consolidator_factory):
        made = factory(resource(mimetype, first, **parameters), descriptor([4, 4]))
        made.consume_stream_datum(datum(0, 2))
        made.update_from_stream_resource(resource(mimetype, second or first, "2", **later))
        made.consume_stream_datum(datum(2, 4, uid="2"))
        sources.append(made.get_data_source())
        own = own or made
    source, expected = sources
    assert plain(source) == (cut(expected, own) if mimetype == HDF5 else plain(expected))


@pytest.mark.plugins
def test_names_are_those_of_bluesky_tiled_plugins(peer: ModuleType) -> None:
    for name in ("ConsolidatorBase", "MultipartRelatedConsolidator", "BytesConsolidator"):
        theirs = {n for n in vars(getattr(peer, name)) if not n.startswith("_")}
        assert theirs - {"get_adapter"} <= {*dir(getattr(consolidators, name)), "structure"}
    assert peer.CONSOLIDATOR_REGISTRY.keys() == CONSOLIDATOR_REGISTRY.keys()
