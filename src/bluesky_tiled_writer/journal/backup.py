"""Backups of runs that Tiled refused."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Any

from bluesky_tiled_writer.schema import to_json

logger = logging.getLogger("bluesky_tiled_writer")

_PLAIN_UID = re.compile(r"[A-Za-z0-9-]{1,100}")


class Backup:
    """Collects the documents of one run, and writes them out if the run cannot be stored.

    Parameters
    ----------
    uid : str
        Uid of the run.
    directory : str or Path, optional
        Receives a JSON Lines file named after the uid, with one ``{"name", "doc"}`` a line.
    dictionary : MutableMapping, optional
        Receives, under the uid, a list of ``{"name", "doc"}``.

    Attributes
    ----------
    in_use : bool
        True once the documents have been written out; later ones are written as they come.
    """

    def __init__(
        self,
        uid: str,
        directory: str | Path | None,
        dictionary: MutableMapping[str, Any] | None,
    ) -> None:
        self._uid = uid
        self._directory = None if directory is None else Path(directory)
        self._dictionary = dictionary
        self._kept: list[dict[str, Any]] = []
        self._lock = threading.Lock()  # documents come in one thread, errors in another
        self.in_use = False

    def keep(self, name: str, doc: Any) -> None:
        """Add one document of the run."""
        entry = _entry(name, doc)
        with self._lock:
            if self.in_use:
                self._write([entry])
            else:
                self._kept.append(entry)

    def use(self, error: Exception, documents: Iterable[tuple[str, Any]] = ()) -> None:
        """Write out the run, because it could not be stored.

        Parameters
        ----------
        error : Exception
            Why the run is not in Tiled.
        documents : iterable of (str, dict)
            Documents that came before those that were collected here.
        """
        logger.info("Run %s could not be stored and is written to the backup: %s", self._uid, error)
        with self._lock:
            self.in_use = True
            kept, self._kept = self._kept, []
            self._write([*(_entry(name, doc) for name, doc in documents), *kept])

    def _write(self, entries: list[dict[str, Any]]) -> None:
        if self._dictionary is not None:
            self._dictionary.setdefault(self._uid, []).extend(entries)
        if self._directory is not None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines = "".join(json.dumps(entry) + "\n" for entry in entries)
            path = self._directory / _file_name(self._uid)
            with open(path, "a", encoding="utf-8", opener=_open_private) as file:
                file.write(lines)


def _open_private(path: str, flags: int) -> int:
    """Open a file; one that is created is private to the user, as journals are."""
    return os.open(path, flags, 0o600)


def _entry(name: str, doc: Any) -> dict[str, Any]:
    return {"name": name, "doc": to_json(doc)[0]}


def _file_name(uid: str) -> str:
    """Return a name that is unique to the run and stays in the directory, whatever the uid is."""
    if _PLAIN_UID.fullmatch(uid):
        return f"{uid}.jsonl"
    return f"{hashlib.sha256(uid.encode('utf-8', 'surrogatepass')).hexdigest()}.jsonl"
