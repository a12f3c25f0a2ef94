"""Processes that start in no time, as forks of one that has imported what takes seconds."""

from __future__ import annotations

import multiprocessing

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "tiled.client",
        "tiled.commandline._catalog",
        "tiled.server.app",
        "uvicorn",
        "bluesky_tiled_writer",
    ]
)
