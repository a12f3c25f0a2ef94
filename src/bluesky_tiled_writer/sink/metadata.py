"""Changes to the metadata of runs, streams and nodes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from bluesky_tiled_writer.errors import StorageError

from .requests import NodePath, Requests


class MetadataUpdates:
    """Sets keys of metadata. To set the same values again does no harm.

    Parameters
    ----------
    requests : Requests
        To the server.

    Attributes
    ----------
    uncertain_since : float
        When it was unknown last, by the monotonic clock, whether a change was made: it may be
        made later. 0 if that never was. (The last change of a run, its stop document, is left out:
        nothing comes after it.)
    """

    def __init__(self, requests: Requests) -> None:
        self.uncertain_since = 0.0
        self._requests = requests
        self._sent: dict[NodePath, dict[str, Any]] = {}
        self._uncertain: set[NodePath] = set()

    def set(self, path: NodePath, values: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        """Set top-level keys, and remove others.

        Raises
        ------
        StorageError
            If that was not done, or may not have been.
        """
        sent = self._sent.setdefault(path, {})
        sent.update(values)
        # A JSON patch, and no merge patch, to which a None would mean "delete".
        patch: list[dict[str, Any]] = [
            {"op": "add", "path": _pointer(key), "value": value} for key, value in values.items()
        ]
        patch += [{"op": "remove", "path": _pointer(key)} for key in remove]
        body = {
            "content-type": "application/json-patch+json",
            "metadata": patch,
            "specs": None,
            "access_tags": None,
        }
        try:
            params = {"drop_revision": True}
            self._requests.send("PATCH", "metadata", path, json_body=body, params=params)
        except StorageError as error:
            if error.uncertain and len(path) > 1:
                self._uncertain.add(path)
                self.uncertain_since = time.monotonic()
            raise

    def check(self) -> None:
        """Set once more what a change that came late may have replaced by older values."""
        for path in list(self._uncertain):
            self.set(path, self._sent[path])
            self._uncertain.discard(path)


def _pointer(key: str) -> str:
    """The JSON pointer to a key of the metadata."""
    return "/" + key.replace("~", "~0").replace("/", "~1")
