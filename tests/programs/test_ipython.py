"""IPython with a profile directory: Tiled is down at the start, or at the end."""

from __future__ import annotations

import pytest

from .beamline import Beamline

pytest.importorskip("IPython", reason="needs the extra 'programs'")
pytest.importorskip("pexpect", reason="needs the extra 'programs'")

from .terminal import Terminal

SOON = 20.0
"""s: less than the end of a process waits for runs on their way, 30 s."""


def test_a_session_that_begins_before_tiled_does(beamline: Beamline) -> None:
    with Terminal(beamline) as terminal:
        assert "The profile went on to its last line." in terminal.greeting
        assert terminal.greeting.count("cannot be reached") == 1, terminal.greeting
        assert "Traceback" not in terminal.enter("early, = RE(count([det], 3))")
        assert "degraded" in terminal.enter("tw")

        beamline.server.start()
        assert "True" in terminal.enter("tw.wait_for(early, timeout=60)")
        beamline.wait_for_runs("count")

        assert "Traceback" not in terminal.enter("late, = RE(scan([det], motor, -1, 1, 5))")
        assert "Out" in terminal.enter("tw.client[late].metadata['stop']['num_events']")
        beamline.wait_for_runs("count", "scan")
        assert "Traceback" not in terminal.exit(SOON)


def test_a_session_that_ends_before_tiled_is_up(beamline: Beamline) -> None:
    with Terminal(beamline) as terminal:
        terminal.enter("RE(count([det], 3))")
        terminal.enter("RE(count_and_pause())")
        assert "paused" in terminal.enter("RE.state")
        assert "Traceback" not in terminal.exit(SOON)
    assert len(beamline.journals) == 2

    beamline.server.start()
    with Terminal(beamline) as terminal:
        stored, interrupted = beamline.wait_for_runs("count", "count_and_pause")
        terminal.exit(SOON)
    assert stored.stop is not None
    assert stored.stop["exit_status"] == "success"
    assert interrupted.stop is not None
    assert interrupted.stop["exit_status"] == "fail"
    assert interrupted.seq_nums == [1]
