"""One run: from normalized documents to tasks and steps, without I/O.

::

    RunWriter     run_writer.py    documents to tasks; one for each run
    EventBuffer   event_buffer.py  rows of a stream that wait to be stored (batch.py)
    TaskQueue     task_queue.py    what is to be done, in order: where the two threads meet
    Stream        stream.py        plans the steps that store rows (external.py: files)
    steps         steps.py         what is to be done in Tiled, as facts; the `Sink` protocol
"""

from .batch import Batch
from .external import ExternalKey
from .run_writer import READY_BYTES, RunWriter
from .steps import (
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
    Sink,
    Step,
    UpdateAsset,
    UpdateMetadata,
)
from .stream import Stream
from .synthetic_stop import DOCUMENTS_END, PROCESS_ENDED, interrupted_stop, is_made
from .task_queue import (
    CloseRun,
    DeclareKeys,
    ExecuteStep,
    ExpectKey,
    FinishRun,
    RegisterDatum,
    StoreRows,
    Task,
    TaskQueue,
)

__all__ = [
    "DOCUMENTS_END",
    "PROCESS_ENDED",
    "READY_BYTES",
    "AppendRows",
    "Batch",
    "CheckHeld",
    "CheckNodes",
    "CloseNode",
    "CloseRun",
    "CreateRun",
    "CreateStream",
    "DeclareKeys",
    "Discard",
    "ExecuteStep",
    "ExpectKey",
    "ExtendArray",
    "ExtendRagged",
    "ExternalKey",
    "FinishRun",
    "Known",
    "Node",
    "Rebuild",
    "Rechunk",
    "RegisterAsset",
    "RegisterDatum",
    "RunWriter",
    "Sink",
    "Step",
    "StoreRows",
    "Stream",
    "Task",
    "TaskQueue",
    "UpdateAsset",
    "UpdateMetadata",
    "interrupted_stop",
    "is_made",
]
