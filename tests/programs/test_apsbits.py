"""APS BITS: an instrument that its command makes, started while Tiled is up, or down."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .beamline import Beamline

pytest.importorskip("pexpect", reason="needs the extra 'programs'")

from .terminal import Terminal

PROFILE = "beamline"
TIMEOUT = 60.0
"""s: more than it takes to make an instrument, or to end a session."""

IN_STARTUP = {
    "from apsbits.core.run_engine_init import init_RE\n": (
        "from apsbits.core.run_engine_init import init_RE\n"
        "from bluesky_tiled_writer import TiledWriter\n"
    ),
    "RE, sd = init_RE(iconfig, subscribers=[bec, cat])\n": (
        'tw = TiledWriter.from_profile(iconfig["TILED_PROFILE_NAME"])\n'
        "RE, sd = init_RE(iconfig, subscribers=[bec, tw])\n"
    ),
}
"""What the how-to changes in ``startup.py``, by lines of the template."""

IN_CONFIGURATION = {"#TILED_PROFILE_NAME: raw\n": f"TILED_PROFILE_NAME: {PROFILE}\n"}


@pytest.fixture
def instrument(facilities: str, beamline: Beamline) -> None:
    """A package in ``src`` of the home: the template, with the lines of the how-to."""
    beamline.write_profile(PROFILE)
    (beamline.home / "scripts").mkdir()
    command = Path(facilities).parent / "bits-create"
    subprocess.run([command, "instrument"], cwd=beamline.home, check=True, timeout=TIMEOUT)
    package = beamline.home / "src" / "instrument"
    change(package / "startup.py", IN_STARTUP)
    change(package / "configs" / "iconfig.yml", IN_CONFIGURATION)


def change(file: Path, changes: dict[str, str]) -> None:
    text = file.read_text()
    for before, after in changes.items():
        assert text.count(before) == 1, f"{file.name} has not once: {before}"
        text = text.replace(before, after)
    file.write_text(text)


def start(terminal: Terminal) -> str:
    """Do what a person does in a new session, and return what that prints."""
    terminal.enter("import sys; sys.path.insert(0, 'src')")
    printed = terminal.enter("from instrument.startup import *")
    assert "Traceback" not in printed, printed
    return printed


@pytest.mark.usefixtures("instrument")
def test_scans_of_an_instrument_are_read_in_its_catalog(
    facilities: str, beamline: Beamline
) -> None:
    beamline.server.start()
    with Terminal(beamline, None, facilities) as terminal:
        start(terminal)
        assert "Traceback" not in terminal.enter("counted, = RE(sim_count_plan(num=3))")
        assert "Traceback" not in terminal.enter("scanned, = RE(sim_rel_scan_plan(num=11))")
        assert ": 11" in terminal.enter("len(cat[scanned].primary.read()['motor'])")
        assert "'commissioning'" in terminal.enter("cat[counted].start['proposal_id']")
        assert "{'primary': 3}" in terminal.enter("cat[counted].stop['num_events']")
        assert "Traceback" not in terminal.exit(TIMEOUT)
    beamline.wait_for_runs("count", "rel_scan")


@pytest.mark.usefixtures("instrument")
def test_an_instrument_that_is_started_before_tiled_is(facilities: str, beamline: Beamline) -> None:
    with Terminal(beamline, None, facilities) as terminal:
        start(terminal)
        assert "BlueskyMsgpackCatalog" in terminal.enter("type(cat)")  # its own way out
        assert "Traceback" not in terminal.enter("early, = RE(sim_count_plan(num=3))")
        assert "degraded" in terminal.enter("tw")

        beamline.server.start()
        assert "True" in terminal.enter("tw.wait_for(early, timeout=60)")
        assert ": 3" in terminal.enter("len(tw.client[early].primary.read()['noisy_det'])")
        assert "Traceback" not in terminal.exit(TIMEOUT)
    beamline.wait_for_runs("count")
