"""``python -m bluesky_tiled_writer``: the same as the command ``bluesky-tiled-writer``."""

from bluesky_tiled_writer.cli import app

if __name__ == "__main__":
    app()
