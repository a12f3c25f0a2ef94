"""MIME types of the specs in old Resource documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

BYTES = "application/octet-stream"
_HDF5_SPECS = (
    "HDF5", "AD_HDF5", "AD_HDF5_SINGLE", "AD_HDF5_SWMR", "AD_HDF5_SWMR_STREAM",
    "AD_HDF5_SWMR_SLICE", "AD_HDF5_GERM", "PIL100k_HDF5", "XSP", "XSP3", "XPS3", "XSP3_BULK",
    "XSP3_STEP", "PANDA", "ROI_HDF5_FLY", "ROI_HDF51_FLY", "SIS_HDF51_FLY_STREAM_V1",
    "MERLIN_FLY_STREAM_V2", "MERLIN_HDF5_BULK", "TPX_HDF5", "EIGER2_STREAM",
    "ZEBRA_HDF51_FLY_STREAM_V1",
)  # fmt: skip

MIMETYPE_BY_SPEC: Mapping[str, str] = {
    **dict.fromkeys(_HDF5_SPECS, "application/x-hdf5"),
    "AD_TIFF": "multipart/related;type=image/tiff",
    "NPY_SEQ": "multipart/related;type=application/x-npy",
    "PIZZABOX_ENC_FILE_TXT_PD": "text/csv",
}
"""The specs in use at facilities; anything else is opaque bytes."""


def mimetypes_by_spec(more: Mapping[str, str] | None = None) -> defaultdict[str, str]:
    """Return the known MIME types and `more`; `application/octet-stream` for any other spec."""
    return defaultdict(lambda: BYTES, {**MIMETYPE_BY_SPEC, **(more or {})})
