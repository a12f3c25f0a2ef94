"""A plugin of pytest for apsbits' own tests: each with the class that it brings, and with ours."""

import bluesky_tiled_plugins
import pytest

import bluesky_tiled_writer

WRITERS = {
    "theirs": bluesky_tiled_plugins.TiledWriter,
    "ours": bluesky_tiled_writer.TiledWriter,
}


@pytest.fixture(autouse=True, params=WRITERS)
def writer(request, monkeypatch):
    from apsbits.core import run_engine_init

    for module in (bluesky_tiled_plugins, run_engine_init):
        monkeypatch.setattr(module, "TiledWriter", WRITERS[request.param])
