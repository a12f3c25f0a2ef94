"""Sequences of files, each with one frame or a few: TIFF, JPEG."""

from __future__ import annotations

from typing import Any

from tiled.structures.data_source import DataSource

from .base import ConsolidatorBase
from .files import Patch, StreamDocument, parameters_of
from .frames import Selection
from .numbered import NumberedFiles
from .shapes import count


class MultipartRelatedConsolidator(NumberedFiles, ConsolidatorBase):
    """Joins files named by a template (see `numbered`) to one array.

    One index stands for `files_per_datum` files with the same number of frames each. That is
    ``files_per_datum`` of the parameters; or, of the frames that are declared for an index, as
    many in each file as `chunk_shape` says. A `multiplier` without it means a file for each frame.

    Parameters
    ----------
    stream_resource, descriptor : mapping
        As for `ConsolidatorBase`; there must be a ``template`` in the parameters.

    Attributes
    ----------
    files_per_datum : int
        Files for each index.
    """

    selection = Selection.ANY
    _takes_files_again = True

    def __init__(self, stream_resource: StreamDocument, descriptor: StreamDocument) -> None:
        super().__init__(stream_resource, descriptor)
        self.assets.clear()  # datums name the files
        self.chunk_shape = self.chunk_shape or (1,)
        if self.join_method == "concat" and self._frames % (size := self._chunk_of_frames):
            self.notes.append(
                f"External key {self.data_key!r}: {size} frames a file do not"
                f" divide the {self._frames} frames of a datum; taken as one file a datum."
            )
            self.chunk_shape = (self._frames,)
        self.files_per_datum = self._files_per_datum(stream_resource)
        self._begin(self._series_of(stream_resource, number_needed=True))

    def consume_stream_datum(self, doc: StreamDocument) -> Patch:
        """Account for the rows of a StreamDatum, and register its files."""
        start, stop = self._frames_of_events(doc)
        patch = super().consume_stream_datum(doc)
        self._add_files(doc, start * self.files_per_datum, stop * self.files_per_datum)
        return patch

    def _locate(self, uid: Any, start: int, length: int) -> None:
        """Count the frames: whichever files they are in, those are registered in their order."""
        self.frames.add(0, start, length)

    def update_from_stream_resource(self, stream_resource: StreamDocument) -> None:
        """Continue with the files of another StreamResource of the same key.

        Raises
        ------
        InvalidDocument
            If they are of another type, or their template cannot be filled in.
        """
        files_per_datum = self._files_per_datum(stream_resource)
        series = self._series_of(stream_resource, number_needed=True)
        self._take_over(stream_resource)
        self.files_per_datum = files_per_datum
        self._begin(series)

    def get_data_source(self) -> DataSource:
        """Return the data source to register: a copy, which further documents do not change."""
        self.orig_chunks = self._file_chunks()
        return super().get_data_source()

    @property
    def _frames(self) -> int:
        """The number of frames in each datum."""
        return self.datum_shape[0] if self.datum_shape else 1

    @property
    def _chunk_of_frames(self) -> int:
        return self.chunk_shape[0] or self._frames

    def _files_per_datum(self, stream_resource: StreamDocument) -> int:
        stated = parameters_of(stream_resource).get("files_per_datum")
        files = count(stated) if stated else None
        if stated and (files is None or files < 1):
            raise self._invalid(
                f"its files_per_datum is {stated!r}",
                hint="It must be an integer of at least 1.",
                uid=stream_resource.get("uid"),
            )
        return files or max(self._frames // self._frames_per_file(), 1)

    def _frames_per_file(self) -> int:
        if not self.datum_shape:
            return 1
        if stated := self._sres_parameters.get("files_per_datum"):
            return max(self._frames // (count(stated) or 1), 1)
        if self.join_method == "concat":
            return self._chunk_of_frames
        if self.metadata.get("frame_per_point"):
            return 1
        chunk, datum = self.chunk_shape, self.datum_shape
        of_frames = len(chunk) == len(datum) > 1 and chunk[1:] == datum[1:]
        size = self._chunk_of_frames
        return size if of_frames and self._frames % size == 0 else self._frames

    def _file_chunks(self) -> tuple[tuple[int, ...], ...] | None:
        """Return the chunks of the files, one after another, if Tiled puts several into one row."""
        if self.join_method != "stack" or len(self.datum_shape) < 2 or not self.assets:
            return self.orig_chunks
        if self.files_per_datum < 2 or self._frames % self.files_per_datum:
            return self.orig_chunks
        frames = self._frames_per_file()
        file_shape = self.datum_shape[1:] if frames == 1 else (frames, *self.datum_shape[1:])
        return ((1,) * len(self.assets), *((size,) for size in file_shape))


class TIFFConsolidator(MultipartRelatedConsolidator):
    """TIFF files, with one page or several."""

    supported_mimetypes = {"multipart/related;type=image/tiff"}  # noqa: RUF012


class JPEGConsolidator(MultipartRelatedConsolidator):
    """JPEG files."""

    supported_mimetypes = {"multipart/related;type=image/jpeg"}  # noqa: RUF012
