"""Runs on their way to Tiled, in the background.

::

    Router         router.py         finds the run that a document belongs to
    RunManager     run_manager.py    opens runs, waits for them, recovers them
    JobList        job_list.py       the runs of a writer, and how much they have in hand
    RunJob         run_job.py        one run between its documents and Tiled
    RunJournals    run_journals.py   the journals of runs, and the room for them
    RunLife        run_life.py       its state, and the transitions between states
    Pipeline       pipeline.py       normalizer, run writer and task executor of a run
    PipelineSlot   pipeline_slot.py  the pipeline of a run, which may be dropped and made anew
    CatchUp        catch_up.py       reads a run from its journal into a pipeline
    TaskExecutor   task_executor.py  tasks to steps, steps to the sink
    wait_stored    waiting.py        waits for the sender, each with a deadline
    OrphanSearch   recovery.py       runs whose process is gone
    Status         status.py         the status of a writer
    RunStatus      run_status.py     the status of one run
    LiveStatus     live_status.py    a status in a notebook that is kept up to date
    table_of_runs  status_html.py    the tables of a status
    WriterMonitor  status_server.py  health, status and metrics over HTTP
    Settings       settings.py       the settings of a writer, as one object
    Sender         sender.py         the thread: when to send, and what a failure means
    Workers        workers.py        calls functions at the same time
    ServerAccess   access.py         whether anything can be sent to the server
    Attempts       attempts.py       how often a failure is tried again
    Breaker        breaker.py        when a server in trouble is asked again
    new_manager    assembly.py        puts these parts together
    process        process.py        the run managers of this process, and its signals
"""

from .assembly import new_manager
from .job_list import Load
from .live_status import LiveStatus
from .pipeline import count_rows
from .process import on_signals, refuse_to_copy
from .recovery import Recovery
from .router import Router
from .run_job import RunJob
from .run_life import RunState
from .run_manager import RunManager
from .run_status import RunStatus
from .sender import Sender
from .settings import Settings
from .status import Status
from .status_server import Figure, Report, StatusServer, WriterMonitor, facts_of, figures_of

__all__ = [
    "Figure",
    "LiveStatus",
    "Load",
    "Recovery",
    "Report",
    "Router",
    "RunJob",
    "RunManager",
    "RunState",
    "RunStatus",
    "Sender",
    "Settings",
    "Status",
    "StatusServer",
    "WriterMonitor",
    "count_rows",
    "facts_of",
    "figures_of",
    "new_manager",
    "on_signals",
    "refuse_to_copy",
]
