"""Faults of the writer's process, of the server, and between them: each row is stored once."""

import os

LONG = os.environ.get("FAULTS") == "long"
"""True if every case is to be tried (``nox -s faults``), and not a selection."""
