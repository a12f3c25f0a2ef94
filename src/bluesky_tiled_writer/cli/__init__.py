"""The command `bluesky-tiled-writer`: replay saved documents, compare, and look after journals."""

from .app import app

__all__ = ["app"]
