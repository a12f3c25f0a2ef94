"""The files of one external data key, whatever their format."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tiled.structures.data_source import Asset

from bluesky_tiled_writer.errors import InvalidDocument

from .shapes import count

StreamDocument = Mapping[str, Any]
"""A StreamResource, a StreamDatum or a descriptor; consolidators do not change it."""


@dataclass
class Patch:
    """The part of an array that has changed: a block of this shape at this offset."""

    shape: tuple[int, ...]
    offset: tuple[int, ...]

    @classmethod
    def combine_patches(cls, patches: Sequence[Patch]) -> Patch:
        """Return the smallest block that covers all patches; there must be one at least."""
        start = tuple(map(min, zip(*(patch.offset for patch in patches), strict=True)))
        ends = (tuple(map(operator.add, patch.offset, patch.shape)) for patch in patches)
        stop = tuple(map(max, zip(*ends, strict=True)))
        return cls(shape=tuple(map(operator.sub, stop, start)), offset=start)


class ExternalFiles:
    """Base of consolidators: the files of one data key, and their metadata and notes.

    Parameters
    ----------
    stream_resource : mapping
        The StreamResource document that names the first files.

    Attributes
    ----------
    mimetype, data_key, uri : str
        From the StreamResource; `uri` is that of the latest one.
    assets : list of Asset
        The files so far, in the order of their data.
    metadata : dict
        Metadata of the node in Tiled, beside the declaration of the key.
    notes : list of str
        For readers of the run: where the files are not as the documents suggest.

    Raises
    ------
    InvalidDocument
        If the StreamResource lacks a field, or its MIME type is none of `supported_mimetypes`.
    """

    supported_mimetypes: ClassVar[set[str]] = set()
    """MIME types that the class can describe."""

    default_asset_role: str = "data_uris"
    """The parameter of the adapter in Tiled that takes the files."""

    def __init__(self, stream_resource: StreamDocument) -> None:
        self._sres_uid: Any = stream_resource.get("uid")
        self.data_key = text_field(stream_resource, "data_key")
        self.uri = text_field(stream_resource, "uri")
        self.mimetype = self.get_supported_mimetype(stream_resource)
        self.assets: list[Asset] = []
        self.metadata: dict[str, Any] = {}
        self.notes: list[str] = []
        self._uris: set[str] = set()
        self._times: dict[str, int] = {}  # that a file was added again
        self._unreadable = False
        self._sres_parameters: dict[str, Any] = parameters_of(stream_resource)
        if spec := self._sres_parameters.get("spec"):
            self.metadata["spec"] = spec

    @classmethod
    def get_supported_mimetype(cls, sres: StreamDocument) -> str:
        """Return the MIME type of a StreamResource.

        Raises
        ------
        InvalidDocument
            If it is none of `supported_mimetypes`.
        """
        mimetype = text_field(sres, "mimetype")
        if mimetype not in cls.supported_mimetypes:
            raise InvalidDocument(
                f"{subject(sres.get('data_key'), sres.get('uid'))}: {cls.__name__} cannot handle"
                f" the MIME type {mimetype!r}, only {sorted(cls.supported_mimetypes)}.",
                hint="Enter a class for this MIME type in CONSOLIDATOR_REGISTRY.",
            )
        return mimetype

    def _take_over(self, stream_resource: StreamDocument) -> None:
        """Continue with the files of another StreamResource of the same key."""
        mimetype = text_field(stream_resource, "mimetype")
        if mimetype != self.mimetype:
            raise self._invalid(
                f"its MIME type is {mimetype!r}, but earlier files of the key are"
                f" {self.mimetype!r}",
                hint="All files of a data key in one stream must have the same format.",
                uid=stream_resource.get("uid"),
            )
        self.uri = text_field(stream_resource, "uri")
        self._sres_uid = stream_resource.get("uid")
        self._sres_parameters = parameters_of(stream_resource)

    def _add_asset(self, uri: str, *, again: bool = False) -> bool:
        """Add a file, and return True; False for one that is there: Tiled takes each only once.

        With `again`, a file that is there is added once more, its URI written differently.
        """
        if len(self._uris) != len(self.assets):  # a subclass has changed the list
            self._uris = {asset.data_uri for asset in self.assets}
            self._times.clear()
        if uri in self._uris:
            if not again or "/" not in uri.partition("://")[2]:
                return False
            plain = uri
            while uri in self._uris:
                self._times[plain] = self._times.get(plain, 0) + 1
                uri = _written_differently(plain, self._times[plain])
        if not self._unreadable and any(mark in uri for mark in "?#"):
            self._unreadable = True
            self.notes.append(
                f"{subject(self.data_key, self._sres_uid)}: Tiled cannot read {uri}, since it"
                " takes what follows a ? or # for no part of the name of a file."
            )
        self._uris.add(uri)
        self.assets.append(
            Asset(
                data_uri=uri,
                is_directory=False,
                parameter=self.default_asset_role,
                num=len(self.assets),
            )
        )
        return True

    def _note_recount(self, uid: Any) -> None:
        self.notes.append(
            f"{subject(self.data_key, uid)}: its indices seemed to go on where those of earlier"
            " files end, but later ones are lower: the frames of its first rows may be others."
        )

    def _range(self, doc: StreamDocument, name: str) -> tuple[int, int]:
        """Return start and (exclusive) stop of the `indices` or `seq_nums` of a StreamDatum."""
        try:
            start, stop = count(doc[name]["start"]), count(doc[name]["stop"])
        except (KeyError, TypeError):
            start = stop = None
        if start is None or stop is None or not 0 <= start <= stop:
            raise self._invalid(
                f"the stream datum {doc.get('uid')!r} has the {name} {doc.get(name)!r}",
                hint="They must be a start and a stop, which are integers and in this order.",
            )
        return start, stop

    def _invalid(self, what: str, *, hint: str, uid: Any = None) -> InvalidDocument:
        return InvalidDocument(
            f"{subject(self.data_key, uid or self._sres_uid)}: {what}.", hint=hint
        )


def _written_differently(uri: str, number: int) -> str:
    """Return another URI of the same file, a different one for each number.

    The digits of the number, in base 2, become segments that a path does not need: a dot, or
    nothing.
    """
    directory, _, name = uri.rpartition("/")
    segments = "".join("/." if digit == "1" else "/" for digit in f"{number:b}")
    return f"{directory}{segments}/{name}"


def text_field(stream_resource: StreamDocument, name: str) -> str:
    """Return a field of a StreamResource that must be text.

    Raises
    ------
    InvalidDocument
        If it is not.
    """
    value = stream_resource.get(name)
    if isinstance(value, str):
        return value
    about = subject(stream_resource.get("data_key"), stream_resource.get("uid"))
    if name in stream_resource:
        raise InvalidDocument(f"{about}: its {name} is {value!r}.", hint="It must be text.")
    raise InvalidDocument(
        f"{about}: there is no {name!r} in the document.",
        hint="A stream_resource needs data_key, mimetype, uri and parameters.",
    )


def parameters_of(stream_resource: StreamDocument) -> dict[str, Any]:
    """Return a copy of the parameters of a StreamResource, which may lack them.

    Raises
    ------
    InvalidDocument
        If they are no mapping.
    """
    parameters = stream_resource.get("parameters")
    if parameters is None or isinstance(parameters, Mapping):
        return dict(parameters or {})
    raise InvalidDocument(
        f"{subject(stream_resource.get('data_key'), stream_resource.get('uid'))}: its parameters"
        f" are {parameters!r}.",
        hint="They must be a mapping.",
    )


def subject(key: Any, uid: Any) -> str:
    """Return the words that errors and notes about a key begin with."""
    return f"External key {key!r} (stream resource {uid!r})"


def counted_on(key: Any, uid: Any, start: int) -> str:
    """Return a note about indices that begin where those of earlier files end."""
    return (
        f"{subject(key, uid)}: its indices begin with {start}, where those of earlier files end,"
        " and are taken to go on from there. If they count the frames of its own files, the first"
        f" {start} of these were left out."
    )
