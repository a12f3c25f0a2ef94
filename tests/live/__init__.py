"""Readers that see a run while it grows: subscriptions, polling, files, Tiled's web page."""
