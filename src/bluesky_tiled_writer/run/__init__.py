"""One run: turns normalized documents into tasks, and rows into steps; no I/O.

==================  =============================================================================
`run_writer`        `RunWriter`: the documents of one run, into tasks
`document_fields`   fields of documents, read so that an odd one costs little
`event_buffer`      `EventBuffer`: rows of a stream until they become tasks
`arrivals`          `Arrivals`: documents that come again, and events that did not come
`batch`             rows as they came, and the batches they are stored in
`own_values`        copies of values that a device may change
`task_queue`        `TaskQueue`: the tasks in order; here two threads meet
`stream`            `Stream`: plans the steps that store a batch
`stream_fields`     the columns of a stream, and the nodes they go to
`external`          the external keys of a stream, and what to register of their files
`steps`             what to do in Tiled, as facts; the `Sink` protocol
`settings`          `RunSettings`
`synthetic_stop`    stop documents for runs that have none
`run_index`         the run of each document, and the runs that have no stop yet
==================  =============================================================================
"""

from .arrivals import Arrivals
from .batch import Batch
from .external import ORIGINAL_URIS, ExternalKey
from .plan import Plan
from .run_index import OpenRuns, RunIndex
from .run_writer import RunSummary, RunWriter
from .settings import READY_BYTES, RunSettings
from .steps import (
    AmendStop,
    AppendRows,
    CheckHeld,
    CheckNodes,
    Claim,
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
    Sink,
    Step,
    UpdateAsset,
    UpdateMetadata,
)
from .stream import Stream
from .synthetic_stop import (
    DOCUMENTS_END,
    PROCESS_ENDED,
    WRITER_GONE,
    interrupted_stop,
    is_made,
)
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
    "ORIGINAL_URIS",
    "PROCESS_ENDED",
    "READY_BYTES",
    "WRITER_GONE",
    "AmendStop",
    "AppendRows",
    "Arrivals",
    "Batch",
    "CheckHeld",
    "CheckNodes",
    "Claim",
    "CloseNode",
    "CloseRun",
    "CorrectType",
    "CountRows",
    "CreateRun",
    "CreateStream",
    "DeclareKeys",
    "Discard",
    "ExecuteStep",
    "ExpectKey",
    "Expected",
    "ExtendArray",
    "ExtendRagged",
    "ExternalKey",
    "FinishRun",
    "Known",
    "Node",
    "OpenRuns",
    "Plan",
    "Rebuild",
    "RegisterAsset",
    "RegisterDatum",
    "RunIndex",
    "RunSettings",
    "RunSummary",
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
