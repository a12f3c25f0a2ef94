"""Whatever happens between a writer and its server, or to either: each row is stored once."""

import os

LONG = os.environ.get("FAULTS") == "long"
"""Whether there is time for every case (``nox -s faults``), or for a selection."""
