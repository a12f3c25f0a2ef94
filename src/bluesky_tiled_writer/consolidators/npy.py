"""Sequences of files as `numpy.save` writes them, one array each."""

from __future__ import annotations

from .files import StreamDocument, parameters_of
from .image_sequence import MultipartRelatedConsolidator

_TEMPLATE = "%s_%d.npy"


class NPYConsolidator(MultipartRelatedConsolidator):
    """The files of `ophyd.sim.SynSignalWithRegistry` (spec ``NPY_SEQ``), named ``<uri>_0.npy``.

    Its documents give neither template nor chunks: the format fixes both.
    """

    supported_mimetypes = {"multipart/related;type=application/x-npy"}  # noqa: RUF012

    def __init__(self, stream_resource: StreamDocument, descriptor: StreamDocument) -> None:
        super().__init__(_with_template(stream_resource), descriptor)

    def update_from_stream_resource(self, stream_resource: StreamDocument) -> None:
        """Continue with the files of another StreamResource of the same key."""
        super().update_from_stream_resource(_with_template(stream_resource))

    def _declaration(self, descriptor: StreamDocument) -> StreamDocument:
        declaration = super()._declaration(descriptor)
        self._sres_parameters["chunk_shape"] = (1, *(declaration.get("shape") or ()))
        return declaration

    def _chunk_shape(self) -> tuple[int, ...]:
        return super()._chunk_shape()[: 1 + len(self.datum_shape)]


def _with_template(stream_resource: StreamDocument) -> StreamDocument:
    parameters = {**parameters_of(stream_resource), "template": _TEMPLATE}
    return {**stream_resource, "parameters": parameters}
