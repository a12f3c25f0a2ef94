"""The files of one external data key, whatever their format."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tiled.structures.data_source import Asset

from bluesky_tiled_writer.errors import InvalidDocument

Document = Mapping[str, Any]


@dataclass
class Patch:
    """The part of an array that has changed: a block of this shape at this offset."""

    shape: tuple[int, ...]
    offset: tuple[int, ...]

    @classmethod
    def combine_patches(cls, patches: Sequence[Patch]) -> Patch:
        """Find the smallest block that covers all patches, of which there is one at least."""
        start = tuple(map(min, zip(*(patch.offset for patch in patches), strict=True)))
        ends = (tuple(map(operator.add, patch.offset, patch.shape)) for patch in patches)
        stop = tuple(map(max, zip(*ends, strict=True)))
        return cls(shape=tuple(map(operator.sub, stop, start)), offset=start)


class ExternalFiles:
    """What consolidators have in common: the files of a data key and what is known of them.

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
        For the node in Tiled, besides what the descriptor says of the key.
    notes : list of str
        Remarks for whoever reads the run: what was not as the documents suggest.

    Raises
    ------
    InvalidDocument
        If the StreamResource lacks a field, or its MIME type is not one of the class.
    """

    supported_mimetypes: ClassVar[set[str]] = set()
    """The MIME types that the class can describe."""

    default_asset_role: str = "data_uris"
    """The parameter of the adapter in Tiled that takes the files."""

    def __init__(self, stream_resource: Document) -> None:
        self._sres_uid: Any = stream_resource.get("uid")
        self.data_key: str = _field(stream_resource, "data_key")
        self.uri: str = _field(stream_resource, "uri")
        self.mimetype: str = self.get_supported_mimetype(stream_resource)
        self.assets: list[Asset] = []
        self.metadata: dict[str, Any] = {}
        self.notes: list[str] = []
        self._uris: set[str] = set()
        self._sres_parameters: dict[str, Any] = dict(stream_resource.get("parameters") or {})
        if spec := self._sres_parameters.get("spec"):
            self.metadata["spec"] = spec

    @classmethod
    def get_supported_mimetype(cls, sres: Document) -> str:
        """Read the MIME type of a StreamResource, and see that this class is made for it.

        Raises
        ------
        InvalidDocument
            If it is not.
        """
        mimetype: str = _field(sres, "mimetype")
        if mimetype not in cls.supported_mimetypes:
            raise InvalidDocument(
                f"{subject(sres.get('data_key'), sres.get('uid'))}: {cls.__name__} cannot handle"
                f" the MIME type {mimetype!r}, only {sorted(cls.supported_mimetypes)}.",
                hint="Enter a class for this MIME type in CONSOLIDATOR_REGISTRY.",
            )
        return mimetype

    def _take_over(self, stream_resource: Document) -> None:
        """Go on with the files of another StreamResource of the same key."""
        mimetype = _field(stream_resource, "mimetype")
        if mimetype != self.mimetype:
            raise self._invalid(
                f"its MIME type is {mimetype!r}, but earlier files of the key are"
                f" {self.mimetype!r}",
                hint="All files of a data key in one stream must have the same format.",
                uid=stream_resource.get("uid"),
            )
        self.uri = _field(stream_resource, "uri")
        self._sres_uid = stream_resource.get("uid")
        self._sres_parameters = dict(stream_resource.get("parameters") or {})

    def _add_asset(self, uri: str) -> bool:
        """Add a file, unless it is there: Tiled takes a file only once into a data source."""
        if len(self._uris) != len(self.assets):  # a subclass has changed the list
            self._uris = {asset.data_uri for asset in self.assets}
        if uri in self._uris:
            return False
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

    def _range(self, doc: Document, name: str) -> tuple[int, int]:
        """Read `indices` or `seq_nums` of a StreamDatum: start and (exclusive) stop."""
        try:
            start, stop = operator.index(doc[name]["start"]), operator.index(doc[name]["stop"])
        except (KeyError, TypeError):
            start, stop = 0, -1
        if not 0 <= start <= stop:
            raise self._invalid(
                f"the stream datum {doc.get('uid')!r} has the {name} {doc.get(name)!r}",
                hint="They must be a start and a stop, which are integers and in this order.",
            )
        return start, stop

    def _invalid(self, what: str, *, hint: str, uid: Any = None) -> InvalidDocument:
        return InvalidDocument(
            f"{subject(self.data_key, uid or self._sres_uid)}: {what}.", hint=hint
        )


def _field(stream_resource: Document, name: str) -> Any:
    try:
        return stream_resource[name]
    except KeyError:
        raise InvalidDocument(
            f"{subject(stream_resource.get('data_key'), stream_resource.get('uid'))}:"
            f" there is no {name!r} in the document.",
            hint="A stream_resource needs data_key, mimetype, uri and parameters.",
        ) from None


def subject(key: Any, uid: Any) -> str:
    """Name what an error or a note is about."""
    return f"External key {key!r} (stream resource {uid!r})"
