"""File URIs: from paths, and from where a detector writes to where the server reads.

Pure functions of text. Nothing is percent-encoded, since Tiled takes the paths in URIs literally.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)  # not the letter of a drive
_DRIVE = re.compile(r"([A-Za-z])[:|]")
_WINDOWS_PATH = re.compile(r"[A-Za-z]:([\\/]|$)|\\\\")
_LOCAL_HOSTS = ("", "localhost", "127.0.0.1")


def is_windows_path(path: str) -> bool:
    """Return True if a path begins with a drive, or with a network share in backslashes."""
    return _WINDOWS_PATH.match(path) is not None


def file_uri(path: str, *, windows: bool = False) -> str:
    """Return the URI of a path; a URI stays as it is, but gets a host if it has none.

    Parameters
    ----------
    path : str
        A relative path starts from the working directory. Paths with a drive or a network share
        are Windows paths; others are POSIX paths.
    windows : bool
        Let backslashes separate directories in any case.

    Returns
    -------
    str
        Such as ``file://localhost/data/x.h5``. A slash at the end of the path is not kept.
    """
    if match := _SCHEME.fullmatch(path):
        return f"{match[1]}://localhost{match[2]}" if match[2].startswith("/") else path
    if windows or is_windows_path(path):
        path = path.replace("\\", "/")
        if path.startswith("//"):
            return "file:" + path.rstrip("/")
        if _DRIVE.match(path):
            return f"file://localhost/{PurePosixPath(path)}"
    if not path.startswith("/"):
        path = posixpath.join(os.getcwd().replace("\\", "/"), path)
    return f"file://localhost{PurePosixPath(path)}"


@dataclass(frozen=True)
class _Location:
    """A path or URI in parts, so that different spellings of one place are equal.

    `root` is empty for a path on this computer, else a drive, a host or the start of another URI.
    `path` has slashes only; `segments` are in the form in which they are compared.
    """

    root: str
    path: str
    segments: tuple[str, ...]

    @classmethod
    def parse(cls, location: str) -> _Location:
        root, path, encoded = "", location, False
        if match := _SCHEME.fullmatch(location):
            scheme, host, path = match[1].lower(), *_host_and_path(match[2])
            if scheme != "file":
                return cls._of(f"{scheme}://{host}", path, encoded=True)
            encoded = True
            if _DRIVE.fullmatch(unquote(host)):
                path = f"/{host}{path}"
            elif host.lower() not in _LOCAL_HOSTS:
                path = f"//{host}{path}"
            elif host:
                path = "/" + path.lstrip("/")
        elif is_windows_path(path):
            path = path.replace("\\", "/")
        if path.startswith("//"):
            host, path = _host_and_path(path.replace("\\", "/").lstrip("/"))
            return cls._of(f"//{host.lower()}", path, encoded=encoded, windows=True)
        first, slash, rest = path.lstrip("/").partition("/")
        if drive := _DRIVE.fullmatch(unquote(first) if encoded else first):
            root = f"{drive[1].lower()}:"
            return cls._of(root, (slash + rest).replace("\\", "/"), encoded=encoded, windows=True)
        return cls._of(root, path, encoded=encoded)

    @classmethod
    def _of(cls, root: str, path: str, *, encoded: bool, windows: bool = False) -> _Location:
        if ".." in path.split("/"):
            path = posixpath.normpath(path) + ("/" if path.endswith("/") else "")
        segments = [segment for segment in path.split("/") if segment not in ("", ".")]
        if encoded:
            segments = [unquote(segment) for segment in segments]
        if windows:
            segments = [segment.casefold() for segment in segments]
        return cls(root, path, tuple(segments))

    def within(self, other: _Location) -> bool:
        """Return True if this is the other place, or below it."""
        return self.root == other.root and self.segments[: other.depth] == other.segments

    @property
    def depth(self) -> int:
        return len(self.segments)

    def below(self, depth: int) -> str:
        """Return the path after its first `depth` segments, as it is written."""
        rest = self.path
        for _ in range(depth):
            rest = _skip_empty(rest).partition("/")[2]
        return rest.lstrip("/")


class PathMap:
    """Replaces the beginning of file URIs, for a server that sees the files in another place.

    The longest matching prefix counts, and only whole names of directories match: ``/data`` is no
    prefix of ``/database``. Windows paths are compared without regard to case.

    Parameters
    ----------
    prefixes : mapping of str to str
        From where a detector writes to where the server reads: paths or URIs, of POSIX systems or
        of Windows, such as ``{"Z:/data": "/mnt/data", "//nas/share": "/nas"}``.

    Raises
    ------
    ValueError
        If a path is not absolute, or two prefixes are the same place.
    """

    def __init__(self, prefixes: Mapping[str, str]) -> None:
        self.prefixes = dict(prefixes)
        self._prefixes: dict[_Location, str] = {}
        for prefix, target in prefixes.items():
            for path in (prefix, target):
                if not (path.startswith("/") or is_windows_path(path) or _SCHEME.match(path)):
                    raise ValueError(f"path_map needs absolute paths or URIs, not {path!r}.")
            location = _Location.parse(prefix)
            if any(location.within(other) and other.within(location) for other in self._prefixes):
                raise ValueError(f"path_map has two entries for {prefix!r}.")
            self._prefixes[location] = file_uri(target).rstrip("/")

    def __bool__(self) -> bool:
        return bool(self._prefixes)

    def __call__(self, uri: str) -> tuple[str, bool]:
        """Return a URI as the server sees it.

        Parameters
        ----------
        uri : str
            A URI or a path. The rest after the prefix is kept as it is, since it may be a
            template or the beginning of a name.

        Returns
        -------
        tuple of (str, bool)
            The URI for the server, and True if it differs from the one given.
        """
        location = _Location.parse(uri)
        prefix = max(
            filter(location.within, self._prefixes), key=lambda fits: fits.depth, default=None
        )
        if prefix is None:
            return uri, False
        rest = location.below(prefix.depth)
        target = self._prefixes[prefix]
        slash = "/" if rest or location.path.endswith("/") else ""
        mapped = f"{target}{slash}{rest}"
        return mapped, mapped != uri


def _host_and_path(text: str) -> tuple[str, str]:
    host, slash, path = text.partition("/")
    return host, slash + path


def _skip_empty(path: str) -> str:
    """Return the path without leading empty segments and ``.``."""
    path = path.lstrip("/")
    while path == "." or path.startswith("./"):
        path = path[1:].lstrip("/")
    return path
