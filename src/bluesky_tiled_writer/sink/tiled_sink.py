"""Executes steps: on runs and streams here, on data in the nodes that hold them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from tiled.structures.core import StructureFamily
from tiled.utils import safe_json_dump

from bluesky_tiled_writer.errors import (
    ContainerGone,
    DeletionRefused,
    DocumentsIncomplete,
    OutOfStep,
    RequestRefused,
    RunExists,
    TooEarly,
    WrittenElsewhere,
)
from bluesky_tiled_writer.run import (
    PROCESS_ENDED,
    AmendStop,
    AppendRows,
    CheckHeld,
    CheckNodes,
    CloseNode,
    CorrectType,
    CountRows,
    CreateRun,
    CreateStream,
    Discard,
    Expected,
    ExtendArray,
    ExtendRagged,
    Known,
    Node,
    Rebuild,
    RegisterAsset,
    Step,
    UpdateAsset,
    UpdateMetadata,
    is_made,
)
from bluesky_tiled_writer.schema import Content, ServerLimits

from .address import Address, NodePath
from .arrays import ArrayNode
from .connection import Connection
from .files import FilesNode
from .held import rows_held
from .metadata import MetadataUpdates
from .node import StoredNode
from .ownership import GRACE, PATIENCE, WRITTEN_BY, Ownership, complete
from .ragged import RaggedNode
from .requests import Requests
from .tables import TableNode

Family = TypeVar("Family", bound=StoredNode)


class TiledSink:
    """Executes steps below a container of a Tiled server.

    Steps on different nodes may be executed at the same time. Those that write to the database
    behind the tables wait for each other here, unless it is known to take several writes at a time.

    Parameters
    ----------
    connection : Connection
        The server.
    limits : ServerLimits, optional
        Learns what the server turns out not to store.
    address : Address, optional
        The container that gets the runs; by default the one of the connection.
    """

    def __init__(
        self,
        connection: Connection,
        limits: ServerLimits | None = None,
        address: Address | None = None,
    ) -> None:
        self._requests = Requests(connection, address)
        self._metadata = MetadataUpdates(self._requests)
        self._grace = 0.0 if connection.in_process else GRACE
        self._nodes: dict[NodePath, StoredNode] = {}
        self._salvaged: dict[NodePath, Content] = {}
        self._adopted: dict[str, Mapping[str, Any]] = {}  # runs that were there: their metadata
        self._last_adoption = self._last_check = 0.0  # on the monotonic clock
        self._database = threading.RLock()  # held by the one that writes there
        self._was_taken_over = False  # from others, who may have had more documents
        self._ownership = Ownership(self._requests, self._take_over)
        self.limits = limits or ServerLimits()

    def execute(self, step: Step) -> None:
        """Execute one step; see `run.Sink`."""
        if not isinstance(step, CreateRun | CheckHeld | CloseNode):
            self._ownership.require()
        match step:
            case AppendRows():
                with self._turn():
                    self._node(step.node, TableNode).append(step)
            case ExtendArray():
                self._node(step.node, ArrayNode).append(step)
            case ExtendRagged():
                with self._turn():
                    self._node(step.node, RaggedNode).append(step)
            case RegisterAsset():
                self._node(step.node, FilesNode).register(step)
            case UpdateAsset():
                self._node(step.node, FilesNode).update(step)
            case CorrectType():
                self._node(step.node, FilesNode).correct_type(step)
            case CountRows():
                self._node(step.node, FilesNode).count_rows(step)
            case CreateRun():
                self._create_run(step)
            case CreateStream():
                self._create_stream(step)
            case UpdateMetadata():
                self._update_metadata(step)
            case Rebuild():
                with self._turn():
                    self._rebuild(step)
            case Discard():
                with self._turn():
                    self._discard(step.nodes)
            case CheckHeld():
                self._check_held(step)
            case CheckNodes():
                self._check_nodes(step)
            case AmendStop():
                self._amend_stop(step)
            case CloseNode():
                self._requests.send("DELETE", "stream/close", step.path)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for others that write to the database, where that is needed."""
        if not self.limits.writes_concurrently:
            with self._database:
                if not self.limits.writes_concurrently:  # which the one before may have learned
                    yield
                    return
        yield

    # -- runs and streams -----------------------------------------------------------------------

    def _create_run(self, step: CreateRun) -> None:
        owner = self._ownership.create(step.uid, step.claim)
        try:
            self._create_container((step.uid,), step, owner)
        except RequestRefused as error:
            if error.status == httpx.codes.NOT_FOUND and self._requests.item(()) is None:
                raise ContainerGone(
                    f"Run {step.uid!r} belongs into the container {self._requests.address}, which"
                    " is not in Tiled any more.",
                    hint="Make it again, and call `TiledWriter.recover()`; or send the journal"
                    " elsewhere with `bluesky-tiled-writer replay JOURNAL --to URI`.",
                ) from error
            if error.status != httpx.codes.CONFLICT:
                raise
            item = self._requests.item((step.uid,))
            if item is None:
                raise RequestRefused(
                    f"Tiled holds the run {step.uid!r} already, but does not show it to this"
                    " login.",
                    hint="It waits for a login that may write it, as the one that began it.",
                    status=httpx.codes.FORBIDDEN,
                ) from error
            self._adopt_run(step, item["attributes"]["metadata"])

    def _adopt_run(self, step: CreateRun, found: Mapping[str, Any]) -> None:
        """Continue a run that Tiled holds already, if it is the same one and has no end."""
        ours, theirs = _as_json(step.metadata["start"]), _as_json(found.get("start"))
        if ours != theirs:
            theirs = theirs if isinstance(theirs, dict) else {}
            raise RunExists(
                f"Tiled already holds another run with the uid {step.uid!r}: there, scan_id"
                f" {theirs.get('scan_id')!r} of time {theirs.get('time')!r}; here, scan_id"
                f" {ours.get('scan_id')!r} of time {ours.get('time')!r}.",
                hint="A uid stands for one run: delete the one in Tiled, or replay this one under"
                " another uid.",
            )
        if found.get("stop") and not is_made(found["stop"]):
            raise complete(step.uid)
        self._adopted[step.uid] = found
        # Requests of the process that created it may still be on their way.
        self._last_adoption = time.monotonic()
        self._ownership.meet(found)

    def _take_over(self) -> None:
        """Go on with a run that others have written meanwhile."""
        self._adopted[self._ownership.uid] = self._ownership.metadata
        self._last_adoption = time.monotonic()
        self._was_taken_over = True
        for node in self._nodes.values():
            node.distrust()

    def _check_held(self, step: CheckHeld) -> None:
        if step.run not in self._adopted:
            return
        known = step.documents() if step.documents is not None else Known()
        stop = self._adopted[step.run].get("stop")
        if stop and stop["uid"] == known.stop:
            raise complete(step.run)
        self._ownership.require()
        try:
            self._compare_held(step, known)
        except DocumentsIncomplete:
            self._ownership.give_back()
            raise

    def _compare_held(self, step: CheckHeld, known: Known) -> None:
        for node, rows in rows_held(self._requests, step.run):
            ours = known.rows_of(node.stream)
            if rows > ours and step.documents is None:
                raise DocumentsIncomplete(
                    f"Tiled already holds {rows} rows of the stream {node.stream!r} of run"
                    f" {step.run!r}: it gets what is missing when the run is stopped.",
                    hint="That takes a journal (journal_directory=...), or"
                    " `bluesky-tiled-writer replay` with a file.",
                )
            if rows > ours:
                raise DocumentsIncomplete(
                    f"The documents of run {step.run!r} give {ours} rows of the stream"
                    f" {node.stream!r} so far, without a gap, but Tiled holds {rows} in"
                    f" {'/'.join(node.path)}.",
                    hint="Nothing was changed there. `bluesky-tiled-writer verify` tells the"
                    " difference, `export` gives what a journal has, `replay` sends what a file"
                    " has beyond what Tiled holds.",
                )

    def _create_stream(self, step: CreateStream) -> None:
        try:
            self._create_container((step.run, step.name), step)
        except RequestRefused as error:
            if error.status != httpx.codes.CONFLICT:  # an earlier attempt, or process, created it
                raise

    def _create_container(
        self, path: NodePath, step: CreateRun | CreateStream, more: Mapping[str, Any] | None = None
    ) -> None:
        body = {
            "id": path[-1],
            "structure_family": StructureFamily.container,
            "metadata": {**step.metadata, **(more or {})},
            "specs": [{"name": name, "version": version} for name, version in step.specs],
            "data_sources": [],
            **self._requests.access(step.access_tags),
        }
        self._requests.send("POST", "metadata", path[:-1], json_body=body, about=path)

    def _update_metadata(self, step: UpdateMetadata) -> None:
        found = self._adopted.get(step.run, {})
        path = tuple(part for part in (step.run, step.stream, step.node) if part is not None)
        remove: list[str] = []
        if len(path) == 1 and "stop" in step.values:
            # Notes on a synthetic stop document go when the real one comes without any.
            if "notes" in found and "notes" not in step.values:
                remove.append("notes")
            remove += self._ownership.end(step.values["stop"])
        self._metadata.set(path, step.values, remove)

    def _amend_stop(self, step: AmendStop) -> None:
        if (item := self._requests.item((step.run,))) is None:
            return
        found = item["attributes"]["metadata"]
        if found.get("stop") and not is_made(found["stop"]):
            raise complete(step.run)
        if not found.get("stop") or WRITTEN_BY in found:
            raise WrittenElsewhere(
                f"Run {step.run!r} has not been stored to its end yet, as far as there is any.",
                hint="Its stop document, which came to another process, is kept until then.",
                retry_after=PATIENCE,
                answered=True,
            )
        notes = [note for note in found.get("notes", []) if not note.startswith(PROCESS_ENDED)]
        self._metadata.set((step.run,), {"stop": step.stop, "notes": [*notes, *step.notes]})

    # -- nodes ----------------------------------------------------------------------------------

    def _node(self, node: Node, family: type[Family]) -> Family:
        stored = self._nodes.get(node.path)
        if not isinstance(stored, family):
            # One of another family was discarded before; or is found, and deleted, on creation.
            stored = self._nodes[node.path] = family(self._requests, node, self.limits)
        elif not stored.exists:
            stored.node = node
        return stored

    def _node_of(self, expected: Expected) -> StoredNode:
        found = self._nodes.get(expected.node.path)
        return found or StoredNode(self._requests, expected.node, self.limits)

    def _rebuild(self, step: Rebuild) -> None:
        for node in step.nodes:
            if node.path not in self._salvaged:
                self._salvaged[node.path] = self._read(node.path, step.rows)
        # From here on only memory holds these rows. They are kept until all of them are back in
        # Tiled, since the server may refuse their new form.
        remade = step.remake({node.name: self._salvaged[node.path] for node in step.nodes})
        self._discard([*step.nodes, *(append.node for append in remade)])
        for append in remade:
            self.execute(append)
        for node in step.nodes:
            del self._salvaged[node.path]

    def _read(self, path: NodePath, rows: int) -> Content:
        """Return the first rows of a node, the ones that its stream has stored so far."""
        stored = self._nodes[path]
        content: Content
        if isinstance(stored, TableNode | RaggedNode):
            content = stored.read()
        elif isinstance(stored, ArrayNode):
            content = stored.read(0, rows)
        else:
            raise TypeError(f"The data of {stored!r} are not kept by Tiled.")
        if len(content) < rows:
            raise stored.start_over("has lost rows")
        return content[:rows]

    def _discard(self, nodes: Sequence[Node]) -> None:
        known = {node: self._nodes[node.path] for node in nodes if node.path in self._nodes}
        for stored in known.values():
            try:
                stored.delete()
            except RequestRefused as error:
                if not error.lacks_scope:
                    raise
                self.limits.learn("deletion")
                there = [node for node, stored in known.items() if stored.is_there()]
                for node in there:  # of another one, only memory may have the rows
                    self._salvaged.pop(node.path, None)
                raise DeletionRefused(error.args[0], status=error.status, nodes=there) from error

    # -- before the end of a run ----------------------------------------------------------------

    def _check_nodes(self, step: CheckNodes) -> None:
        for expected in step.expected:
            self._node_of(expected).check_sent(expected, again=step.again)
        last_uncertain = self._last_uncertain()
        if last_uncertain > self._last_check:
            if (left := last_uncertain + self._grace - time.monotonic()) > 0:
                raise TooEarly("An unanswered request may still take effect.", retry_after=left)
            self._metadata.check()
            if self._was_taken_over:
                self._check_others(step)
            self._check(self._nodes.values(), again=step.again)
            self._last_check = self._last_uncertain()
        elif self.limits.loses_rows and not self._requests.connection.in_process:
            tables = [node for node in self._nodes.values() if isinstance(node, TableNode)]
            self._check(tables, again=step.again)

    def _check(self, nodes: Iterable[StoredNode], *, again: bool) -> None:
        wrong = []
        for node in nodes:
            try:
                node.check(again=again)
            except OutOfStep as error:  # check them all: each OutOfStep sends the whole run again
                wrong.append(error)
        if wrong:
            raise wrong[0]

    def _check_others(self, step: CheckNodes) -> None:
        """Make sure that others have not stored rows that the documents do not give."""
        ours = {expected.node.path: expected.rows for expected in step.expected}
        for node, rows in rows_held(self._requests, step.run):
            if rows > ours.get(node.path, rows):
                raise DocumentsIncomplete(
                    f"Another process has stored {rows} rows in {'/'.join(node.path)}, but the"
                    f" documents of run {step.run!r} give {ours[node.path]}.",
                    hint="Nothing of it was changed. `bluesky-tiled-writer verify` tells the"
                    " difference.",
                )

    def _last_uncertain(self) -> float:
        nodes = [node.last_uncertain for node in self._nodes.values()]
        return max(self._last_adoption, self._metadata.last_uncertain, *nodes)


def _as_json(metadata: Any) -> Any:
    """Return metadata as they come back from a server."""
    return json.loads(safe_json_dump(metadata))
