"""Resources, and StreamResources of any age, as the StreamResources of today."""

from __future__ import annotations

import ntpath
import posixpath
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from bluesky_tiled_writer.consolidators import file_uri, is_windows_path
from bluesky_tiled_writer.errors import InvalidDocument

from .documents import Document, is_blank, own_copy, text

_HDF5 = "application/x-hdf5"
_DATASETS = {
    **dict.fromkeys(("AD_HDF5", "AD_HDF5_SINGLE", "AD_HDF5_SWMR", "HDF5"), "/entry/data/data"),
    **dict.fromkeys(("XSP", "XSP3", "TPX_HDF5"), "/entry/instrument/detector/data"),
}
"""Where the data are in HDF5 files of these specs, if the Resource does not say."""

_ENCODED = re.compile(r"(?:%[2-7][0-9A-Fa-f](?<!%\dd)|(?:%[89A-Fa-f][0-9A-Fa-f])+)")
"""A percent-encoded ASCII character, or several others; ``%3d`` is the number of a template."""

_AREA_DETECTOR_TEMPLATE = "%s%s"
"""Begins with the path, to which areaDetector adds a slash if it has none, and the name."""


def of_today(doc: Mapping[str, Any], mimetype: str) -> Document:
    """Bring a Resource, or a StreamResource of any age, up to date.

    Parameters
    ----------
    doc : mapping
        The document; it is not changed.
    mimetype : str
        The meaning of its spec; not used where the document gives a MIME type itself.

    Returns
    -------
    dict
        A StreamResource. Its `data_key` is empty where the document has none, and its
        `parameters` are empty where the document has no mapping there.

    Raises
    ------
    InvalidDocument
        If it has no uid, or does not say where the files are.
    """
    if not isinstance(doc.get("uid"), str | int):
        raise InvalidDocument(
            f"A resource ({str(dict(doc))[:200]}) has the uid {doc.get('uid')!r}.",
            hint="It needs one that is text: datums refer to it.",
        )
    if "mimetype" in doc:
        mimetype, parameters, uri = doc["mimetype"], _parameters(doc, "parameters"), doc.get("uri")
        uri = decoded(uri) if isinstance(uri, str) else uri
        if not isinstance(uri, str):
            raise InvalidDocument(
                f"The stream_resource {doc['uid']!r} has the uri {uri!r}.",
                hint="It must be text. Mend it by a patch: patches={'stream_resource': ...}.",
            )
    else:
        _check(doc)
        parameters = _parameters(doc, "resource_kwargs")
        uri = _uri(doc, parameters)
        spec = parameters["spec"] = str(doc["spec"])
        if (dataset := _DATASETS.get(spec)) and is_blank(parameters.get("dataset")):
            parameters["dataset"] = dataset
    if not is_blank(frames := parameters.pop("frame_per_point", None)):
        parameters["multiplier"] = frames
    if text(mimetype) == _HDF5:
        dataset = parameters.pop("dataset", "")
        parameters["dataset"] = parameters.pop("path", dataset)
    return {
        "uid": doc["uid"],
        "data_key": doc.get("data_key", ""),
        "mimetype": mimetype,
        "uri": uri,
        "parameters": parameters,
    }


def decoded(uri: str) -> str:
    """Return a file URI with percent-encoded characters as they are, since Tiled decodes none.

    The number of a template, such as ``%05d`` or ``%3d``, looks similar and stays. So do the
    characters that Tiled would take for the end of the path.
    """
    if not uri.startswith("file:"):
        return uri
    return _ENCODED.sub(_decode, uri)


def _decode(match: re.Match[str]) -> str:
    try:
        text = unquote(match[0], errors="strict")
    except UnicodeDecodeError:
        return match[0]
    return text if text.isprintable() and not set(text) & {"?", "#"} else match[0]


def odd_parameters(doc: Mapping[str, Any]) -> Any:
    """Return the parameters of a resource if they are no mapping; None if they are as usual."""
    value = doc.get("parameters" if "mimetype" in doc else "resource_kwargs")
    return None if isinstance(value, Mapping) or is_blank(value) else value


def _parameters(doc: Mapping[str, Any], name: str) -> Document:
    parameters = doc.get(name)
    return own_copy(parameters) if isinstance(parameters, Mapping) else {}


def _check(doc: Mapping[str, Any]) -> None:
    for name in ("spec", "root", "resource_path", "resource_kwargs"):
        if name not in doc:
            raise InvalidDocument(
                f"The resource {doc.get('uid')!r} has no {name!r}.",
                hint="Mend it where it is made, or by a patch: patches={'resource': ...}.",
            )


def _uri(doc: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Join root and path of a Resource, as paths are joined: an absolute path needs no root.

    A slash at the end stays, since it makes a directory.
    """
    root, path = text(doc["root"]), str(doc["resource_path"])
    windows = text(doc.get("path_semantics")) == "windows" or is_windows_path(root or path)
    join = ntpath.join if windows else posixpath.join
    path = join(root, path) if root else path
    if windows:
        path = path.replace("\\", "/")
    uri = file_uri(path, windows=windows).rstrip("/")
    template = parameters.get("template")
    directory = isinstance(template, str) and template.startswith(_AREA_DETECTOR_TEMPLATE)
    return f"{uri}/" if directory or path.endswith("/") else uri
