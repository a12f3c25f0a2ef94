"""The public API as its users write it. Never run: mypy checks it, in strict mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bluesky import RunEngine
from event_model import DocumentRouter
from tiled.client import from_uri

from bluesky_tiled_writer import RunNormalizer, TiledWriter, TiledWriterError
from bluesky_tiled_writer.errors import (
    DocumentError,
    DuplicateRun,
    InvalidDocument,
    RequestRefused,
    RunExists,
    ServerUnreachable,
    StorageError,
    StorageUnsupported,
    UnknownReference,
)

# A writer, with every option and with none.

client = from_uri("http://localhost:8000", api_key="secret")
writer: TiledWriter = TiledWriter(client)
router: DocumentRouter = writer
TiledWriter(
    client,
    normalizer=RunNormalizer,
    patches={"start": lambda doc: doc},
    spec_to_mimetype={"AD_HDF5": "application/x-hdf5"},
    backup_directory=Path("backups"),
    backup_dictionary={},
    batch_size=1,
    max_array_size=-1,
    path_map={"Z:/data": "/mnt/data"},
    validate=False,
    ignore_errors=["Missing"],
)
TiledWriter(client, normalizer=None, backup_directory="backups", validate=None)

by_uri: TiledWriter = TiledWriter.from_uri("http://localhost:8000", api_key="secret", batch_size=1)
by_profile: TiledWriter = TiledWriter.from_profile("raw", normalizer=None)


class BeamlineWriter(TiledWriter):
    """A subclass is made by the same class methods."""


# The class methods promise a `TiledWriter`, whatever class they are called on.
mine: TiledWriter = BeamlineWriter.from_uri("http://localhost:8000")

# As a callback.

RE = RunEngine()
token = RE.subscribe(writer)  # type: ignore[no-untyped-call]
name, doc = writer("start", {"uid": "6b6ab5ae", "time": 0.0})
writer(name="stop", doc={"uid": "0", "run_start": "6b6ab5ae", "time": 1.0})
kind: str = name


# A normalizer of a beamline.


class BeamlineNormalizer(RunNormalizer):
    """Mends the documents of one beamline."""

    def start(self, doc: Any) -> None:
        """Add what the beamline forgot."""
        super().start({**doc, "beamline": "31-ID"})

    def descriptor(self, doc: Any) -> None:
        """Leave one kind of stream out."""
        if doc["name"] != "monitor":
            self.emit("descriptor", doc)

    def emit(self, name: Any, doc: Any) -> None:
        """Count what goes out."""
        self.notes.append(f"emitted {name}")
        super().emit(name, doc)


def patch_stop(doc: dict[str, Any]) -> dict[str, Any]:
    """A patch with its types written out."""
    return {**doc, "reason": ""}


TiledWriter(client, normalizer=BeamlineNormalizer, patches={"stop": patch_stop})

normalizer = BeamlineNormalizer(patches={"stop": patch_stop}, spec_to_mimetype=None)
number: int = normalizer.subscribe(lambda name, doc: print(name, doc["uid"]))
normalizer.subscribe(writer, name="event")
normalizer.unsubscribe(number)
notes: list[str] = normalizer.notes

# Errors: one tree, with a hint.

try:
    writer("stop", {"run_start": "6b6ab5ae"})
except (DuplicateRun, InvalidDocument, UnknownReference) as error:
    about_documents: DocumentError = error
except RunExists as error:
    about_storage: StorageError = error
except StorageUnsupported as error:
    refused: RequestRefused = error
except RequestRefused as error:
    status: int | None = error.status
except ServerUnreachable as error:
    hint: str = error.hint
except TiledWriterError as error:
    any_error: Exception = error
