"""Series of files whose names carry a number.

A StreamResource gives a URI, a `template`, and perhaps a `filename` for it. The name of a file is
the URI and the filled-in template, one after the other. So the URI may be a directory, with a
slash at its end or at the front of the template (not two of them), or the start of a name::

    file://localhost/data/     +  {:05d}.tif                 00000.tif, 00001.tif, ... in data
    file://localhost/data/     +  %s%s_%6.6d.tif  (scan)     scan_000000.tif, ...
    file://localhost/data/abc  +  _{:d}.npy                  abc_0.npy, abc_1.npy, ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Formatter
from typing import Any

from .files import ExternalFiles, StreamDocument, counted_on, parameters_of

_NAME = re.compile(r"%s|\{:s\}")
_NUMBER = re.compile(r"%([-+#0 ]*)(\d*)(?:\.(\d*))?[diu]")


def compile_template(template: str, filename: str = "") -> str:
    """Return a template of either style as one for `str.format`, with the number as argument.

    Parameters
    ----------
    template : str
        In the style of C (``%s%s_%6.6d.tif``, as areaDetector has it) or of Python
        (``{:06d}.tif``).
    filename : str
        Goes to the first ``%s``; any other is for a path, which is in the URI.
    """
    names = iter([filename])
    if _NUMBER.search(template):
        literal = filename.replace("%", "%%").replace("{", "{{").replace("}", "}}")
        names = iter([literal])
    elif _has_number(_NAME.sub("", template)):
        names = iter([filename.replace("{", "{{").replace("}", "}}")])
    named = _NAME.sub(lambda _: next(names, ""), template)
    if _NUMBER.search(named):
        return "%".join(_NUMBER.sub(_new_style, part) for part in named.split("%%"))
    return named


def _new_style(match: re.Match[str]) -> str:
    flags, width, digits = match.groups()
    size = max(int(width or 0), int(digits or 0))
    sign = "+" if "+" in flags else " " if " " in flags else ""
    if "-" in flags and digits is None:
        return f"{{:<{sign}{size or ''}d}}"
    zero = "0" if size and (digits or "0" in flags) else ""
    return f"{{:{sign}{zero}{size or ''}d}}"


def _join(uri: str, name: str) -> str:
    return uri + (name.lstrip("/") if uri.endswith("/") else name)


def _template_in_uri(uri: str) -> tuple[str, str]:
    """Split a URI that is the template itself into directory and name; else no name."""
    head, slash, name = uri.rpartition("/")
    return (head + slash, name) if _NUMBER.search(name) or _has_number(name) else (uri, "")


def _has_number(template: str) -> bool:
    try:
        return any(name is not None for _, name, _, _ in Formatter().parse(template))
    except ValueError:
        return False


@dataclass
class _Series:
    """The files of one StreamResource: their names, the index of number 0, and how many."""

    uri: str
    template: str
    numbered: bool
    offset: int | None = None
    length: int = 0


class NumberedFiles(ExternalFiles):
    """Files named by a template, one or more for each index.

    Numbers begin with 0 in each new series. So do indices, unless the first datum of a later
    StreamResource goes on exactly where those of the earlier files end.

    Attributes
    ----------
    template : str
        The current template, to be filled in by `str.format`; empty if there is none.
    """

    _takes_files_again = False

    def __init__(self, stream_resource: StreamDocument, *args: Any) -> None:
        super().__init__(stream_resource, *args)
        self.template = ""
        self._indx_offset = 0
        self._repeated = False
        self._current = _Series(self.uri, "", numbered=False)
        self._series: dict[Any, _Series] = {}
        self._by_names: dict[tuple[str, str], _Series] = {}
        self._counted_on_from: dict[Any, int] = {}  # the number of a file, by StreamResource

    def late_notes(self) -> list[str]:
        """Return notes that may only be made when the run stops."""
        doubts = self._counted_on_from.items()
        return [counted_on(self.data_key, uid, start) for uid, start in doubts]

    def get_datum_uri(self, indx: int) -> str:
        """Return the URI of the file with this index; without a template that of the resource."""
        if not self.template:
            return self.uri
        return _join(self.uri, self.template.format(indx - self._indx_offset))

    def _series_of(self, stream_resource: StreamDocument, *, number_needed: bool) -> _Series:
        """Return the files that a StreamResource names, without taking them over yet.

        Raises
        ------
        InvalidDocument
            If its template cannot be filled in, or has no number although one is needed.
        """
        parameters = parameters_of(stream_resource)
        uri, given = stream_resource.get("uri", self.uri), parameters.get("template") or ""
        if not given and number_needed:
            uri, given = _template_in_uri(uri)
        try:
            template = compile_template(given, parameters.get("filename") or "")
            numbered = template.format(0) != template.format(1)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise self._invalid(
                f"the file names in {given!r} cannot be made ({error!r})",
                hint="A template has one number, like {:06d} or %06d, and perhaps %s for a name.",
                uid=stream_resource.get("uid"),
            ) from error
        if number_needed and not numbered:
            what = f"its template {given!r} has no number" if given else "it has no template"
            raise self._invalid(
                f"{what}, so that its files would all have the same name",
                hint="Its parameters need a template, like {:06d}.tif or %s%s_%6.6d.tif.",
                uid=stream_resource.get("uid"),
            )
        # The same names again (a resource that two descriptors use) are the same files.
        known = self._by_names.get((uri, template))
        return known or _Series(uri, template, numbered)

    def _begin(self, series: _Series) -> None:
        """Continue with the files of the current StreamResource."""
        self._by_names[series.uri, series.template] = series
        self._series[self._sres_uid] = series
        self._select(series)

    def _select(self, series: _Series) -> None:
        self._current = series
        self.uri, self.template, self._indx_offset = series.uri, series.template, series.offset or 0

    def _add_files(self, doc: StreamDocument, first: int, last: int) -> None:
        """Add the files with indices from `first` to `last`, exclusive."""
        if first == last:
            return
        series = self._series.get(doc.get("stream_resource"), self._current)
        if series.offset is None:
            counted = sum(known.length for known in self._by_names.values())
            is_old = bool(self._sres_parameters.get("spec"))  # those count from 0 in each series
            series.offset = first if first == counted and not is_old else 0
            if series.offset:
                self._counted_on_from[doc.get("stream_resource")] = series.offset
        if first < series.offset:
            series.offset = 0
            self._counted_on_from.pop(doc.get("stream_resource"), None)
            self._note_recount(doc.get("stream_resource"))
        series.length = max(series.length, last - series.offset)
        self._select(series)
        if not series.numbered:
            self._add_asset(self.get_datum_uri(first))
            return
        repeated = ""
        for index in range(first, last):
            uri = self.get_datum_uri(index)
            if not self._add_asset(uri, again=self._takes_files_again):
                repeated = repeated or uri
        if repeated and not self._repeated:
            self._repeated = True
            self.notes.append(
                f"External key {self.data_key!r}: datums refer to {repeated} more than once;"
                " Tiled takes each file once."
            )
