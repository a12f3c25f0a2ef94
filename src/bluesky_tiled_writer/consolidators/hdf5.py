"""Datasets in HDF5 files."""

from __future__ import annotations

from typing import Any

from .base import ConsolidatorBase
from .files import StreamDocument, parameters_of
from .image_sequence import MultipartRelatedConsolidator

HDF5 = "application/x-hdf5"


class HDF5Consolidator(ConsolidatorBase):
    """A dataset in one HDF5 file, or in several that are read one after another.

    With a ``template`` in the parameters there is at least one file for each index, and a
    `MultipartHDF5Consolidator` is made instead.
    """

    supported_mimetypes = {HDF5}  # noqa: RUF012 - ClassVar in the base

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
            ``slice`` and ``squeeze``, the part of the dataset to read.

        Raises
        ------
        InvalidDocument
            If the StreamResource does not name the dataset.
        """
        return _parameters(self)

    def update_from_stream_resource(self, stream_resource: StreamDocument) -> None:
        """Append another file with the same dataset.

        Raises
        ------
        InvalidDocument
            If dataset or chunks differ, or the file is of another type.
        """
        first = self._sres_parameters
        later = parameters_of(stream_resource)
        for name in ("dataset", "chunk_shape"):
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


class MultipartHDF5Consolidator(MultipartRelatedConsolidator):
    """A dataset in HDF5 files that are named by a template."""

    supported_mimetypes = {HDF5}  # noqa: RUF012 - ClassVar in the base

    def adapter_parameters(self) -> dict[str, Any]:
        """Return the parameters of `HDF5Consolidator`."""
        return _parameters(self)


def _parameters(files: ConsolidatorBase) -> dict[str, Any]:
    given = files._sres_parameters
    if not given.get("dataset"):
        raise files._invalid(
            "it does not say which dataset of the file is meant",
            hint="Its parameters need a dataset, like '/entry/data/data'.",
        )
    return {
        "dataset": given["dataset"],
        **{name: given[name] for name in ("slice", "squeeze") if given.get(name)},
        "swmr": given.get("swmr", True),
        "locking": given.get("locking"),
    }


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value or ()
