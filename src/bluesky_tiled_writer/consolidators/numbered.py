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

from .files import Document, ExternalFiles

_NAME = re.compile(r"%s|\{:s\}")
_NUMBER = re.compile(r"%([-+#0 ]*)(\d*)(?:\.(\d*))?[diu]")


def compile_template(template: str, filename: str = "") -> str:
    """Turn a template for file names into one for `str.format` with the number as argument.

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


def _has_number(template: str) -> bool:
    try:
        return any(name is not None for _, name, _, _ in Formatter().parse(template))
    except ValueError:
        return False


@dataclass
class _Series:
    """The files of one StreamResource: what they are called, and which index is number 0."""

    uri: str
    template: str
    numbered: bool
    offset: int
    begun: bool = False


class NumberedFiles(ExternalFiles):
    """Files that are named by a template, one or more for each index.

    Numbers begin with 0 in each new series. Whether the indices of a later StreamResource go on
    from the earlier files, or begin with 0 again, shows at its first datum.

    Attributes
    ----------
    template : str
        The current template, to be filled in by `str.format`; empty if there is none.
    """

    def __init__(self, stream_resource: Document, *args: Any) -> None:
        super().__init__(stream_resource, *args)
        self.template = ""
        self._indx_offset = 0
        self._repeated = False
        self._series: dict[Any, _Series] = {}
        self._current = _Series(self.uri, "", numbered=False, offset=0)

    def get_datum_uri(self, indx: int) -> str:
        """Name a file of the current series by its index; the URI itself without a template."""
        if not self.template:
            return self.uri
        name = self.template.format(indx - self._indx_offset)
        return self.uri + (name.lstrip("/") if self.uri.endswith("/") else name)

    def _open_series(self, *, number_needed: bool = False) -> None:
        """Begin with the files of the current StreamResource.

        Raises
        ------
        InvalidDocument
            If its template cannot be filled in, or has no number although one is needed.
        """
        parameters = self._sres_parameters
        template = parameters.get("template") or ""
        if not template and number_needed:
            self.uri, template = self._template_in_uri()
        self.template = compile_template(template, parameters.get("filename") or "")
        self._indx_offset = 0
        try:
            unnumbered = self.get_datum_uri(0) == self.get_datum_uri(1)
        except (LookupError, ValueError) as error:
            raise self._invalid(
                f"the file names in {template!r} cannot be made ({error!r})",
                hint="A template has one number, like {:06d} or %06d, and perhaps %s for a name.",
            ) from error
        if unnumbered and number_needed:
            raise self._invalid(
                f"all files would have the same name, since {template!r} has no number",
                hint="A template needs a place for a number, like {:06d} or %06d.",
            )
        # The same names again (a resource that two descriptors use) are the same files.
        names = (self.uri, self.template)
        same = (known for known in self._series.values() if (known.uri, known.template) == names)
        series = next(same, None) or _Series(*names, not unnumbered, offset=len(self.assets))
        self._series[self._sres_uid] = series
        self._select(series)

    def _template_in_uri(self) -> tuple[str, str]:
        """Take the name out of a URI that is the template itself."""
        head, slash, name = self.uri.rpartition("/")
        if _NUMBER.search(name) or _has_number(name):
            return head + slash, name
        raise self._invalid(
            "it has no template for the names of its files",
            hint="Its parameters need a template, like {:06d}.tif or %s%s_%6.6d.tif.",
        )

    def _select(self, series: _Series) -> None:
        self._current = series
        self.uri, self.template, self._indx_offset = series.uri, series.template, series.offset

    def _add_files(self, doc: Document, first: int, last: int) -> None:
        """Add the files with indices from `first` to `last`, exclusive."""
        if first == last:
            return
        series = self._series.get(doc.get("stream_resource"), self._current)
        if not series.begun:
            series.begun = True
            if first < series.offset:  # counts from 0 again
                series.offset = 0
        self._select(series)
        if not series.numbered:
            self._add_asset(self.get_datum_uri(first))
            return
        repeated = ""
        for index in range(first, last):
            uri = self.get_datum_uri(index)
            if not self._add_asset(uri):
                repeated = repeated or uri
        if repeated and not self._repeated:
            self._repeated = True
            self.notes.append(
                f"External key {self.data_key!r}: datums refer to {repeated} more than once;"
                " Tiled takes each file once."
            )
