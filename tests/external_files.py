"""Documents that describe detector files, for tests of consolidators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

BYTES = "application/octet-stream"
CSV = "text/csv;header=absent"
HDF5 = "application/x-hdf5"
TIFF = "multipart/related;type=image/tiff"
JPEG = "multipart/related;type=image/jpeg"
NPY = "multipart/related;type=application/x-npy"

Document = dict[str, Any]


def resource(
    mimetype: str, uri: str = "file://localhost/data/", uid: str = "res", **parameters: Any
) -> Document:
    return {
        "uid": uid,
        "data_key": "det",
        "mimetype": mimetype,
        "uri": uri,
        "parameters": parameters,
    }


def descriptor(shape: Iterable[int | None] = (), **more: Any) -> Document:
    key = {"source": "", "dtype": "array", "shape": list(shape), "external": "STREAM:", **more}
    return {"uid": "desc", "data_keys": {"det": key}}


def datum(start: int, stop: int, uid: str = "res", seq_nums: tuple[int, int] | None = None) -> Any:
    first, last = seq_nums or (start + 1, stop + 1)
    return {
        "uid": f"{uid}/{start}",
        "stream_resource": uid,
        "descriptor": "desc",
        "indices": {"start": start, "stop": stop},
        "seq_nums": {"start": first, "stop": last},
    }


def names(consolidator: Any) -> list[str]:
    return [asset.data_uri.rpartition("/")[2] for asset in consolidator.assets]
