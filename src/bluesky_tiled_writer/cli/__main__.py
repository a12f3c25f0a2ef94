"""Runs the command as ``python -m bluesky_tiled_writer.cli``."""

from .app import app

app()
