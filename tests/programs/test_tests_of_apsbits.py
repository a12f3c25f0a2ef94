"""The tests that apsbits brings, with our class in place of the one that it brings."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from .beamline import Beamline

PLUGIN = Path(__file__).parent / "apsbits_plugin"
TIMEOUT = 240.0
"""s: more than a process takes that ends."""

TESTS = ["test_catalog_init.py::test_use_temporary_tiled_catalog"]
"""Those that write to Tiled, ..."""
TESTS += ["test_run_engine_init.py", "test_general.py"]
"""... and those of the RunEngine."""


def test_they_have_the_same_results_with_our_class(facilities: str, beamline: Beamline) -> None:
    """And the process ends: apsbits has a server that it closes when its client is collected."""
    found = "import apsbits.tests as found; print(found.__path__[0])"
    directory = subprocess.check_output([facilities, "-c", found], text=True).strip()
    report = beamline.home / "report.xml"
    settings = beamline.home / "pytest.ini"
    settings.write_text("[pytest]\n")  # not ours, which may be found above
    options = ["-p", "both_writers", "-p", "no:cacheprovider"]
    options += [f"--config-file={settings}", f"--junit-xml={report}"]
    done = subprocess.run(
        [facilities, "-m", "pytest", *options, *(f"{directory}/{name}" for name in TESTS)],
        cwd=beamline.home,
        env=beamline.environment | {"PYTHONPATH": str(PLUGIN)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout
    results: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for case in ElementTree.parse(report).iter("testcase"):
        name, _, parameters = case.attrib["name"].rstrip("]").partition("[")
        writer, _, others = parameters.partition("-")
        results[writer][f"{name} {others}"] = [part.tag for part in case]
    assert results["ours"] == results["theirs"]
    assert "test_use_temporary_tiled_catalog " in results["ours"]
    assert not any(results["ours"].values()), "each of them has passed"
