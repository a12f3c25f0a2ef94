"""A table in a notebook that is kept up to date while a scan runs."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from servers import wait_until

from .beamline import PROFILE, Beamline

pytest.importorskip("ipykernel", reason="needs the extra 'programs'")
nbclient = pytest.importorskip("nbclient", reason="needs the extra 'programs'")
nbformat = pytest.importorskip("nbformat", reason="needs the extra 'programs'")

WAITS = ">the server</td>"
"""What a table has of a run that waits for the server."""

CELLS = [
    f"%run -i {PROFILE / 'startup' / '00-beamline.py'}",
    # The table begins before the run does; Tiled is up when the file is there.
    """\
from pathlib import Path
live = tw.status.watch(every=0.05)
(uid,) = RE(scan([det], motor, -1, 1, 5))
Path("scanned").touch()
tw.wait_for(uid, timeout=60)
live.stop()
print(uid)""",
    """\
import gc, threading, weakref
def threads():
    names = [t.name for t in threading.enumerate()]
    return sum(name == "bluesky-tiled-writer-status" for name in names)
def end_of(live):
    live._thread.join(30)
    return live.is_live, threads()
first = tw.status.watch(every=0.05)
second = tw.status.watch(every=0.05)
print(first.is_live, second.is_live, threads())
tw.close()
print(end_of(second))""",
    """\
from bluesky_tiled_writer import TiledWriter
other = TiledWriter(tw.client)
gone, live = weakref.ref(other), other.status.watch(every=0.05)
del other
gc.collect()
print(gone(), end_of(live))""",
    "live",
]


class Notebook(nbclient.NotebookClient):  # type: ignore[misc]
    """Keeps all that was displayed, not only what is there in the end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.displayed: list[str] = []

    def process_message(self, msg: Any, *args: Any) -> Any:
        if msg["header"]["msg_type"] in ("display_data", "update_display_data"):
            self.displayed.append(msg["content"]["data"]["text/html"])
        return super().process_message(msg, *args)


def printed(cell: Any) -> str:
    """Return what a cell has printed."""
    return "".join(out.text for out in cell.outputs if out.get("name") == "stdout").strip()


def shown(cell: Any) -> list[str]:
    """Return the tables in the output of a cell."""
    return [out.data["text/html"] for out in cell.outputs if out.output_type == "display_data"]


def test_a_table_follows_a_scan_whose_server_comes_up_late(beamline: Beamline) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    client = Notebook(notebook, timeout=120)
    resources = {"env": beamline.environment, "cwd": str(beamline.home)}
    profile, scan, twice, dropped, result = notebook.cells

    def bring_tiled_up() -> None:
        wait_until((beamline.home / "scanned").exists, "the scan did not end")
        wait_until(lambda: any(WAITS in t for t in client.displayed), "no table has it")
        beamline.server.start()

    with client.setup_kernel(**resources):
        client.execute_cell(profile, 0)
        thread = threading.Thread(target=bring_tiled_up)
        thread.start()
        client.execute_cell(scan, 1)
        thread.join()
        uid = printed(scan)
        waiting = [html for html in client.displayed if WAITS in html]
        assert f"/ui/browse/{uid}' target='_blank'>{uid[:8]}</a>" in waiting[-1]
        assert ">scan</td>" in waiting[-1]
        assert ">primary 5</td>" in waiting[-1]
        (table,) = shown(scan)  # one, which was changed again and again
        assert len(client.displayed) > 3
        assert uid[:8] not in table
        assert ">5 rows</td>" in table

        client.execute_cell(twice, 2)
        assert printed(twice).splitlines() == ["False True 1", "(False, 0)"]
        assert "is closed" in shown(twice)[-1]

        client.execute_cell(dropped, 3)
        assert printed(dropped) == "None (False, 0)"
        client.execute_cell(result, 4)
        assert result.outputs == []
    beamline.wait_for_runs("scan")
