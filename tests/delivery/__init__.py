"""A TiledWriter against a real Tiled: what is stored when, and who waits for what."""
