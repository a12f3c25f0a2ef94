"""The programs in which people measure, with the writer in their start-up files.

``nox -s programs`` runs these tests: they need the extra ``programs`` and, in part, a Redis server.
"""
