"""Carries out steps: runs and streams here, what holds data in nodes of their own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx
from tiled.client.base import BaseClient
from tiled.structures.core import StructureFamily
from tiled.utils import safe_json_dump

from bluesky_tiled_writer.errors import (
    DocumentsIncomplete,
    OutOfStep,
    RequestRefused,
    RunComplete,
    RunExists,
    StorageError,
    TooEarly,
)
from bluesky_tiled_writer.run import (
    AppendRows,
    CheckHeld,
    CheckNodes,
    CloseNode,
    CreateRun,
    CreateStream,
    Discard,
    ExtendArray,
    ExtendRagged,
    Known,
    Node,
    Rebuild,
    Rechunk,
    RegisterAsset,
    Step,
    UpdateAsset,
    UpdateMetadata,
    is_made,
)
from bluesky_tiled_writer.schema import Content, ServerLimits

from .arrays import ArrayNode, RaggedNode
from .files import FilesNode
from .held import rows_held
from .lead import Lead
from .metadata import MetadataUpdates
from .node import StoredNode, is_gone
from .requests import NodePath, Requests, in_process
from .tables import TableNode

GRACE = 2.0
"""Seconds in which a request that got no answer may still be carried out, before a run ends."""

FOLLOWING = (CreateRun, CreateStream, AppendRows, ExtendArray, ExtendRagged, RegisterAsset)
"""Steps that may be carried out before the streams are known to be made; see `lead`."""

Family = TypeVar("Family", bound=StoredNode)


class TiledSink:
    """Carries out steps below a container of a Tiled server.

    Steps on different nodes may be carried out at the same time.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The container that holds the runs.
    limits : ServerLimits, optional
        Takes what the server turns out not to hold.
    """

    def __init__(self, client: BaseClient, limits: ServerLimits | None = None) -> None:
        self._requests = Requests(client)
        self._metadata = MetadataUpdates(self._requests)
        self._grace = 0.0 if in_process(client) else GRACE
        self._nodes: dict[NodePath, StoredNode] = {}
        self._begun: dict[NodePath, Lead] = {}  # streams that may not be made yet
        self._made: set[str] = set()  # runs that were not there before
        self._salvaged: dict[NodePath, Content] = {}
        self._adopted: dict[str, Mapping[str, Any]] = {}  # to the metadata that were there
        self._uncertain_since = self._checked = 0.0  # see `StoredNode.uncertain_since`
        self.limits = limits or ServerLimits()

    def execute(self, step: Step) -> None:
        """Carry out one step; see `steps.Sink`."""
        if not isinstance(step, FOLLOWING):
            self.settle()
        match step:
            case AppendRows():
                self._grow(self._node(step.node, TableNode), TableNode.append, step)
            case ExtendArray():
                self._grow(self._node(step.node, ArrayNode), ArrayNode.append, step)
            case ExtendRagged():
                self._grow(self._node(step.node, RaggedNode), RaggedNode.append, step)
            case RegisterAsset():
                self._grow(self._node(step.node, FilesNode), FilesNode.register, step)
            case UpdateAsset():
                self._node(step.node, FilesNode).update(step)
            case CreateRun():
                self._create_run(step)
            case CreateStream():
                self._create_stream(step)
            case UpdateMetadata():
                self._update_metadata(step)
            case Rebuild():
                self._rebuild(step)
            case Discard():
                self._discard(step.nodes)
            case CheckHeld():
                self._check_held(step)
            case CheckNodes():
                self._check_nodes(again=step.again)
            case Rechunk():
                for node in list(self._nodes.values()):
                    if isinstance(node, ArrayNode):
                        node.rechunk()
            case CloseNode():
                self._requests.send("DELETE", "stream/close", step.path)

    def settle(self) -> None:
        """Wait for the answers to what was begun; see `steps.Sink`."""
        for path, lead in list(self._begun.items()):
            lead.settle()
            self._begun.pop(path, None)

    def healthy(self) -> bool:
        """Ask the server whether it is there."""
        return self._requests.healthy()

    # -- containers -----------------------------------------------------------------------------

    def _create_run(self, step: CreateRun) -> None:
        try:
            self._create_container((step.uid,), step)
        except RequestRefused as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            item = self._requests.item((step.uid,))
            if item is None:
                raise
            self._adopt_run(step, item["attributes"]["metadata"])
        else:
            self._made.add(step.uid)

    def _adopt_run(self, step: CreateRun, there: Mapping[str, Any]) -> None:
        """Go on with a run that Tiled holds, if it is the same one, and not at its end."""
        ours, theirs = _in_json(step.metadata["start"]), _in_json(there.get("start"))
        if ours != theirs:
            theirs = theirs if isinstance(theirs, dict) else {}
            raise RunExists(
                f"Tiled already holds another run with the uid {step.uid!r}: there, scan_id"
                f" {theirs.get('scan_id')!r} of time {theirs.get('time')!r}; here, scan_id"
                f" {ours.get('scan_id')!r} of time {ours.get('time')!r}.",
                hint="A uid stands for one run: delete the one that is there, or replay this"
                " one under another uid.",
            )
        if there.get("stop") and not is_made(there["stop"]):
            raise _complete(step.uid)
        self._adopted[step.uid] = there
        self._uncertain_since = time.monotonic()  # who made it may have been sending when it ended

    def _check_held(self, step: CheckHeld) -> None:
        if step.run not in self._adopted:
            return
        known = step.documents() if step.documents is not None else Known({})
        stop = self._adopted[step.run].get("stop")
        if stop and stop["uid"] == known.stop:
            raise _complete(step.run)
        for node, rows in rows_held(self._requests, step.run):
            ours = known.rows.get(node.stream, 0)
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
        path = (step.run, step.name)

        def create() -> None:
            try:
                self._create_container(path, step)
            except RequestRefused as error:
                if error.status != httpx.codes.CONFLICT:  # an earlier attempt, or process, made it
                    raise

        if (lag := self._requests.distance.lag) is None or step.run not in self._made:
            create()
        else:
            self._begun[path] = Lead(create, lag)

    def _create_container(self, path: NodePath, step: CreateRun | CreateStream) -> None:
        body = {
            "id": path[-1],
            "structure_family": StructureFamily.container,
            "metadata": step.metadata,
            "specs": [{"name": name, "version": version} for name, version in step.specs],
            "data_sources": [],
            "access_tags": step.access_tags,
        }
        answer = self._requests.send("POST", "metadata", path[:-1], json_body=body, about=path)
        self._requests.distance.learn(answer)

    def _update_metadata(self, step: UpdateMetadata) -> None:
        there = self._adopted.get(step.run, {})
        # On a stop that was made up.
        outdated = "stop" in step.values and "notes" in there and "notes" not in step.values
        path = tuple(part for part in (step.run, step.stream, step.node) if part is not None)
        self._metadata.set(path, step.values, remove=["notes"] if outdated else ())

    # -- nodes ----------------------------------------------------------------------------------

    def _node(self, node: Node, family: type[Family]) -> Family:
        stored = self._nodes.get(node.path)
        if not isinstance(stored, family):
            # One of another family under this name was discarded before, or is found and deleted.
            stored = self._nodes[node.path] = family(self._requests, node, self.limits)
            stored.untouched = node.run in self._made
        elif not stored.exists:
            stored.node = node
        return stored

    def _grow(self, node: Family, write: Callable[[Family, Any], None], step: Step) -> None:
        """Write to a node, if need be before its stream is known to be made."""
        if (lead := self._begun.get(node.path[:2])) is None:
            write(node, step)
            return
        node.early = lead.wait()
        try:
            write(node, step)
        except StorageError as error:
            lead.settle()  # if it failed, that is the reason
            if not (node.early and is_gone(error)):
                raise
            node.early = False
            write(node, step)
        finally:
            node.early = False
        lead.settle()

    def _rebuild(self, step: Rebuild) -> None:
        for node in step.nodes:
            if node.path not in self._salvaged:
                self._salvaged[node.path] = self._read(node.path, step.rows)
        # From here on only memory has these rows; they stay salvaged until all of them are back,
        # since the server may refuse their new form.
        remade = step.remake({node.name: self._salvaged[node.path] for node in step.nodes})
        self._discard([*step.nodes, *(append.node for append in remade)])
        for append in remade:
            self.execute(append)
        for node in step.nodes:
            del self._salvaged[node.path]

    def _discard(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if (stored := self._nodes.get(node.path)) is not None:
                stored.delete()

    def _check_nodes(self, *, again: bool) -> None:
        uncertain_since = self._last_uncertain()
        if uncertain_since <= self._checked:
            return
        if (left := uncertain_since + self._grace - time.monotonic()) > 0:
            raise TooEarly("What was sent last may still be on its way.", retry_after=left)
        self._metadata.check()
        wrong = []
        for node in self._nodes.values():
            try:
                node.check(again=again)
            except OutOfStep as error:  # all of them at once: each time takes the whole run
                wrong.append(error)
        if wrong:
            raise wrong[0]
        self._checked = self._last_uncertain()

    def _last_uncertain(self) -> float:
        nodes = [node.uncertain_since for node in self._nodes.values()]
        return max(self._uncertain_since, self._metadata.uncertain_since, *nodes)

    def _read(self, path: NodePath, rows: int) -> Content:
        """The first rows of a node, which are those that its stream has stored so far."""
        stored = self._nodes[path]
        content: Content
        if isinstance(stored, TableNode | RaggedNode):
            content = stored.read()
        elif isinstance(stored, ArrayNode):
            content = stored.read(0, rows)
        else:
            raise TypeError(f"{stored!r} is not kept by Tiled")
        if len(content) < rows:
            raise stored.start_over("has lost rows")
        return content[:rows]


def _complete(uid: str) -> RunComplete:
    return RunComplete(f"Tiled already holds run {uid!r}, from start to stop.")


def _in_json(metadata: Any) -> Any:
    """Metadata as they come back from a server."""
    return json.loads(safe_json_dump(metadata))
