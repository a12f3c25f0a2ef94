"""Runs on their way to Tiled, in the background.

::

    Router         router.py         the run that a document belongs to
    RunManager     run_manager.py    opens runs, waits for them, recovers them
    RunJob         run_job.py        one run between its documents and Tiled
    Pipeline       pipeline.py       normalizer, run writer and task executor of a run
    CatchUp        catch_up.py       reads a run from its journal into a pipeline
    TaskExecutor   task_executor.py  tasks to steps, steps to the sink
    Sender         sender.py         the thread: when to send, and what a failure means
"""

from .pipeline import Settings
from .recovery import Recovery
from .router import RunDispatcher
from .run_job import RunJob
from .run_manager import RunManager
from .sender import CONNECTIONS, Sender
from .status import Status

__all__ = [
    "CONNECTIONS",
    "Recovery",
    "RunDispatcher",
    "RunJob",
    "RunManager",
    "Sender",
    "Settings",
    "Status",
]
