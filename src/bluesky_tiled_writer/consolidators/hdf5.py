"""Datasets in HDF5 files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import ConsolidatorBase
from .files import StreamDocument, parameters_of
from .frames import Selection
from .image_sequence import MultipartRelatedConsolidator
from .shapes import count

HDF5 = "application/x-hdf5"


class HDF5Consolidator(ConsolidatorBase):
    """A dataset in one HDF5 file, or in several that are read one after another.

    With a ``template`` in the parameters there is at least one file for each index, and a
    `MultipartHDF5Consolidator` is made instead.
    """

    supported_mimetypes = {HDF5}  # noqa: RUF012 - ClassVar in the base
    selection = Selection.SLICE

    def __new__(  # noqa: D102
        cls, stream_resource: StreamDocument | None = None, descriptor: StreamDocument | None = None
    ) -> Any:
        given = stream_resource or {}  # nothing where a consolidator is copied
        if given.get("mimetype") == HDF5 and parameters_of(given).get("template"):
            return MultipartHDF5Consolidator(given, descriptor or {})
        return super().__new__(cls)

    def adapter_parameters(self) -> dict[str, Any]:
        """Return the parameters that say how to read the dataset.

        Returns
        -------
        dict
            ``dataset``, its path in the file; ``swmr`` and ``locking``, for opening the file;
            ``slice`` and ``squeeze``, the part of the dataset to read. The slice also selects the
            frames of the events: a file may have more.

        Raises
        ------
        InvalidDocument
            If the StreamResource does not name the dataset.
        """
        return _parameters(self, self._slice())

    def update_from_stream_resource(self, stream_resource: StreamDocument) -> None:
        """Append another file with the same dataset.

        Raises
        ------
        InvalidDocument
            If dataset or chunks differ, or the file is of another type.
        """
        first = self._sres_parameters
        later = parameters_of(stream_resource)
        for name in ("dataset", "chunk_shape", "channel", "slice"):
            before, after = (_plain(parameters.get(name)) for parameters in (first, later))
            if before != after:
                raise self._invalid(
                    f"its {name} is {after!r}, but that of earlier files of the key is {before!r}",
                    hint="All files of a data key in one stream must be alike.",
                    uid=stream_resource.get("uid"),
                )
        self._take_over(stream_resource)
        self._sres_parameters = first
        self._add_asset(self.uri)

    # -- the files themselves -------------------------------------------------------------------

    @property
    def rows_matter(self) -> bool:
        """True if there are several files: one with more frames than announced moves the others."""
        return len(self.assets) > 1 and self._selection() is Selection.SLICE

    def take_shapes(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Take the shapes of the datasets; return True if other rows are to be registered."""
        ndim, datum = len(shapes[0]), self.datum_shape
        if self.join_method == "stack" and ndim == len(datum) + 1:
            size = 1
        elif datum and ndim == len(datum):
            size = datum[0] or 1
        else:
            return False  # the slice of a channel, for example
        self._lengths_seen = [shape[0] // size for shape in shapes]
        frames = self.frames.with_lengths(self._lengths_seen)
        self.frames = frames or self.frames
        return frames is not None

    # -- the part of the dataset ----------------------------------------------------------------

    def _selection(self) -> Selection:
        """Return whether frames can be selected: not if a slice is given that does so itself."""
        first = _given_slice(self).partition(",")[0]
        return Selection.SLICE if first in (":", "::") else Selection.NOTHING

    def _slice(self) -> Any:
        """Return the slice of the dataset to register, if there is any."""
        given = _given_slice(self)
        if self._selection() is Selection.SLICE and (rows := self._rows_slice()):
            _, comma, rest = given.partition(",")
            return rows + comma + rest
        return _registered_slice(self)

    def _rows_slice(self) -> str | None:
        """Return the rows of the files to serve; None for all.

        The first ones are selected, too: a file may have more. Tiled leaves those out by itself
        only if rows have the shape that they have in the file, and other programs may take them
        for rows that the structure lacks.
        """
        begin, number, step = self.frames.slice()
        size = self._rows_per_index()
        if not number:
            return None
        if (begin, step) == (0, 1):
            if not self._has_rows():
                return None
            # Chunks may be given as those of the array, although its frames are one after another
            # in the file. If they are not, Tiled leaves out what is too much.
            size = max(size, self.datum_shape[0] if len(self.datum_shape) > 2 else 1)
        if step < 0:
            end = begin + number * step
            return f"{begin}:{end if end >= 0 else ''}:{step}"
        first, last = begin * size, (begin + (number - 1) * step + 1) * size
        return f"{first or ''}:{last}" + (f":{step}" if step != 1 else "")

    def _has_rows(self) -> bool:
        """Return True if the dataset has a dimension for rows, so that these can be selected.

        A dataset of which nothing is known may also be the only frame itself.
        """
        chunked = len(self.chunk_shape)
        known = chunked > 1 or (chunked == 1 and not self.datum_shape)
        return known or self.frames.longest > 1 or "frame_per_point" in self.metadata


class MultipartHDF5Consolidator(MultipartRelatedConsolidator):
    """A dataset in HDF5 files that are named by a template."""

    supported_mimetypes = {HDF5}  # noqa: RUF012 - ClassVar in the base

    def adapter_parameters(self) -> dict[str, Any]:
        """Return the parameters of `HDF5Consolidator`."""
        return _parameters(self, _registered_slice(self))


def _given_slice(files: ConsolidatorBase) -> str:
    """Return the slice of the StreamResource without brackets, or that of its channel.

    Only in old documents, those with a spec, is a channel a part of a dataset.
    """
    given = files._sres_parameters.get("slice")
    if given:
        return str(given).strip("()[]").replace(" ", "")
    channel = files._sres_parameters.get("channel")
    is_old = bool(files._sres_parameters.get("spec"))
    if channel is None or not is_old or sum(size > 1 for size in files.datum_shape) > 1:
        return ":"
    number = count(channel)
    if number is None or number < 1:
        raise files._invalid(
            f"its channel is {channel!r}", hint="It must be an integer; 1 is the first."
        )
    return f":,{number - 1}"


def _registered_slice(files: ConsolidatorBase) -> Any:
    """Return the slice to register if no frames need to be selected; None for all of a dataset."""
    given = _given_slice(files)
    return files._sres_parameters.get("slice") or (given if given != ":" else None)


def _parameters(files: ConsolidatorBase, part: Any) -> dict[str, Any]:
    given = files._sres_parameters
    if not given.get("dataset"):
        raise files._invalid(
            "it does not say which dataset of the file is meant",
            hint="Its parameters need a dataset, like '/entry/data/data'.",
        )
    return {
        "dataset": given["dataset"],
        **({"slice": part} if part else {}),
        **({"squeeze": given["squeeze"]} if given.get("squeeze") else {}),
        "swmr": given.get("swmr", True),
        "locking": given.get("locking"),
    }


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value or ()
