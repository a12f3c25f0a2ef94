"""Does Tiled hold what was measured: compare a stored run with documents and files."""

from .readback import RunInTiled, reading
from .validation import log_problems
from .verify import stored_start, verify

__all__ = ["RunInTiled", "log_problems", "reading", "stored_start", "verify"]
