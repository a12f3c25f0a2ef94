"""Checks of a consolidator: documents and files in, the frames that a reader gets out."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from tiled.ndslice import NDBlock, NDSlice
from tiled.structures.data_source import DataSource

from bluesky_tiled_writer.consolidators import (
    Patch,
    consolidator_factory,
    file_uri,
    open_data_source,
)

from .datums import Batching, Feed, batchings

MOST_BLOCKS = 200
"""Blocks of the array that are read one by one, at most."""


@dataclass(frozen=True)
class ConsolidatorCase:
    """Documents and files of one external key, and what a reader must get.

    Parameters
    ----------
    documents : sequence of (str, dict)
        A descriptor, and StreamResources and StreamDatums of the key, in the order in which they
        are emitted. Other documents are ignored, so a whole run will do.
    frames : array_like, optional
        The whole array that a reader gets, rows first. None for files that are registered as
        bytes.
    files : sequence of str or Path, optional
        The files, or their URIs, in the order in which they are registered.
    chunks : tuple of tuple of int, optional
        The chunks of the array, one tuple for each dimension; not checked if None.
    dims : tuple of str, optional
        The names of the dimensions; not checked if None.
    data_key : str, optional
        The key, if the documents have StreamResources of several.
    tolerance : float
        The largest difference of an element that is accepted, in units of the frames; for formats
        that lose information, such as JPEG.
    adapter : type, optional
        The adapter that your server has for the MIME type, if it is not one of Tiled's own.
    factory : callable
        Makes the consolidator of a StreamResource and a descriptor; by default the one that is
        registered for the MIME type in `CONSOLIDATOR_REGISTRY`.
    """

    documents: Sequence[tuple[str, Mapping[str, Any]]]
    frames: Any = None
    files: Sequence[str | Path] | None = None
    chunks: tuple[tuple[int, ...], ...] | None = None
    dims: tuple[str, ...] | None = None
    data_key: str = ""
    tolerance: float = 0.0
    adapter: Any = None
    factory: Callable[[Any, Any], Any] = consolidator_factory

    def feed(self) -> Feed:
        """Return the documents of the key, ready to be fed to a consolidator."""
        return Feed(self.documents, self.data_key, self.factory)


def check_consolidator(case: ConsolidatorCase) -> DataSource:
    """Check all that this module can check of one case.

    Returns
    -------
    DataSource
        What would be registered in Tiled.

    Raises
    ------
    AssertionError
        If the consolidator or the files are not as the case says; the message names the key.
    InvalidDocument
        If the consolidator refuses the documents.
    """
    source = check_structure(case)
    check_growth(case)
    check_batchings(case)
    check_frames(case)
    return source


def check_structure(case: ConsolidatorCase) -> DataSource:
    """Check shape, type, chunks, dims and files of the data source, without opening a file."""
    feed = case.feed()
    before = copy.deepcopy(feed.documents)
    source: DataSource = feed.consolidator().get_data_source()
    _expect(feed.key, "documents after use", before, feed.documents)
    if case.files is not None:
        uris = [asset.data_uri for asset in source.assets]
        _expect(feed.key, "files", [file_uri(str(file)) for file in case.files], uris)
    numbers = [asset.num for asset in source.assets]
    _expect(feed.key, "numbers of the assets", list(range(len(numbers))), numbers)
    if case.frames is None:
        _expect(feed.key, "structure family", "bytes", str(source.structure_family.value))
        return source
    frames, structure = np.asarray(case.frames), source.structure
    _expect(feed.key, "structure family", "array", str(source.structure_family.value))
    _expect(feed.key, "shape", frames.shape, tuple(structure.shape))
    _expect(feed.key, "type", frames.dtype, structure.data_type.to_numpy_dtype())
    sums = tuple(sum(sizes) for sizes in structure.chunks)
    _expect(feed.key, "sum of the chunks", frames.shape, sums)
    if case.chunks is not None:
        _expect(feed.key, "chunks", case.chunks, tuple(map(tuple, structure.chunks)))
    if case.dims is not None:
        _expect(feed.key, "dims", tuple(case.dims), tuple(structure.dims or ()))
    return source


def check_growth(case: ConsolidatorCase) -> None:
    """Check that each datum adds rows and files, and says which block it adds."""
    feed = case.feed()
    patches: list[Patch] = []
    before: DataSource | None = None
    consolidator: Any = None
    for consolidator, patch in feed.steps(feed.datums):
        source = consolidator.get_data_source()
        patches.append(patch)
        if before is not None:
            after = [asset.data_uri for asset in source.assets]
            known = [asset.data_uri for asset in before.assets]
            _expect(feed.key, "files known before a datum", known, after[: len(known)])
        if case.frames is not None:
            shape = tuple(source.structure.shape)
            ends = tuple(map(sum, zip(patch.offset, patch.shape, strict=True)))
            if len(ends) != len(shape) or any(map(int.__gt__, ends, shape)):
                raise AssertionError(
                    f"{feed.key}: a datum says that it adds the block {patch}, which is not within"
                    f" the shape {shape} that it leads to."
                )
            if before is not None and shape[0] < before.structure.shape[0]:
                raise AssertionError(
                    f"{feed.key}: a datum makes the array shorter: {before.structure.shape} becomes"
                    f" {shape}."
                )
        kept = copy.deepcopy(source)
        consolidator.get_data_source().assets.clear()
        _expect(feed.key, "data source after it was changed", kept, consolidator.get_data_source())
        before = source
    if case.frames is not None and patches:
        covered = Patch.combine_patches(patches)
        whole = Patch(tuple(before.structure.shape), (0,) * len(covered.shape))  # type: ignore[union-attr]
        _expect(feed.key, "block of all datums together", whole, covered)


def check_batchings(case: ConsolidatorCase) -> None:
    """Check that it makes no difference how many rows each StreamDatum brings."""
    first: tuple[str, Any] | None = None
    for name, cut in batchings():
        result = _outcome(case, cut)
        if first is None:
            first = name, result
            continue
        for what, ours, theirs in zip(("source", "metadata"), first[1], result, strict=True):
            if ours != theirs:
                raise AssertionError(
                    f"{case.feed().key}: the {what} depends on how the datums are cut."
                    f" {_difference(ours, theirs, first[0], name)}"
                )


def check_frames(case: ConsolidatorCase) -> None:
    """Check what Tiled's adapter reads from the files: all, slices, and single blocks."""
    if case.frames is None:
        _check_bytes(case)
        return
    feed = case.feed()
    source = feed.consolidator().get_data_source()
    adapter, frames = open_data_source(source, case.adapter), np.asarray(case.frames)
    _same_frames(case, feed.key, "all frames", frames, adapter.read())
    for where in _slices(frames.shape):
        _same_frames(case, feed.key, f"frames{where}", frames[where], adapter.read(NDSlice(*where)))
    for block, where in _blocks(source.structure.chunks):
        read = adapter.read_block(NDBlock(*block))
        _same_frames(case, feed.key, f"block {block}", frames[where], read)


class ConsolidatorTests:
    """A base class for tests that pytest collects: one test for each check.

    Subclass it, name the class ``Test...``, and override `make_case`.
    """

    def make_case(self, directory: Path) -> ConsolidatorCase:
        """Write files to a directory, and return the case that describes them."""
        raise NotImplementedError(f"{type(self).__name__} needs a make_case(directory).")

    def test_structure(self, tmp_path: Path) -> None:
        """Shape, type, chunks, dims and files are as expected."""
        check_structure(self.make_case(tmp_path))

    def test_growth(self, tmp_path: Path) -> None:
        """Each datum adds rows and files."""
        check_growth(self.make_case(tmp_path))

    def test_batchings(self, tmp_path: Path) -> None:
        """It makes no difference how many rows each datum brings."""
        check_batchings(self.make_case(tmp_path))

    def test_frames(self, tmp_path: Path) -> None:
        """Tiled reads the expected frames from the files."""
        check_frames(self.make_case(tmp_path))


def _outcome(case: ConsolidatorCase, cut: Batching) -> tuple[Any, Any]:
    consolidator = case.feed().consolidator(cut)
    return consolidator.get_data_source(), getattr(consolidator, "metadata", None)


def _check_bytes(case: ConsolidatorCase) -> None:
    feed = case.feed()
    for asset in feed.consolidator().get_data_source().assets:
        path = Path(asset.data_uri.removeprefix("file://localhost"))
        if not path.is_file():
            raise AssertionError(f"{feed.key}: there is no file {asset.data_uri}.")


def _slices(shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    if not shape or not shape[0]:
        return
    yield (0,)
    yield (shape[0] - 1,)
    yield (slice(1, None),)
    yield (slice(None, None, 2),)
    if len(shape) > 1 and shape[-1]:
        yield (*(slice(None),) * (len(shape) - 1), slice(0, 1))


def _blocks(chunks: Sequence[Sequence[int]]) -> Iterator[tuple[Any, tuple[slice, ...]]]:
    """Yield the number of each block in each dimension, and the part of the array that it is."""
    edges = [np.cumsum([0, *sizes]).tolist() for sizes in chunks]
    every = itertools.product(*(range(len(sizes)) for sizes in chunks))
    for block in itertools.islice(every, MOST_BLOCKS):
        yield block, tuple(slice(e[i], e[i + 1]) for e, i in zip(edges, block, strict=True))


def _same_frames(
    case: ConsolidatorCase, key: str, what: str, expected: np.ndarray, read: Any
) -> None:
    got = np.asarray(read)
    _expect(key, f"shape of {what}", expected.shape, got.shape)
    _expect(key, f"type of {what}", expected.dtype, got.dtype)
    if case.tolerance:
        differs = np.abs(got.astype(float) - expected.astype(float)) > case.tolerance
    else:
        differs = np.asarray(got != expected)
        if expected.dtype.kind in "fc":
            differs &= ~(np.isnan(got) & np.isnan(expected))
    if differs.any():
        index = tuple(int(i) for i in np.argwhere(differs)[0])
        raise AssertionError(
            f"{key}: {what}: {int(differs.sum())} of {differs.size} elements differ. The first is"
            f" {index}: read {got[index]!r}, expected {expected[index]!r}."
        )


def _expect(key: str, what: str, expected: Any, got: Any) -> None:
    if expected != got:
        raise AssertionError(f"{key}: {what}: got {got!r}, expected {expected!r}.")


def _difference(ours: Any, theirs: Any, our_name: str, their_name: str) -> str:
    if isinstance(ours, DataSource) and isinstance(theirs, DataSource):
        for part in fields(ours):
            mine, other = getattr(ours, part.name), getattr(theirs, part.name)
            if mine != other:
                return f"Its {part.name} is {mine!r} {our_name}, but {other!r} {their_name}."
    return f"It is {ours!r} {our_name}, but {theirs!r} {their_name}."
