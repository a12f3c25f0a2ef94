"""Resources, and StreamResources of any vintage, as the StreamResources of today."""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Mapping
from typing import Any

from bluesky_tiled_writer.consolidators import file_uri, is_windows_path
from bluesky_tiled_writer.errors import InvalidDocument

Document = dict[str, Any]

_HDF5 = "application/x-hdf5"
_DATASETS = {
    **dict.fromkeys(("AD_HDF5", "AD_HDF5_SINGLE", "AD_HDF5_SWMR", "HDF5"), "/entry/data/data"),
    **dict.fromkeys(("XSP", "XSP3", "TPX_HDF5"), "/entry/instrument/detector/data"),
}
"""Where the data are in HDF5 files of these specs, if the Resource does not say."""

_AREA_DETECTOR_TEMPLATE = "%s%s"
"""Begins with the path, to which areaDetector adds a slash if it has none, and the name."""


def of_today(doc: Mapping[str, Any], mimetype: str) -> Document:
    """Bring a Resource, or a StreamResource of any vintage, to the schema of today.

    Parameters
    ----------
    doc : mapping
        The document; it is not changed.
    mimetype : str
        What its spec stands for; not used where the document gives a MIME type itself.

    Raises
    ------
    InvalidDocument
        If it does not say where the files are.
    """
    if "mimetype" in doc:
        uri, mimetype = doc.get("uri"), doc["mimetype"]
        parameters = copy.deepcopy(doc.get("parameters") or {})
    else:
        _check(doc)
        parameters = copy.deepcopy(doc["resource_kwargs"] or {})
        uri = _uri(doc, parameters)
        parameters["spec"] = doc["spec"]
        if dataset := _DATASETS.get(doc["spec"]):
            parameters["dataset"] = parameters.get("dataset") or dataset
    if frames := parameters.pop("frame_per_point", None):
        parameters["multiplier"] = frames
    if mimetype == _HDF5:
        dataset = parameters.pop("dataset", "")
        parameters["dataset"] = parameters.pop("path", dataset)
    return {
        "uid": doc.get("uid"),
        "data_key": doc.get("data_key", ""),
        "mimetype": mimetype,
        "uri": uri,
        "parameters": parameters,
    }


def _check(doc: Mapping[str, Any]) -> None:
    for name in ("uid", "spec", "root", "resource_path", "resource_kwargs"):
        if name not in doc:
            raise InvalidDocument(
                f"The resource {doc.get('uid')!r} has no {name!r}.",
                hint="Mend it where it is made, or by a patch: patches={'resource': ...}.",
            )


def _uri(doc: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Join root and path of a Resource; a slash at the end stays, since it makes a directory."""
    root, path = str(doc["root"] or ""), str(doc["resource_path"])
    windows = doc.get("path_semantics") == "windows" or is_windows_path(root or path)
    if windows:
        root, path = root.replace("\\", "/"), path.replace("\\", "/")
    if root:
        path = posixpath.join(root + ("/" if path.startswith("/") else ""), path.lstrip("/"))
    uri = file_uri(path, windows=windows).rstrip("/")
    template = parameters.get("template")
    directory = isinstance(template, str) and template.startswith(_AREA_DETECTOR_TEMPLATE)
    return f"{uri}/" if directory or path.endswith("/") else uri
