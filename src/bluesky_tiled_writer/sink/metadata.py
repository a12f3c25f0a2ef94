"""Changes to the metadata of runs, streams and nodes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from bluesky_tiled_writer.errors import StorageError

from .address import NodePath
from .requests import Requests


class MetadataUpdates:
    """Sets keys of metadata. Setting the same values twice does no harm.

    Parameters
    ----------
    requests : Requests
        The way to the server.

    Attributes
    ----------
    last_uncertain : float
        The monotonic time of the last change that may or may not have been made, and may still
        be made later; 0 if there was none. The last change of a run, its stop document, does not
        count: nothing comes after it.
    """

    def __init__(self, requests: Requests) -> None:
        self.last_uncertain = 0.0
        self._requests = requests
        self._sent: dict[NodePath, dict[str, Any]] = {}
        self._uncertain: set[NodePath] = set()

    def set(self, path: NodePath, values: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        """Set top-level keys, and remove others if they are there.

        Raises
        ------
        StorageError
            If that was not done, or may not have been.
        """
        sent = self._sent.setdefault(path, {})
        sent.update(values)
        # A JSON patch, since None in a merge patch would mean "delete".
        patch: list[dict[str, Any]] = [
            {"op": "add", "path": _pointer(key), "value": value} for key, value in values.items()
        ]
        for key in remove:  # which may be gone already: then it cannot be removed
            patch.append({"op": "add", "path": _pointer(key), "value": None})
            patch.append({"op": "remove", "path": _pointer(key)})
        try:
            self._requests.patch_metadata(path, patch)
        except StorageError as error:
            if error.uncertain and len(path) > 1:
                self._uncertain.add(path)
                self.last_uncertain = time.monotonic()
            raise

    def check(self) -> None:
        """Set values again that a change may have replaced by older ones, by coming late.

        Raises
        ------
        StorageError
            As `set`.
        """
        for path in list(self._uncertain):
            self.set(path, self._sent[path])
            self._uncertain.discard(path)


def _pointer(key: str) -> str:
    """Return the JSON pointer to a key of the metadata."""
    return "/" + key.replace("~", "~0").replace("/", "~1")
