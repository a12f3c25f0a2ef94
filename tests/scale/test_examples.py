"""The files in ``examples/``: what they configure takes them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml
from tiled.config import parse_configs

from bluesky_tiled_writer.cli import app

from .facility import program

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_haproxy_takes_its_configuration() -> None:
    command = [program("haproxy"), "-c", "-f", str(EXAMPLES / "haproxy.cfg")]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_tiled_takes_its_configuration() -> None:
    config = parse_configs(EXAMPLES / "tiled.yml")
    assert config.streaming_cache is not None
    assert config.streaming_cache.uri == "redis://redis:6379"


def test_the_consumers_have_the_options_that_are_given() -> None:
    """In the unit of systemd, and in the compose file, which has services for all of its parts."""
    unit = (EXAMPLES / "bluesky-tiled-writer.service").read_text()
    compose = yaml.safe_load((EXAMPLES / "compose.yml").read_text())
    assert {"postgres", "redis", "tiled-1", "tiled-2", "balancer"} <= set(compose["services"])
    command = compose["services"]["consumer-1"]["command"][-1]
    import typer

    kafka = typer.main.get_command(app).commands["consume"].commands["kafka"]  # type: ignore[attr-defined]
    known = {name for parameter in kafka.params for name in parameter.opts}
    for text in (unit.partition("ExecStart=")[2], command.partition("consume kafka")[2]):
        assert set(re.findall(r"--[a-z-]+", text)) <= known
