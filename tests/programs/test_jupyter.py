"""A notebook whose first cells run before Tiled is up."""

from __future__ import annotations

from typing import Any

import pytest

from .beamline import PROFILE, Beamline

pytest.importorskip("ipykernel", reason="needs the extra 'programs'")
nbclient = pytest.importorskip("nbclient", reason="needs the extra 'programs'")
nbformat = pytest.importorskip("nbformat", reason="needs the extra 'programs'")

CELLS = [
    f"%run -i {PROFILE / 'startup' / '00-beamline.py'}",
    "(uid,) = RE(scan([det], motor, -1, 1, 5))\ntw",
    "tw.wait_for(uid, timeout=60)",
    "table = tw.client[uid]['primary']['internal/events'].read()\nlist(table['motor'])",
]


def text_of(cell: Any) -> str:
    """Return what a cell has printed, logged and returned."""
    parts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs]
    return "".join(parts)


def test_a_notebook_that_begins_before_tiled_does(beamline: Beamline) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    client = nbclient.NotebookClient(notebook, timeout=120)
    resources = {"env": beamline.environment, "cwd": str(beamline.home)}
    with client.setup_kernel(**resources):
        profile, scan, wait, table = notebook.cells
        client.execute_cell(profile, 0)
        assert "The profile went on to its last line." in text_of(profile)
        assert text_of(profile).count("cannot be reached") == 1
        client.execute_cell(scan, 1)
        assert "degraded" in text_of(scan)

        beamline.server.start()
        client.execute_cell(wait, 2)
        assert text_of(wait).endswith("True")
        client.execute_cell(table, 3)
        assert text_of(table) == "[-1.0, -0.5, 0.0, 0.5, 1.0]"
    beamline.wait_for_runs("scan")
