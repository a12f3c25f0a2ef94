"""Tests of the room `schema`, module by module: without a server, a thread or a file."""
